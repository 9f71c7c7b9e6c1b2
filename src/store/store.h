// The second tier behind the zone: one small interface, three implementations (memcached, LMDB, and
// a fake for tests), one contract test over all of them. A store is used from a thread of nginx's
// pool: it may block up to its own deadline, and touches nothing but the batch it was given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "core/feed_note.h"
#include "core/store_entry.h"
#include "store/bytes_box.h"

namespace sg {

enum class StoreVerb : std::uint8_t {
    get,     // the session or its tombstone, last activity merged in
    create,  // a new session: written only where nothing is
    change,  // put-if-newer: written where an older state of the session, or nothing, is
    end,     // writes the tombstone: absorbing
    touch,   // last activity; update-only, never backwards
};

// One operation of a batch, question and answer. It owns its bytes.
struct StoreOp {
    StoreVerb verb = StoreVerb::get;
    std::uint8_t key_id = 0;  // of the token: under which key the entry is sealed
    StoreKey key{};
    Handle handle{};  // of the session: what the feed tells other nodes
    TimeMs sent = 0;  // when its batch set out, for whoever hears the answer

    // What to write (create, change: kind session; end: kind ended; touch: kind activity). Its
    // record points into `bytes`.
    StoreEntry entry;
    BytesBox bytes;

    // The answer.
    //   get     found: `seen` is the entry (kind session or ended) · absent: the store is certain
    //   create  found: the store holds it now (a repeated create of the same state too); or
    //           something else is there, left as it is: `lost`, and `seen` is that
    //   change  found: the store holds this version; or a winning one: `lost`, and `seen` is that
    //   end     found: the tombstone is there; `successor` when it went over a replaced handle,
    //           which the caller did not know of: what it was replaced with lives on
    //   touch   found: last seen is at least this · absent: no live session there, nothing written
    //   unknown, for all: an error, a timeout, a closed breaker, a damaged value: not known. A
    //           write may have happened or not; repeating it is harmless.
    StoreAnswer answer = StoreAnswer::unknown;
    bool lost = false;
    std::optional<Handle> successor;
    StoreEntry seen;
    BytesBox seen_bytes;  // seen.record points into it
};

// The feed: what ends, and what is changed, is told to the other nodes, so that they need not ask
// about every session again and again. An answer `found` to an end or a change that was written
// means that it is in the feed, or that the feed shows a gap: who follows it without a gap has
// heard of everything that was acknowledged. It is a hint only: entries decide.
//
// An unknown `what` (of a newer module) is a gap.

// How far a node has followed the feed of one server. All zero: not at all.
struct FeedPlace {
    std::uint64_t epoch = 0;
    std::uint64_t next = 0;
    std::uint64_t chain = 0;  // of the slot before (core/feed_note.h)
};

// What an operation that was answered is told as; nullopt: it is nobody else's concern.
// What an end is about to go over.
inline void note_successor(StoreOp& op, const StoreEntry& old) noexcept {
    if (old.kind == EntryKind::session && old.superseded_until != 0) {
        op.successor = old.successor;
    }
}

inline std::optional<FeedNote> feed_note_of(const StoreOp& op) noexcept {
    const bool concerns = op.verb == StoreVerb::end || op.verb == StoreVerb::change;
    if (!concerns || op.answer != StoreAnswer::found || op.lost) {
        return std::nullopt;
    }
    const bool ended = op.verb == StoreVerb::end;
    return FeedNote{.what = ended ? FeedWhat::ended : FeedWhat::changed, .handle = op.handle};
}

enum class FeedHeard : std::uint8_t {
    unknown,  // some server did not answer (or there is no feed); what others said counts
    gap,      // something was missed: the places are at the present now
    whole,    // everything from the places on to the moment when this was asked
    more,     // the same, but `notes` was too small for the rest: ask again
};

// Counted by the store, read by anybody in any thread (relaxed atomics live in StoreHealth).
enum class StoreFault : std::uint8_t {
    unreachable,   // connect or write failed
    timed_out,     //
    protocol,      // an answer that is none
    newer_layout,  // entry of a newer module
    bad_seal,      // does not open, or does not decode
    wrong_key,     // a mixed-up reply
    breaker_open,  // not even asked
    full,          // the store has no room
    count_,
};

// In shared memory: one per realm, all workers and threads. Defined in store/health.h.
struct StoreHealth;

// One connection: used by one thread at a time. Implementations are made by the functions in
// lmdb_store.h; destroying one closes what it opened.
class Store {
  public:
    virtual ~Store() = default;

    // Answers every operation of the batch. `now`: wall clock, ms. Two operations on one key in one
    // batch are carried out in order. Never throws; takes no longer than its configured timeouts
    // allow, however many operations fail.
    virtual void run(std::span<StoreOp> batch, TimeMs now) noexcept = 0;

    // Follows the feeds of all servers from `places` (one for each, in the configuration's order;
    // at least kMaxServers) and advances these. `count` notes are written to `notes`.
    virtual FeedHeard listen(std::span<FeedPlace> places, std::span<FeedNote> notes,
                             std::size_t& count, TimeMs now) noexcept {
        (void)places;
        (void)notes;
        (void)now;
        count = 0;
        return FeedHeard::unknown;
    }

    // Housekeeping, about once a minute by one worker of the node: removes at most `limit` expired
    // entries, where the store does not by itself. Returns how many.
    virtual std::size_t tidy(std::size_t limit, TimeMs now) noexcept {
        (void)limit;
        (void)now;
        return 0;
    }
};

}  // namespace sg
