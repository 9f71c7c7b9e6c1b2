// The zone's hash table: live sessions by handle, in one span of shared memory, indices instead of
// pointers. Readers take no lock; writers hold their shard's robust mutex (LockedShard).
//
// Concurrency contract
//   find, touch, find_tombstone   any process, any time, no lock, no system call, no allocation.
//   everything that takes a LockedShard&   only while that guard lives. Never hold two guards:
//                 only a move does, the older table's first.
//   format   once, by the process that creates the zone, before any other process attaches.
// A Table is a cheap view (pointers into the span); it owns nothing and is trivially copyable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>

#include "core/bytes.h"
#include "core/time_ms.h"
#include "core/token.h"

namespace sg {

struct TableHeader;  // zone/layout.h
struct ShardView;    // zone/layout.h
class LockedShard;   // zone/shard_lock.h

// Why a handle that is no longer in the table left it. Kept in tombstones.
enum class Departure : std::uint8_t {
    ended = 1,        // logout, destroy
    regenerated = 2,  // replaced by a new handle
    expired_idle = 3,
    expired_absolute = 4,
};

enum class FindResult : std::uint8_t {
    found,
    absent,     // certain: the bucket did not change during the walk
    busy,       // a writer was in the way for about 100 tries: lock the shard, ask again
    too_small,  // `record` was smaller than the record: all of the view is filled, record_size
                // included, and of the record the first 184 bytes, if they fit
};

// Names one incarnation of one cell. A touch through a stale SlotRef does nothing.
struct SlotRef {
    std::uint32_t shard = 0;
    std::uint32_t index = 0;       // 1-based; 0 names nothing
    std::uint32_t generation = 0;  // 22 bits used
};

// A consistent copy of one session. `superseded_until` 0: live. Otherwise the session has been
// regenerated: `successor` names the new handle, and the old token passes (restricted) until then.
struct SessionView {
    Token token;
    SlotRef slot;
    TimeMs last_seen = 0;
    TimeMs confirmed = 0;  // when the second tier last agreed; 0: never (or superseded)
    TimeMs superseded_until = 0;
    Handle successor{};
    std::size_t record_size = 0;
};

enum class InsertResult : std::uint8_t { inserted, exists, full, too_large };

// What the sweep needs to know of a realm's times to recognise an expired session, in ms.
// idle 0: no idle timeout. Per-session limits inside the record can only shorten these.
struct SweepLimits {
    TimeMs idle = 0;
    TimeMs absolute = 0;
    bool evict = false;  // there is a second tier: a full shard may also give up what that holds,
                         // and what is idle here leaves no note
};

struct TableStats {
    std::uint64_t live = 0;  // live and superseded sessions
    std::uint64_t rosters = 0;
    std::uint64_t cells_used = 0;
    std::uint64_t cells_total = 0;
    std::uint64_t repairs = 0;  // shards repaired after a killed writer
};

class Table {
  public:
    static constexpr std::size_t kMasterKeyBytes = 32;
    static constexpr std::size_t kHashKeyBytes = 16;
    static constexpr std::size_t kMaxRecordBytes = 64 * 1024;

    // Smallest span `format` accepts (one shard, a handful of sessions).
    static std::size_t minimum_bytes() noexcept;

    // Lays out an empty table over `memory` (64-byte aligned at least; page aligned in a zone).
    // `hash_key` randomises bucket placement, `master_key` is the key used when the realm has no
    // key file. nullopt when the span is too small or not aligned. The mutexes are initialised
    // here.
    static std::optional<Table> format(
        std::span<std::byte> memory, std::span<const std::uint8_t, kHashKeyBytes> hash_key,
        std::span<const std::uint8_t, kMasterKeyBytes> master_key) noexcept;

    // Views a table that `format` laid out, in this or another process. nullopt when magic, layout
    // version or geometry do not fit the span.
    static std::optional<Table> attach(std::span<std::byte> memory) noexcept;

    std::span<std::byte> memory() const noexcept;

    std::span<const std::uint8_t, kMasterKeyBytes> master_key() const noexcept;

    // Looks a handle up. On `found`, `view` is filled and the first view.record_size bytes of
    // `record` hold the record. The result is a consistent snapshot.
    FindResult find(const Handle& handle, SessionView& view, ByteSpan record) const noexcept;

    // The same under the shard's lock: never `busy`.
    FindResult find_locked(LockedShard& shard, const Handle& handle, SessionView& view,
                           ByteSpan record) const noexcept;

    // This handle will be asked about soon: what is read for it first is fetched meanwhile.
    void fetch_ahead(const Handle& handle) const noexcept;

    // Advances last seen to `now`, by compare-and-swap, never backwards and only by a second or
    // more; does nothing (false) when the slot belongs to another generation by now. Lock-free.
    bool touch(SlotRef slot, TimeMs now) const noexcept;

    // Why this handle left, if a tombstone is still known. Lock-free.
    std::optional<Departure> find_tombstone(const Handle& handle, TimeMs now) const noexcept;

    // Locks the shard this handle belongs to; repairs it first when its last writer was killed.
    LockedShard lock(const Handle& handle) const noexcept;
    ShardView shard_of(const Handle& handle) const noexcept;

