#include "core/zone/table.h"

#include <algorithm>
#include <new>

#include "core/zone/layout.h"
#include "core/zone/shard_lock.h"
#include "core/zone/tombstones.h"

namespace sg {
namespace {

constexpr std::size_t kCellsPerShardWanted = 16384;
constexpr std::size_t kMostShards = 64;
constexpr std::size_t kFewestCells = 16;
constexpr std::size_t kTombstoneShare = 64;  // one part in so many of a shard
constexpr int kTries = 100;

struct Geometry {
    std::uint32_t shards = 0;
    std::uint64_t shard_bytes = 0;
    std::uint32_t cells = 0;
    std::uint32_t tombstone_sets = 0;
};

Geometry geometry_for(std::size_t bytes) noexcept {
    Geometry geometry;
    if (bytes < sizeof(TableHeader)) {
        return geometry;
    }
    const std::size_t room = bytes - sizeof(TableHeader);
    const std::size_t cells = room / (kCellBytes + sizeof(Bucket));
    geometry.shards = static_cast<std::uint32_t>(
        std::clamp<std::size_t>(cells / kCellsPerShardWanted, 1, kMostShards));
    geometry.shard_bytes = room / geometry.shards / 64 * 64;
    const std::size_t sets =
        std::max<std::size_t>(geometry.shard_bytes / kTombstoneShare / sizeof(TombstoneSet), 1);
    const std::size_t fixed = sizeof(Shard) + sets * sizeof(TombstoneSet);
    if (geometry.shard_bytes > fixed) {
        geometry.tombstone_sets = static_cast<std::uint32_t>(sets);
        geometry.cells = static_cast<std::uint32_t>((geometry.shard_bytes - fixed) /
                                                    (kCellBytes + sizeof(Bucket)));
    }
    return geometry;
}

// All words are zero already where the memory is fresh; it may also be reused memory in a test.
void clear_shard(const ShardView& shard) noexcept {
    for (std::uint32_t i = 0; i < shard.header->tombstone_sets; ++i) {
        new (&shard.sets[i]) TombstoneSet{};
    }
    for (std::uint32_t i = 0; i < shard.header->buckets; ++i) {
        new (&shard.buckets[i]) Bucket{};
    }
    for (std::uint32_t i = 1; i <= shard.header->cells; ++i) {
        Cell* const cell = new (&shard.cell(i)) Cell{};
        cell->next.store(i < shard.header->cells ? i + 1 : 0);
    }
    shard.shard->free_head.store(1);
}

// Relaxed loads of whole words: no race by the standard, two instructions each.
template <std::size_t kWords>
void copy_whole(std::uint8_t* to, const SharedWord<std::uint64_t>* from) noexcept {
#pragma GCC unroll 32
    for (std::size_t i = 0; i < kWords; ++i) {
        store_le<std::uint64_t>(to + 8 * i, from[i].load());
    }
}

void copy_words(std::uint8_t* to, const SharedWord<std::uint64_t>* from,
                std::size_t size) noexcept {
    for (; size >= 64; size -= 64, to += 64, from += 8) {
        copy_whole<8>(to, from);
    }
    for (; size >= 8; size -= 8, to += 8, ++from) {
        copy_whole<1>(to, from);
    }
    if (size > 0) {
        const std::uint64_t last = from->load();
        std::memcpy(to, &last, size);
    }
}

void read_token(const Cell& cell, const Handle& handle, Token& token) noexcept {
    std::uint8_t bytes[32];
    copy_whole<4>(bytes, cell.credential);
    token.handle = handle;
    std::memcpy(token.secret.data(), bytes, 16);
    std::memcpy(token.tag.data(), bytes + 16, 15);
    token.key_id = bytes[31];
}

// Copies the record along its chain; `room` bytes may be written at `out`. False when a link makes
// no sense: the copy is torn.
bool read_record(const ShardView& shard, const Cell& head, ByteSpan out,
                 std::size_t room) noexcept {
    if (out.size() <= kInlineBytes && room >= kInlineBytes) {
        copy_whole<kInlineBytes / 8>(out.data(),
                                     head.record);  // straight on, past the record's end
        return true;
    }
    const Cell* cell = &head;
    for (;;) {
        const std::size_t part = std::min(out.size(), kInlineBytes);
        copy_words(out.data(), cell->record, part);
        out = out.subspan(part);
        if (out.empty()) {
            return true;
        }
        const std::uint32_t next = cell->overflow.load();
        if (!shard.in_range(next)) {
            return false;
        }
        cell = &shard.cell(next);
    }
}

enum class Walk : std::uint8_t { found, absent, too_small, torn };

// Reads one cell known to carry the handle; the caller checks the sequence afterwards.
Walk read_head(const ShardView& shard, const Cell& cell, const Handle& handle, SessionView& view,
               ByteSpan record) noexcept {
    const std::uint64_t activity = cell.activity.load();
    read_token(cell, handle, view.token);
    view.slot = {.shard = shard.number,
                 .index = shard.index_of(cell),
                 .generation = static_cast<std::uint32_t>(activity >> kTimeBits)};
    view.last_seen = static_cast<TimeMs>(activity & kTimeMask);
    view.record_size = cell.record_size.load();
    view.superseded_until = 0;
    if (cell.state.load_acquire() == static_cast<std::uint32_t>(CellState::superseded)) {
        view.superseded_until = static_cast<TimeMs>(cell.superseded_until.load());
        copy_words(view.successor.data(), cell.successor, view.successor.size());
    }
    if (view.record_size > record.size()) {
        return Walk::too_small;
    }
    return read_record(shard, cell, record.first(view.record_size), record.size()) ? Walk::found
                                                                                   : Walk::torn;
}

Walk walk(const ShardView& shard, const Bucket& bucket, const Handle& handle, SessionView& view,
          ByteSpan record) noexcept {
    const HandleWords words = words_of(handle);
    const std::uint32_t bucket_read = bucket.sequence.begin_read();
    std::uint32_t index = bucket.head.load_acquire();
    for (std::uint32_t steps = 0; index != 0; ++steps) {
        if (!shard.in_range(index) || steps > shard.header->cells) {
            return Walk::torn;
        }
        const Cell& cell = shard.cell(index);
        const std::uint32_t cell_read = cell.sequence.begin_read();
        Walk result = Walk::absent;
        if (has_handle(cell, words) && is_head(state_of(cell))) {
            result = read_head(shard, cell, handle, view, record);
        }
        index = cell.next.load();
        if (!cell.sequence.unchanged(cell_read)) {
            return Walk::torn;
        }
        if (result != Walk::absent) {
            return result;
        }
    }
    // Only a walk over a bucket that did not change proves that nobody is there.
    return bucket.sequence.unchanged(bucket_read) ? Walk::absent : Walk::torn;
}

FindResult from_walk(Walk walk) noexcept {
    switch (walk) {
        case Walk::found:
            return FindResult::found;
        case Walk::absent:
            return FindResult::absent;
        case Walk::too_small:
            return FindResult::too_small;
        case Walk::torn:
            break;
    }
    return FindResult::busy;
}

}  // namespace

ShardView view_shard(const TableHeader& header, std::uint32_t number) noexcept {
    auto* const start = reinterpret_cast<std::byte*>(const_cast<TableHeader*>(&header)) +
                        sizeof(TableHeader) + number * header.shard_bytes;
    auto* const sets = start + sizeof(Shard);
    auto* const buckets = sets + header.tombstone_sets * sizeof(TombstoneSet);
    auto* const cells = buckets + header.buckets * sizeof(Bucket);
    return {&header,
            number,
            reinterpret_cast<Shard*>(start),
            reinterpret_cast<TombstoneSet*>(sets),
            reinterpret_cast<Bucket*>(buckets),
            reinterpret_cast<Cell*>(cells)};
}

std::size_t Table::minimum_bytes() noexcept {
    return sizeof(TableHeader) + sizeof(Shard) + sizeof(TombstoneSet) +
           kFewestCells * (kCellBytes + sizeof(Bucket)) + 64;
}

std::optional<Table> Table::format(
    std::span<std::byte> memory, std::span<const std::uint8_t, kHashKeyBytes> hash_key,
    std::span<const std::uint8_t, kMasterKeyBytes> master_key) noexcept {
    const Geometry geometry = geometry_for(memory.size());
    if (geometry.cells < kFewestCells) {
        return std::nullopt;
    }
    auto* const header = new (memory.data()) TableHeader{};
    header->version = kLayoutVersion;
    header->shard_count = geometry.shards;
    header->total_bytes = memory.size();
    header->shard_bytes = geometry.shard_bytes;
    header->cells = geometry.cells;
    header->buckets = geometry.cells;
    header->tombstone_sets = geometry.tombstone_sets;
    header->hash_key[0] = load_le<std::uint64_t>(hash_key.data());
    header->hash_key[1] = load_le<std::uint64_t>(hash_key.data() + 8);
    std::copy(master_key.begin(), master_key.end(), header->master_key);
    for (std::uint32_t i = 0; i < geometry.shards; ++i) {
        const ShardView shard = view_shard(*header, i);
        new (shard.shard) Shard{};
        clear_shard(shard);
        if (!init_shard_mutex(*shard.shard)) {
            return std::nullopt;
        }
    }
    header->magic = kTableMagic;
    return Table(header);
}

std::optional<Table> Table::attach(std::span<std::byte> memory) noexcept {
    const Geometry geometry = geometry_for(memory.size());
    auto* const header = reinterpret_cast<TableHeader*>(memory.data());
    if (geometry.cells < kFewestCells || header->magic != kTableMagic ||
        header->version != kLayoutVersion || header->total_bytes != memory.size() ||
        header->shard_count != geometry.shards || header->shard_bytes != geometry.shard_bytes ||
        header->cells != geometry.cells || header->buckets != geometry.cells ||
        header->tombstone_sets != geometry.tombstone_sets) {
        return std::nullopt;
    }
    return Table(header);
}

std::span<const std::uint8_t, Table::kMasterKeyBytes> Table::master_key() const noexcept {
    return std::span<const std::uint8_t, kMasterKeyBytes>(header_->master_key);
}

FindResult Table::find(const Handle& handle, SessionView& view, ByteSpan record) const noexcept {
    const std::uint64_t hash = hash_of(*header_, words_of(handle));
    const ShardView shard = view_shard(*header_, shard_number(*header_, hash));
    const Bucket& bucket = bucket_of(shard, hash);
    Walk result = Walk::torn;
    for (int i = 0; i < kTries && result == Walk::torn; ++i) {
        result = walk(shard, bucket, handle, view, record);
    }
    return from_walk(result);
}

FindResult Table::find_locked(LockedShard& shard, const Handle& handle, SessionView& view,
                              ByteSpan record) const noexcept {
    const std::uint64_t hash = hash_of(*header_, words_of(handle));
    return from_walk(walk(shard.shard(), bucket_of(shard.shard(), hash), handle, view, record));
}

bool Table::touch(SlotRef slot, TimeMs now) const noexcept {
    if (slot.shard >= header_->shard_count || now < 0) {
        return false;
    }
    const ShardView shard = view_shard(*header_, slot.shard);
    if (!shard.in_range(slot.index)) {
        return false;
    }
    Cell& cell = shard.cell(slot.index);
    std::uint64_t activity = cell.activity.load();
    for (;;) {
        if (activity >> kTimeBits != slot.generation ||
            now < static_cast<TimeMs>(activity & kTimeMask) + kSecond) {
            return false;
        }
        const std::uint64_t next = std::uint64_t{slot.generation} << kTimeBits |
                                   (static_cast<std::uint64_t>(now) & kTimeMask);
        if (cell.activity.swap_if(activity, next)) {
            return true;
        }
    }
}

std::optional<Departure> Table::find_tombstone(const Handle& handle, TimeMs now) const noexcept {
    const HandleWords words = words_of(handle);
    const std::uint64_t hash = hash_of(*header_, words);
    return read_tombstone(view_shard(*header_, shard_number(*header_, hash)), words, hash, now);
}

LockedShard Table::lock(const Handle& handle) const noexcept {
    const std::uint64_t hash = hash_of(*header_, words_of(handle));
    return LockedShard(view_shard(*header_, shard_number(*header_, hash)));
}

LockedShard Table::lock_shard(std::size_t number) const noexcept {
    return LockedShard(view_shard(*header_, static_cast<std::uint32_t>(number)));
}

std::size_t Table::shard_count() const noexcept {
    return header_->shard_count;
}

std::size_t Table::cells_per_shard() const noexcept {
    return header_->cells;
}

TableStats Table::stats() const noexcept {
    TableStats stats;
    for (std::uint32_t i = 0; i < header_->shard_count; ++i) {
        const Shard& shard = *view_shard(*header_, i).shard;
        stats.live += shard.live.load();
        stats.cells_used += shard.used.load();
        stats.repairs += shard.repairs.load();
    }
    stats.cells_total = std::uint64_t{header_->shard_count} * header_->cells;
    return stats;
}

std::size_t Table::bytes_per_session(std::size_t record_size) noexcept {
    const std::size_t cells = cells_for(record_size) * (kCellBytes + sizeof(Bucket));
    return cells + cells / (kTombstoneShare - 1) + 1;
}

}  // namespace sg
