// The writing half of the table. Every function runs with its shard locked; the order of the steps
// is what makes it safe to be killed after any store: see each function and cells.cc.
#include <algorithm>

#include "core/lifetime.h"
#include "core/zone/cells.h"
#include "core/zone/shard_lock.h"
#include "core/zone/table.h"
#include "core/zone/tombstones.h"

namespace sg {
namespace {

constexpr TimeMs kTombstoneSlack = 5 * kMinute;

// A superseded session names its successor to responses that were under way when it was replaced: a
// late logout or demotion must still find it. Kept this long while there is room.
constexpr TimeMs kSupersededKept = kHour;

// How many cells an eviction looks at: near enough to the least recently active of all, and cheap.
constexpr std::size_t kEvictSample = 256;

TimeMs last_seen_of(const Cell& cell) noexcept {
    return static_cast<TimeMs>(cell.activity.load() & kTimeMask);
}

std::optional<Departure> outlived(const Cell& cell, const SweepLimits& limits, TimeMs now,
                                  TimeMs superseded_kept) noexcept {
    const CellState state = state_of(cell);
    if (state == CellState::superseded) {
        const auto until = time_of_stamp(cell.stamp.load());
        return now >= until + superseded_kept ? std::optional(Departure::regenerated)
                                              : std::nullopt;
    }
    if (state != CellState::live) {
        return std::nullopt;
    }
    const std::uint64_t own = cell.record[kRecordLimitsWord].load();
    const Timeouts timeouts =
        effective_timeouts({.idle = is_roster(cell) ? 0 : limits.idle, .absolute = limits.absolute},
                           static_cast<std::uint32_t>(own), static_cast<std::uint32_t>(own >> 32));
    const Ages ages{.created = static_cast<TimeMs>(cell.record[kRecordCreatedWord].load()),
                    .last_seen = last_seen_of(cell)};
    switch (check_expiry(ages, timeouts, now)) {
        case Expiry::idle:
            return Departure::expired_idle;
        case Expiry::absolute:
            return Departure::expired_absolute;
        case Expiry::alive:
            break;
    }
    return std::nullopt;
}

HandleWords handle_words(const Cell& cell) noexcept {
    return {cell.handle[0].load(), cell.handle[1].load()};
}

std::size_t sweep(const ShardView& shard, const SweepLimits& limits, TimeMs now, std::size_t cells,
                  TimeMs superseded_kept) noexcept {
    std::size_t removed = 0;
    std::uint32_t index = shard.shard->sweep_cursor.load();
    for (std::size_t i = 0; i < std::min<std::size_t>(cells, shard.header->cells); ++i) {
        index = index < shard.header->cells ? index + 1 : 1;
        Cell& cell = shard.cell(index);
        const auto why = outlived(cell, limits, now, superseded_kept);
        if (!why) {
            continue;
        }
        const HandleWords words = handle_words(cell);
        const std::uint64_t hash = hash_of(*shard.header, words);
        // Idle here may be active elsewhere: then it only leaves, and the second tier is asked.
        if (!limits.evict || *why != Departure::expired_idle) {
            write_tombstone(shard, words, hash, *why, now + limits.absolute + kTombstoneSlack);
        }
        end_cell(shard, bucket_of(shard, hash), cell);
        ++removed;
    }
    shard.shard->sweep_cursor.store(index);
    return removed;
}

// The least recently active of the sessions near the cursor that the second tier holds: it comes
// back from there when it is asked for. No tombstone: it has not ended. False: none.
bool evict_one(const ShardView& shard) noexcept {
    Cell* idlest = nullptr;
    std::uint32_t index = shard.shard->sweep_cursor.load();
    for (std::size_t i = 0; i < std::min<std::size_t>(kEvictSample, shard.header->cells); ++i) {
        index = index < shard.header->cells ? index + 1 : 1;
        Cell& cell = shard.cell(index);
        const bool may_go = state_of(cell) == CellState::live && is_held(cell.stamp.load());
        if (may_go && (idlest == nullptr || last_seen_of(cell) < last_seen_of(*idlest))) {
            idlest = &cell;
        }
    }
    shard.shard->sweep_cursor.store(index);
    if (idlest == nullptr) {
        return false;
    }
    end_cell(shard, bucket_of(shard, hash_of(*shard.header, handle_words(*idlest))), *idlest);
    return true;
}

// Looks at every cell once at the most.
void evict_until(const ShardView& shard, std::size_t need) noexcept {
    for (std::size_t seen = 0; seen < shard.header->cells && !has_free(shard, need);) {
        seen += evict_one(shard) ? 1 : kEvictSample;
    }
}

// Room for a record, expired sessions reclaimed if need be. inserted: there is room.
InsertResult make_room(const ShardView& shard, std::size_t record_size, const SweepLimits& limits,
                       TimeMs now) noexcept {
    const std::size_t need = cells_for(record_size);
    if (record_size > Table::kMaxRecordBytes || need > shard.header->cells) {
        return InsertResult::too_large;
    }
    if (!has_free(shard, need)) {
        sweep(shard, limits, now, shard.header->cells, 0);
        if (limits.evict) {
            evict_until(shard, need);
        }
    }
    return !has_free(shard, need) ? InsertResult::full : InsertResult::inserted;
}

}  // namespace

InsertResult Table::insert(LockedShard& locked, const Token& token, ByteView record,
                           TimeMs last_seen, const SweepLimits& limits, TimeMs now) const noexcept {
    const ShardView& shard = locked.shard();
    const HandleWords words = words_of(token.handle);
    Bucket& bucket = bucket_of(shard, hash_of(*header_, words));
    if (find_head(shard, bucket, words) != nullptr) {
        return InsertResult::exists;
    }
    const InsertResult room = make_room(shard, record.size(), limits, now);
    if (room == InsertResult::inserted) {
        link(shard, bucket,
             fill_cell(shard, {.token = token,
                               .record = record,
                               .last_seen = last_seen,
                               .confirmed = 0,
                               .edition = 0}));
    }
    return room;
}

// Copy on write: readers find the old or the new record at every instant, and so does the repair,
// which keeps the newer edition of the two.
std::optional<InsertResult> Table::replace(LockedShard& locked, const Token& token, ByteView record,
                                           const SweepLimits& limits, TimeMs now) const noexcept {
    const ShardView& shard = locked.shard();
    const Handle& handle = token.handle;
    const HandleWords words = words_of(handle);
    Bucket& bucket = bucket_of(shard, hash_of(*header_, words));
    Cell* old = find_head(shard, bucket, words);
    if (old == nullptr || state_of(*old) != CellState::live) {
        return std::nullopt;
    }
    unhold(locked, handle);  // making room must not evict it
    const InsertResult room = make_room(shard, record.size(), limits, now);
    if (room != InsertResult::inserted) {
        return room;
    }
    old = find_head(shard, bucket, words);  // making room may have removed it as expired
    if (old == nullptr) {
        return std::nullopt;
    }
    SessionView view;
    find_locked(locked, handle, view, {});  // last seen; the record is not wanted
    Cell& cell = fill_cell(shard, {.token = token,
                                   .record = record,
                                   .last_seen = view.last_seen,
                                   .confirmed = view.confirmed,
                                   .edition = old->edition.load() + 1});
    link(shard, bucket, cell);
    old->state.store_release(static_cast<std::uint32_t>(CellState::ended));
    unlink(shard, bucket, *old);
    // A touch may have hit the old cell after it was read.
    const auto generation = static_cast<std::uint32_t>(cell.activity.load() >> kTimeBits);
    touch({.shard = shard.number, .index = shard.index_of(cell), .generation = generation},
          release(shard, *old));
    return InsertResult::inserted;
}

bool Table::supersede(LockedShard& locked, const Handle& handle, const Handle& successor,
                      TimeMs until) const noexcept {
    const ShardView& shard = locked.shard();
    const HandleWords words = words_of(handle);
    Cell* const cell = find_head(shard, bucket_of(shard, hash_of(*header_, words)), words);
    if (cell == nullptr || state_of(*cell) != CellState::live) {
        return false;
    }
    // The successor counts only once the state says so: one store decides.
    store_words(cell->successor, successor);
    cell->stamp.store(stamp_of(std::max<TimeMs>(until, 1), false));  // 0 would read as live
    cell->state.store_release(static_cast<std::uint32_t>(CellState::superseded));
    return true;
}

bool Table::confirm(LockedShard& locked, const Handle& handle, TimeMs at) const noexcept {
    const ShardView& shard = locked.shard();
    const HandleWords words = words_of(handle);
    Cell* const cell = find_head(shard, bucket_of(shard, hash_of(*header_, words)), words);
    if (cell == nullptr || state_of(*cell) != CellState::live) {
        return false;
    }
    cell->stamp.store(stamp_of(at, is_held(cell->stamp.load())));
    return true;
}

bool Table::hold(LockedShard& locked, const Handle& handle,
                 std::uint32_t change_counter) const noexcept {
    const ShardView& shard = locked.shard();
    const HandleWords words = words_of(handle);
    Cell* const cell = find_head(shard, bucket_of(shard, hash_of(*header_, words)), words);
    if (cell == nullptr || state_of(*cell) != CellState::live ||
        cell->record[kRecordCounterWord].load() >> 32 != change_counter) {
        return false;
    }
    cell->stamp.store(cell->stamp.load() | stamp_of(0, true));
    return true;
}

void Table::unhold(LockedShard& locked, const Handle& handle) const noexcept {
    const ShardView& shard = locked.shard();
    const HandleWords words = words_of(handle);
    Cell* const cell = find_head(shard, bucket_of(shard, hash_of(*header_, words)), words);
    if (cell != nullptr && state_of(*cell) == CellState::live) {
        cell->stamp.store(cell->stamp.load() & ~stamp_of(0, true));
    }
}

bool Table::remove(LockedShard& locked, const Handle& handle, Departure why,
                   TimeMs tombstone_until) const noexcept {
    const ShardView& shard = locked.shard();
    const HandleWords words = words_of(handle);
    const std::uint64_t hash = hash_of(*header_, words);
    write_tombstone(shard, words, hash, why, tombstone_until);
    Bucket& bucket = bucket_of(shard, hash);
    Cell* const cell = find_head(shard, bucket, words);
    if (cell == nullptr) {
        return false;
    }
    end_cell(shard, bucket, *cell);
    return true;
}

std::size_t Table::sweep_shard(LockedShard& locked, const SweepLimits& limits, TimeMs now,
                               std::size_t cells) const noexcept {
    return sweep(locked.shard(), limits, now, cells, kSupersededKept);
}

}  // namespace sg
