// The writing half of the table. Every function runs with its shard locked; the order of the stores
// is what makes it safe to be killed after any of them: see each function.
#include <algorithm>

#include "core/lifetime.h"
#include "core/zone/layout.h"
#include "core/zone/shard_lock.h"
#include "core/zone/table.h"
#include "core/zone/tombstones.h"

namespace sg {
namespace {

constexpr TimeMs kTombstoneSlack = 5 * kMinute;

// A superseded session names its successor to responses that were under way when it was replaced: a
// late logout or demotion must still find it. Kept this long while there is room.
constexpr TimeMs kSupersededKept = kHour;

void store_words(SharedWord<std::uint64_t>* to, ByteView from) noexcept {
    for (; from.size() >= 8; from = from.subspan(8), ++to) {
        to->store(load_le<std::uint64_t>(from.data()));
    }
    if (!from.empty()) {
        std::uint64_t last = 0;
        std::memcpy(&last, from.data(), from.size());
        to->store(last);
    }
}

void store_credential(Cell& cell, const Token& token) noexcept {
    std::uint8_t bytes[32];
    std::memcpy(bytes, token.secret.data(), 16);
    std::memcpy(bytes + 16, token.tag.data(), 15);
    bytes[31] = token.key_id;
    store_words(cell.handle, token.handle);
    store_words(cell.credential, bytes);
}

Cell& pop_free(const ShardView& shard) noexcept {
    Cell& cell = shard.cell(shard.shard->free_head.load());
    shard.shard->free_head.store(cell.next.load());
    shard.shard->used.store(shard.shard->used.load() + 1);
    return cell;
}

void push_free(const ShardView& shard, Cell& cell) noexcept {
    cell.next.store(shard.shard->free_head.load());
    shard.shard->free_head.store(shard.index_of(cell));
    shard.shard->used.store(shard.shard->used.load() - 1);
}

std::size_t free_cells(const ShardView& shard) noexcept {
    return shard.header->cells - shard.shard->used.load();
}

// Fills one cell of the chain per call, last part first, so that each knows its successor.
std::uint32_t store_overflow(const ShardView& shard, std::uint32_t head, ByteView record) noexcept {
    std::uint32_t next = 0;
    for (std::size_t part = cells_for(record.size()); part > 1; --part) {
        Cell& cell = pop_free(shard);
        const ByteView bytes = record.subspan((part - 1) * kInlineBytes);
        cell.sequence.begin_write();
        store_words(cell.record, bytes.first(std::min(bytes.size(), kInlineBytes)));
        cell.overflow.store(next);
        cell.next.store(head);
        cell.state.store(static_cast<std::uint32_t>(CellState::overflow));
        cell.sequence.end_write();
        next = shard.index_of(cell);
    }
    return next;
}

struct NewCell {
    const Token& token;
    ByteView record;
    TimeMs last_seen;
    std::uint32_t edition;
};

// A whole session, not yet reachable. Killed here: odd sequence or unlinked; the repair drops or
// links it.
Cell& fill_cell(const ShardView& shard, const NewCell& content) noexcept {
    Cell& cell = pop_free(shard);
    cell.sequence.begin_write();
    const std::uint32_t overflow = store_overflow(shard, shard.index_of(cell), content.record);
    store_credential(cell, content.token);
    const auto generation = static_cast<std::uint32_t>(cell.activity.load() >> kTimeBits);
    const std::uint64_t next_generation = (generation + 1) & kGenerationMask;
    cell.activity.store(
        next_generation << kTimeBits |
        (static_cast<std::uint64_t>(std::max<TimeMs>(content.last_seen, 0)) & kTimeMask));
    store_words(cell.record, content.record.first(std::min(content.record.size(), kInlineBytes)));
    cell.record_size.store(static_cast<std::uint32_t>(content.record.size()));
    cell.overflow.store(overflow);
    cell.edition.store(content.edition);
    cell.superseded_until.store(0);
    cell.state.store(static_cast<std::uint32_t>(CellState::live));
    cell.sequence.end_write();
    return cell;
}

void link(const ShardView& shard, Bucket& bucket, Cell& cell) noexcept {
    bucket.sequence.begin_write();
    cell.next.store(bucket.head.load());
    bucket.head.store_release(shard.index_of(cell));
    bucket.sequence.end_write();
    shard.shard->live.store(shard.shard->live.load() + 1);
}

void unlink(const ShardView& shard, Bucket& bucket, Cell& cell) noexcept {
    const std::uint32_t index = shard.index_of(cell);
    SharedWord<std::uint32_t>* place = &bucket.head;
    for (std::uint32_t steps = 0; place->load() != index && steps <= shard.header->cells; ++steps) {
        if (!shard.in_range(place->load())) {
            return;
        }
        place = &shard.cell(place->load()).next;
    }
    bucket.sequence.begin_write();
    place->store_release(cell.next.load());
    bucket.sequence.end_write();
    shard.shard->live.store(shard.shard->live.load() - 1);
}

void wipe(Cell& cell) noexcept {
    for (auto* const words : {cell.handle, cell.successor}) {
        words[0].store(0);
        words[1].store(0);
    }
    for (auto& word : cell.credential) {
        word.store(0);
    }
    for (auto& word : cell.record) {
        word.store(0);
    }
}

// Gives the cells of an unlinked session back. The generation moves on first, so that a late touch
// through an old SlotRef finds a stranger.
void release(const ShardView& shard, Cell& head) noexcept {
    std::uint32_t next = head.overflow.load();
    head.sequence.begin_write();
    const std::uint64_t generation = ((head.activity.load() >> kTimeBits) + 1) & kGenerationMask;
    head.activity.store(generation << kTimeBits);
    wipe(head);
    head.overflow.store(0);
    head.state.store(static_cast<std::uint32_t>(CellState::free));
    head.sequence.end_write();
    push_free(shard, head);
    for (std::size_t left = shard.header->cells; shard.in_range(next) && left > 0; --left) {
        Cell& cell = shard.cell(next);
        next = cell.overflow.load();
        cell.sequence.begin_write();
        wipe(cell);
        cell.overflow.store(0);
        cell.state.store(static_cast<std::uint32_t>(CellState::free));
        cell.sequence.end_write();
        push_free(shard, cell);
    }
}

// `ended` is one store: readers see it at once, and a repair completes what follows.
void end_cell(const ShardView& shard, Bucket& bucket, Cell& cell) noexcept {
    cell.state.store_release(static_cast<std::uint32_t>(CellState::ended));
    unlink(shard, bucket, cell);
    release(shard, cell);
}

Cell* find_head(const ShardView& shard, const Bucket& bucket, HandleWords words) noexcept {
    std::uint32_t index = bucket.head.load();
    for (std::uint32_t steps = 0; shard.in_range(index) && steps <= shard.header->cells; ++steps) {
        Cell& cell = shard.cell(index);
        if (has_handle(cell, words) && is_head(state_of(cell))) {
            return &cell;
        }
        index = cell.next.load();
    }
    return nullptr;
}

std::optional<Departure> outlived(const Cell& cell, const SweepLimits& limits, TimeMs now,
                                  TimeMs superseded_kept) noexcept {
    const CellState state = state_of(cell);
    if (state == CellState::superseded) {
        const auto until = static_cast<TimeMs>(cell.superseded_until.load());
        return now >= until + superseded_kept ? std::optional(Departure::regenerated)
                                              : std::nullopt;
    }
    if (state != CellState::live) {
        return std::nullopt;
    }
    const std::uint64_t own = cell.record[kRecordLimitsWord].load();
    const Timeouts timeouts =
        effective_timeouts({.idle = limits.idle, .absolute = limits.absolute},
                           static_cast<std::uint32_t>(own), static_cast<std::uint32_t>(own >> 32));
    const Ages ages{.created = static_cast<TimeMs>(cell.record[kRecordCreatedWord].load()),
                    .last_seen = static_cast<TimeMs>(cell.activity.load() & kTimeMask)};
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
        write_tombstone(shard, words, hash, *why, now + limits.absolute + kTombstoneSlack);
        end_cell(shard, bucket_of(shard, hash), cell);
        ++removed;
    }
    shard.shard->sweep_cursor.store(index);
    return removed;
}

// Room for a record, expired sessions reclaimed if need be. inserted: there is room.
InsertResult make_room(const ShardView& shard, std::size_t record_size, const SweepLimits& limits,
                       TimeMs now) noexcept {
    const std::size_t need = cells_for(record_size);
    if (record_size > Table::kMaxRecordBytes || need > shard.header->cells) {
        return InsertResult::too_large;
    }
    if (free_cells(shard) < need) {
        sweep(shard, limits, now, shard.header->cells, 0);
    }
    return free_cells(shard) < need ? InsertResult::full : InsertResult::inserted;
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
        link(shard, bucket, fill_cell(shard, {token, record, last_seen, 0}));
    }
    return room;
}

