// THE FLOW: the cookies of a request in, one verdict out. `begin` decides from the zone alone, or
// says that the store must be asked; `resume` takes the store's answer. Values in, values out: no
// clock, no randomness, no allocation, no lock on the way of a known session.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "core/bytes.h"
#include "core/realm.h"
#include "core/record.h"
#include "core/rotation.h"
#include "core/store_entry.h"
#include "core/token.h"
#include "core/verdict.h"
#include "core/zone/table.h"

namespace sg {

// At most this many cookies of the realm's name are looked at; browsers send one, an attacker on a
// sibling host can add more.
inline constexpr std::size_t kMaxCandidates = 4;

// How often a handle may have been regenerated within the window of 10 s before the oldest is
// refused.
inline constexpr int kMaxSuccessors = 4;

// How long the old handle of a regenerated session still passes (restricted).
inline constexpr TimeMs kRegenerationWindow = 10 * kSecond;

struct Candidates {
    std::array<std::string_view, kMaxCandidates> values{};  // raw cookie values, in request order
    std::size_t count = 0;
};

// A session that passed. Views of `record` point into the buffer given to begin/resume.
struct Session {
    SessionView slot;
    Record record;
    Ages ages;
    Timeouts timeouts;
    // The handle has been regenerated a moment ago: the request passes with the roles both sessions
    // have and the lower level, but does not count as activity, gets no cookie and may not command.
    bool restricted = false;
    // What the token's secret is to the session: current, next (call note_seen) or previous.
    Holding holding = Holding::current;
    std::uint32_t generation = 0;  // of that secret
};

struct Outcome {
    enum class Step : std::uint8_t {
        decided,
        needs_store,      // ask the store about `token`; `status` is what the zone alone would say
        needs_successor,  // ask it about session.slot.successor, of which only the handle is known
        needs_buffer,     // call begin again with at least `needed_bytes`
    };
    Step step = Step::decided;
    Status status = Status::none;
    bool reused = false;  // with ended: its secret was rotated away long ago, somebody has a copy
    Session session;      // filled when status is valid
    Token token;          // the candidate the decision is about, when it parsed
    std::size_t needed_bytes = 0;
};

// Decides about the candidates of one request. `buffer` receives the record; kTypicalRecordBytes
// suffice for most sessions.
inline constexpr std::size_t kTypicalRecordBytes = 192;
void begin(const Realm& realm, const Candidates& candidates, TimeMs now, ByteSpan buffer,
           Outcome& outcome) noexcept;
Outcome begin(const Realm& realm, const Candidates& candidates, TimeMs now,
              ByteSpan buffer) noexcept;

// Decides anew about a credential that has passed before: whether a request that lasts may go on.
// That its secret was rotated away meanwhile is no matter. Looks only; nothing counts as activity.
void review(const Realm& realm, const Token& token, TimeMs now, ByteSpan buffer,
            Outcome& outcome) noexcept;

// Decides about a genuine token from the store's copy alone, where the zone has no room for it.
// `record` is the entry's, and must outlive the outcome. What the store said has been through
// second_tier.h's `learn`.
Outcome resume(const Realm& realm, const Token& token, const StoreEntry& entry, ByteView record,
               TimeMs now) noexcept;

// What a session that left is refused as.
Status status_of(Departure why) noexcept;

}  // namespace sg