    // Adds a session. Where cells are short, expired sessions of the shard are reclaimed first (at
    // most one pass over its cells, about half a millisecond); then `full`.
    InsertResult insert(LockedShard& shard, const Token& token, ByteView record, TimeMs last_seen,
                        const SweepLimits& limits, TimeMs now) const noexcept;

    // Replaces the token (same handle) and the record of a live session, last seen kept, as one
    // step for readers and for a crash: old or new, never a mixture. nullopt when it is not live.
    std::optional<InsertResult> replace(LockedShard& shard, const Token& token, ByteView record,
                                        const SweepLimits& limits, TimeMs now) const noexcept;

    // Notes that the second tier agreed with this copy at this time. False when it is not live.
    bool confirm(LockedShard& shard, const Handle& handle, TimeMs at) const noexcept;

    // Notes that the second tier holds this state of the live session (change_counter of the
    // record). Only such sessions may be evicted. False when it has changed since.
    bool hold(LockedShard& shard, const Handle& handle,
              std::uint32_t change_counter) const noexcept;

    // The opposite: it is about to change and must not be evicted meanwhile.
    void unhold(LockedShard& shard, const Handle& handle) const noexcept;

    // Marks a live session as regenerated (see SessionView). False when it is not live.
    bool supersede(LockedShard& shard, const Handle& handle, const Handle& successor,
                   TimeMs until) const noexcept;

    // Removes a session and leaves a tombstone until `tombstone_until`. False when it was not there
    // (the tombstone is written all the same: ended stays ended).
    bool remove(LockedShard& shard, const Handle& handle, Departure why,
                TimeMs tombstone_until) const noexcept;

    // Removes expired and outlived superseded sessions among `cells` cells of this shard, from
    // where the last sweep stopped. A superseded one is outlived an hour after its time: a late
    // logout must still find its successor through it. Returns how many sessions were removed.
    std::size_t sweep_shard(LockedShard& shard, const SweepLimits& limits, TimeMs now,
                            std::size_t cells) const noexcept;
    std::size_t shard_count() const noexcept;
    std::size_t cells_per_shard() const noexcept;
    LockedShard lock_shard(std::size_t number) const noexcept;

    // Handover to a table of another size: see core/handover.h.
    //
    // Whether there is a note that the session was ended here, by a logout. Lock-free.
    bool has_ended(const Handle& handle) const noexcept;

    // Whether this table decides about the handle: it has the session, or such a note.
    bool knows(LockedShard& shard, const Handle& handle) const noexcept;

    // Whether a new session may still be put here, beside younger tables: it is open and not nearly
    // full. What is there already keeps room to be changed in.
    bool takes_in(LockedShard& shard, std::size_t record_size) const noexcept;

    // No session comes in any more from now on: its workers are gone. (A writer that holds a shard
    // may still finish; whoever locks it afterwards knows.)
    void close() const noexcept;
    bool is_closed() const noexcept;

    // For a closed table without sessions.
    void retire() const noexcept;
    bool is_retired() const noexcept;

    // Set while there are older tables beside this one.
    void set_handover(bool on) const noexcept;
    bool is_in_handover() const noexcept;

    // Moves the sessions in `count` cells behind `first` of a shard into the first of the younger
    // tables (next one first) that has room. Returns how many were moved. At no time a session is
    // in none of the tables; killed in between, one may be in two: the older decides, and the move
    // is made again.
    std::size_t move_cells(std::size_t number, std::size_t first, std::size_t count,
                           std::span<const Table> younger) const noexcept;

    // Copies the shard's tombstones to another table. What was ended ends there.
    void copy_tombstones(std::size_t number, const Table& to, TimeMs now) const noexcept;

    // The part of a shard that may be given back to the system when the table has retired: zeros
    // there read as an empty shard, by late readers and under the lock.
    std::span<std::byte> contents(std::size_t number) const noexcept;

    // A round through the table, a few cells at a time and without a lock, while others write: what
    // is there all the while is met once or twice, what comes or goes may be. Each call looks at so
    // many cells (sets of tombstones) at most, and at no more than `out` has room for; the round is
    // over when cursor.shard has come to shard_count().
    struct Cursor {
        std::uint32_t shard = 0;
        std::uint32_t index = 0;
    };
    struct Ended {
        Handle handle{};
        Departure why = Departure::ended;
        TimeMs until = 0;
    };
    std::size_t walk_sessions(Cursor& cursor, std::size_t cells,
                              std::span<Handle> out) const noexcept;
    std::size_t walk_ended(Cursor& cursor, std::size_t sets, TimeMs now,
                           std::span<Ended> out) const noexcept;

    TableStats stats() const noexcept;

    // Upper bound of bytes a session with this record size takes, its share of buckets and
    // tombstones included. For messages ("zone needs at least ...") and the documentation.
    static std::size_t bytes_per_session(std::size_t record_size) noexcept;

  private:
    explicit Table(TableHeader* header) noexcept : header_(header) {}
    TableHeader* header_;
};

static_assert(std::is_trivially_copyable_v<Table>);

}  // namespace sg
