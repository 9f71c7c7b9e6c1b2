// Between the zone and a store: what goes into a store's entry, and what a store's answer means for
// the zone. See docs/stores.md.
#pragma once

#include "core/feed_note.h"
#include "core/realm.h"
#include "core/store_entry.h"
#include "core/verdict.h"

namespace sg {

// The entry for a session as the zone has it. `record` must outlive it. nullopt when the record
// cannot be read.
std::optional<StoreEntry> session_entry(const Realm& realm, const SessionView& view,
                                        ByteView record) noexcept;

// The entry that keeps an ended session ended, until `until`.
StoreEntry ended_entry(Departure why, TimeMs until) noexcept;

// The store has acknowledged this entry: from now on the zone may do without its copy.
void note_held(const Realm& realm, const StoreEntry& entry) noexcept;

enum class Learned : std::uint8_t {
    known,    // the zone has it, confirmed now: decide by the zone
    no_room,  // it is good, but the zone is full: decide by the entry (resume)
    gone,     // ended, replaced, or there is no such session: `status` names it
    unknown,  // nobody knows: session_on_store_error decides
};

struct Lesson {
    Learned learned = Learned::unknown;
    Status status = Status::store_unavailable;  // with gone
    bool in_store = false;                      // with known: the store has it, too
};

// What the store has said.
struct Reply {
    StoreAnswer answer = StoreAnswer::unknown;
    const StoreEntry& entry;  // counts when found
    TimeMs sent = 0;          // when the question set out: that old is the answer
};

// Brings the zone up to what the store says about the session of this genuine token (of a successor
// that a sealed entry names: of its handle). What was ended here stays
// ended; what is newer here than there, and what lives here and is not there at all, goes to the
// journal again. `work` is scratch of kLargestRecordBytes (lifecycle.h).
Lesson learn(const Realm& realm, const Token& token, const Reply& reply, TimeMs now,
             ByteSpan work) noexcept;

// Whether what this node has of the session was certain at that moment: confirmed shortly before,
// or vouched for by the feed until then.
bool was_certain(const Realm& realm, const SessionView& view, TimeMs then) noexcept;

// Another node has ended or changed this session: what is here must be confirmed anew. While nobody
// can be asked, a changed one goes on as after `revalidate`, an ended one does not.
void hear_of(const Realm& realm, const FeedNote& note, TimeMs now) noexcept;

}  // namespace sg
