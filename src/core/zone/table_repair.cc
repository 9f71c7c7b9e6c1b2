// Repair of one shard after its writer was killed. Cells are the truth; buckets, free list and
// counts are derived from them, so a repair that is itself killed can simply be started again.
#include <algorithm>

#include "core/zone/cells.h"
#include "core/zone/shard_lock.h"
#include "core/zone/tombstones.h"

namespace sg {
namespace {

std::uint32_t raw(CellState state) noexcept {
    return static_cast<std::uint32_t>(state);
}

// While the chains are built their heads carry this bit: out of range for a reader, who comes back
// later. Otherwise it could be given the older edition of a session after it has seen the newer.
constexpr std::uint32_t kHidden = 1u << 31;

std::uint32_t head_of(const Bucket& bucket) noexcept {
    return bucket.head.load() & ~kHidden;
}

// From here to open_buckets no reader trusts a miss, so none is told *absent* wrongly.
void close_buckets(const ShardView& shard) noexcept {
    for (std::uint32_t i = 0; i < shard.header->buckets; ++i) {
        shard.buckets[i].sequence.begin_write();
        shard.buckets[i].head.store(0);
    }
}

void open_buckets(const ShardView& shard) noexcept {
    for (std::uint32_t i = 0; i < shard.header->buckets; ++i) {
        Bucket& bucket = shard.buckets[i];
        bucket.head.store_release(head_of(bucket));
        bucket.sequence.end_write();
    }
}

// Cells caught half written hold no session and need wiping: `ended`. A cell that is `free` with an
// even sequence is clean. Claims of an earlier repair are forgotten.
void settle_cells(const ShardView& shard) noexcept {
    for (std::uint32_t i = 1; i <= shard.header->cells; ++i) {
        Cell& cell = shard.cell(i);
        if (cell.sequence.is_odd()) {
            cell.state.store(raw(CellState::ended));
            cell.sequence.end_write();
        }
        if (state_of(cell) == CellState::overflow) {
            cell.next.store(0);
        }
    }
}

// Writes the head's index into each cell of its chain. False when the chain is broken or shared.
bool claim_chain(const ShardView& shard, const Cell& head) noexcept {
    const std::size_t size = head.record_size.load();
    if (size > Table::kMaxRecordBytes) {
        return false;
    }
    std::uint32_t index = head.overflow.load();
    for (std::size_t left = cells_for(size) - 1; left > 0; --left) {
        if (!shard.in_range(index)) {
            return false;
        }
        Cell& cell = shard.cell(index);
        if (state_of(cell) != CellState::overflow || cell.next.load() != 0) {
            return false;
        }
        cell.next.store(shard.index_of(head));
        index = cell.overflow.load();
    }
    return index == 0;
}

Cell* find_in_bucket(const ShardView& shard, const Bucket& bucket, HandleWords words) noexcept {
    for (std::uint32_t index = head_of(bucket); index != 0; index = shard.cell(index).next.load()) {
        if (has_handle(shard.cell(index), words) && is_head(state_of(shard.cell(index)))) {
            return &shard.cell(index);
        }
    }
    return nullptr;
}

// Editions count up and wrap.
bool is_newer(const Cell& a, const Cell& b) noexcept {
    return static_cast<std::int32_t>(a.edition.load() - b.edition.load()) > 0;
}

// Links the head, unless a newer edition of the same session is there (a replacement was cut).
void link_head(const ShardView& shard, Cell& head) noexcept {
    const HandleWords words{head.handle[0].load(), head.handle[1].load()};
    Bucket& bucket = bucket_of(shard, hash_of(*shard.header, words));
    Cell* const other = find_in_bucket(shard, bucket, words);
    if (other != nullptr && !is_newer(head, *other)) {
        head.state.store(raw(CellState::ended));
        return;
    }
    if (other != nullptr) {
        other->state.store(raw(CellState::ended));
    }
    head.next.store(head_of(bucket));
    bucket.head.store(shard.index_of(head) | kHidden);
}

void link_heads(const ShardView& shard) noexcept {
    for (std::uint32_t i = 1; i <= shard.header->cells; ++i) {
        Cell& cell = shard.cell(i);
        if (!is_head(state_of(cell))) {
            continue;
        }
        if (claim_chain(shard, cell)) {
            link_head(shard, cell);
        } else {
            cell.state.store(raw(CellState::ended));
        }
    }
}

// The loser of two editions was linked before the winner was seen: take the ended ones out again.
void unlink_ended(const ShardView& shard) noexcept {
    for (std::uint32_t i = 0; i < shard.header->buckets; ++i) {
        SharedWord<std::uint32_t>* place = &shard.buckets[i].head;
        std::uint32_t hidden = kHidden;
        for (std::uint32_t index = place->load() & ~kHidden; index != 0;
             index = place->load() & ~kHidden) {
            Cell& cell = shard.cell(index);
            if (is_head(state_of(cell))) {
                place = &cell.next;
                hidden = 0;
            } else {
                place->store(cell.next.load() | hidden);
            }
        }
    }
}

bool in_use(const ShardView& shard, const Cell& cell) noexcept {
    const CellState state = state_of(cell);
    if (state == CellState::overflow) {
        const std::uint32_t head = cell.next.load();
        return shard.in_range(head) && is_head(state_of(shard.cell(head)));
    }
    return is_head(state);
}

void scrub(Cell& cell) noexcept {
    cell.sequence.begin_write();
    const std::uint64_t generation = ((cell.activity.load() >> kTimeBits) + 1) & kGenerationMask;
    cell.activity.store(generation << kTimeBits);
    wipe(cell);
    cell.overflow.store(0);
    cell.state.store(raw(CellState::free));
    cell.sequence.end_write();
}

// Heads before any overflow cell: their sequence tells a reader in the middle of its copy, before
// the cells it goes on to are wiped.
void scrub_heads(const ShardView& shard) noexcept {
    for (std::uint32_t i = 1; i <= shard.header->cells; ++i) {
        Cell& cell = shard.cell(i);
        const CellState state = state_of(cell);
        if (!is_head(state) && state != CellState::free && state != CellState::overflow) {
            scrub(cell);
        }
    }
}

void rebuild_free_list(const ShardView& shard) noexcept {
    std::uint32_t used = 0;
    std::uint32_t live = 0;
    std::uint32_t rosters = 0;
    shard.shard->free_head.store(0);
    for (std::uint32_t i = shard.header->cells; i >= 1; --i) {
        Cell& cell = shard.cell(i);
        if (in_use(shard, cell)) {
            ++used;
            live += is_head(state_of(cell)) ? 1 : 0;
            rosters += is_head(state_of(cell)) && is_roster(cell) ? 1 : 0;
            continue;
        }
        if (state_of(cell) != CellState::free) {
            scrub(cell);
        }
        cell.next.store(shard.shard->free_head.load());
        shard.shard->free_head.store(i);
    }
    shard.shard->used.store(used);
    shard.shard->live.store(live);
    shard.shard->rosters.store(rosters);
}

}  // namespace

void repair_shard(const ShardView& shard) noexcept {
    close_buckets(shard);
    settle_cells(shard);
    link_heads(shard);
    unlink_ended(shard);
    scrub_heads(shard);
    rebuild_free_list(shard);
    repair_tombstones(shard);
    open_buckets(shard);
    if (shard.shard->sweep_cursor.load() > shard.header->cells) {
        shard.shard->sweep_cursor.store(0);
    }
    shard.shard->repairs.store(shard.shard->repairs.load() + 1);
}

}  // namespace sg