// Copy on write: readers find the old or the new record at every instant, and so does the repair,
// which keeps the newer edition of the two.
std::optional<InsertResult> Table::replace(LockedShard& locked, const Handle& handle,
                                           ByteView record, const SweepLimits& limits,
                                           TimeMs now) const noexcept {
    const ShardView& shard = locked.shard();
    const HandleWords words = words_of(handle);
    Bucket& bucket = bucket_of(shard, hash_of(*header_, words));
    Cell* old = find_head(shard, bucket, words);
    if (old == nullptr || state_of(*old) != CellState::live) {
        return std::nullopt;
    }
    const InsertResult room = make_room(shard, record.size(), limits, now);
    if (room != InsertResult::inserted) {
        return room;
    }
    old = find_head(shard, bucket, words);  // making room may have removed it as expired
    if (old == nullptr) {
        return std::nullopt;
    }
    SessionView view;
    find_locked(locked, handle, view, {});  // token and last seen; the record is not wanted
    Cell& cell = fill_cell(shard, {view.token, record, view.last_seen, old->edition.load() + 1});
    link(shard, bucket, cell);
    old->state.store_release(static_cast<std::uint32_t>(CellState::ended));
    unlink(shard, bucket, *old);
    // A touch may have hit the old cell after it was read.
    const auto touched = static_cast<TimeMs>(old->activity.load() & kTimeMask);
    release(shard, *old);
    find_locked(locked, handle, view, {});
    touch(view.slot, touched);
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
    cell->superseded_until.store(static_cast<std::uint64_t>(until));
    cell->state.store_release(static_cast<std::uint32_t>(CellState::superseded));
    return true;
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
