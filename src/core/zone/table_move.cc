// A table's end: its sessions move into younger tables, one by one, while the younger ones are in
// use. The only place where two shards are held: the older table's, then the younger one's.
#include <algorithm>
#include <array>

#include "core/zone/cells.h"
#include "core/zone/shard_lock.h"
#include "core/zone/table.h"
#include "core/zone/tombstones.h"

namespace sg {
namespace {

// One part in so many of a shard is left for changes of what is in it.
constexpr std::size_t kReserveShare = 16;

// A note of an end counts whatever its time: what it names may not come back anyhow.
constexpr TimeMs kNoTime = 0;

bool is_noted_ended(const ShardView& shard, HandleWords words, std::uint64_t hash) noexcept {
    return read_tombstone(shard, words, hash, kNoTime) == Departure::ended;
}

TimeMs last_seen_of(const Cell& cell) noexcept {
    return static_cast<TimeMs>(cell.activity.load() & kTimeMask);
}

// No change brings a replaced session back (second_tier.cc).
std::uint64_t version_of(const Cell& cell) noexcept {
    const std::uint64_t counter = cell.record[kRecordCounterWord].load() >> 32;
    return counter | (state_of(cell) == CellState::superseded ? std::uint64_t{1} << 32 : 0);
}

Handle handle_of(HandleWords words) noexcept {
    Handle handle;
    store_le<std::uint64_t>(handle.data(), words.low);
    store_le<std::uint64_t>(handle.data() + 8, words.high);
    return handle;
}

HandleWords handle_words(const Cell& cell) noexcept {
    return {cell.handle[0].load(), cell.handle[1].load()};
}

// One session of the locked older shard.
struct Leaving {
    const ShardView& shard;
    Bucket& bucket;
    Cell& cell;
    SessionView view;
    ByteView record;
};

// Its copy in a younger table, whole before it is linked.
Cell& copy_into(const ShardView& shard, Bucket& bucket, const Leaving& from,
                TimeMs last_seen) noexcept {
    Cell& copy = fill_cell(shard, {.token = from.view.token,
                                   .record = from.record,
                                   .last_seen = last_seen,
                                   .confirmed = 0,
                                   .edition = 0});
    copy.successor[0].store(from.cell.successor[0].load());
    copy.successor[1].store(from.cell.successor[1].load());
    copy.stamp.store(from.cell.stamp.load());
    copy.state.store_release(from.cell.state.load());
    link(shard, bucket, copy);
    return copy;
}

// Linked there before it ends here, and ends without a note. A touch may have hit the old cell
// until the end.
void move(const Table& to, const ShardView& shard, Bucket& bucket, const Leaving& from,
          TimeMs last_seen) noexcept {
    Cell& copy = copy_into(shard, bucket, from, last_seen);
    const auto generation = static_cast<std::uint32_t>(copy.activity.load() >> kTimeBits);
    from.cell.state.store_release(static_cast<std::uint32_t>(CellState::ended));
    unlink(from.shard, from.bucket, from.cell);
    to.touch({.shard = shard.number, .index = shard.index_of(copy), .generation = generation},
             release(from.shard, from.cell));
}

// False: no room there.
bool move_to(const Table& to, const Leaving& from) noexcept {
    LockedShard locked = to.lock(from.view.token.handle);
    const ShardView& shard = locked.shard();
    const HandleWords words = handle_words(from.cell);
    const std::uint64_t hash = hash_of(*shard.header, words);
    Bucket& bucket = bucket_of(shard, hash);
    TimeMs last_seen = from.view.last_seen;
    Cell* const there = find_head(shard, bucket, words);
    const bool ended = there == nullptr && is_noted_ended(shard, words, hash);
    if (ended || (there != nullptr && version_of(*there) > version_of(from.cell))) {
        end_cell(from.shard, from.bucket, from.cell);
        return true;
    }
    if (there != nullptr) {  // a move that was killed half way: the older copy has gone on since
        last_seen = std::max(last_seen, last_seen_of(*there));
        end_cell(shard, bucket, *there);
    }
    if (!has_free(shard, cells_for(from.record.size()))) {
        return false;
    }
    move(to, shard, bucket, from, last_seen);
    return true;
}

bool move_one(const Table& table, LockedShard& locked, Cell& cell,
              std::span<const Table> younger) noexcept {
    std::array<std::uint8_t, Table::kMaxRecordBytes> record;
    const ShardView& shard = locked.shard();
    const HandleWords words = handle_words(cell);
    Bucket& bucket = bucket_of(shard, hash_of(*shard.header, words));
    Leaving from{.shard = shard, .bucket = bucket, .cell = cell, .view = {}, .record = {}};
    if (table.find_locked(locked, handle_of(words), from.view, record) != FindResult::found) {
        return false;
    }
    from.record = ByteView(record).first(from.view.record_size);
    const bool moved = std::any_of(younger.begin(), younger.end(),
                                   [&from](const Table& to) { return move_to(to, from); });
    if (!moved && is_held(cell.stamp.load()) && state_of(cell) == CellState::live) {
        end_cell(shard, bucket, cell);  // comes back from the second tier when it is asked for
        return true;
    }
    return moved;
}

void set_bits(SharedWord<std::uint32_t>& word, std::uint32_t mask, std::uint32_t bits) noexcept {
    std::uint32_t before = word.load();
    while (!word.swap_if(before, (before & ~mask) | bits)) {
    }
}

std::uint32_t phase_of(const TableHeader& header) noexcept {
    return header.phase.load_acquire() & kPhaseMask;
}

}  // namespace

bool Table::has_ended(const Handle& handle) const noexcept {
    const HandleWords words = words_of(handle);
    const std::uint64_t hash = hash_of(*header_, words);
    return is_noted_ended(view_shard(*header_, shard_number(*header_, hash)), words, hash);
}

bool Table::knows(LockedShard& locked, const Handle& handle) const noexcept {
    const ShardView& shard = locked.shard();
    const HandleWords words = words_of(handle);
    const std::uint64_t hash = hash_of(*header_, words);
    return find_head(shard, bucket_of(shard, hash), words) != nullptr ||
           is_noted_ended(shard, words, hash);
}

bool Table::takes_in(LockedShard& locked, std::size_t record_size) const noexcept {
    const std::size_t used = locked.shard().shard->used.load();
    const std::size_t reserve = header_->cells / kReserveShare;
    return !is_closed() && used + cells_for(record_size) + reserve <= header_->cells;
}

void Table::close() const noexcept {
    if (!is_closed()) {
        set_bits(header_->phase, kPhaseMask, static_cast<std::uint32_t>(Phase::closed));
    }
}

bool Table::is_closed() const noexcept {
    return phase_of(*header_) != static_cast<std::uint32_t>(Phase::open);
}

void Table::retire() const noexcept {
    set_bits(header_->phase, kPhaseMask, static_cast<std::uint32_t>(Phase::retired));
}

bool Table::is_retired() const noexcept {
    return phase_of(*header_) == static_cast<std::uint32_t>(Phase::retired);
}

void Table::set_handover(bool on) const noexcept {
    set_bits(header_->phase, kHandoverBit, on ? kHandoverBit : 0);
}

bool Table::is_in_handover() const noexcept {
    return (header_->phase.load() & kHandoverBit) != 0;
}

std::size_t Table::move_cells(std::size_t number, std::size_t first, std::size_t count,
                              std::span<const Table> younger) const noexcept {
    LockedShard locked = lock_shard(number);
    const ShardView& shard = locked.shard();
    const std::size_t end = std::min<std::size_t>(first + count, header_->cells);
    std::size_t moved = 0;
    for (std::size_t i = first; i < end && shard.shard->live.load() != 0; ++i) {
        Cell& cell = shard.cell(static_cast<std::uint32_t>(i + 1));
        if (is_head(state_of(cell))) {
            moved += move_one(*this, locked, cell, younger) ? 1 : 0;
        }
    }
    return moved;
}

void Table::copy_tombstones(std::size_t number, const Table& to, TimeMs now) const noexcept {
    const ShardView shard = view_shard(*header_, static_cast<std::uint32_t>(number));
    for (std::uint32_t i = 0; i < header_->tombstone_sets; ++i) {
        for (const Tombstone& entry : shard.sets[i].entries) {
            const HandleWords words{entry.handle[0].load(), entry.handle[1].load()};
            const auto why = read_tombstone(shard, words, hash_of(*header_, words), now);
            if (!why) {
                continue;
            }
            const auto until = static_cast<TimeMs>(entry.until_and_why.load() >> 8);
            const Handle handle = handle_of(words);
            LockedShard locked = to.lock(handle);
            if (*why == Departure::ended || !to.knows(locked, handle)) {
                to.remove(locked, handle, *why, until);
            }
        }
    }
}

std::span<std::byte> Table::contents(std::size_t number) const noexcept {
    const ShardView shard = view_shard(*header_, static_cast<std::uint32_t>(number));
    auto* const start = reinterpret_cast<std::byte*>(shard.sets);
    auto* const end = reinterpret_cast<std::byte*>(shard.shard) + header_->shard_bytes;
    return {start, end};
}

}  // namespace sg
