#include "core/zone/table.h"

#include <algorithm>
#include <new>

#include "core/zone/layout.h"
#include "core/zone/shard_lock.h"

namespace sg {
namespace {

constexpr std::size_t kCellsPerShardWanted = 16384;
// So many that a shard keeps its size in every zone there is: what is done with a shard locked (a
// login that looks for room, a repair) then takes about half a millisecond whatever the zone.
constexpr std::size_t kMostShards = 4096;
constexpr std::size_t kFewestCells = 16;
constexpr std::size_t kTombstoneShare = 64;  // one part in so many of a shard

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

bool is_aligned(std::span<const std::byte> memory) noexcept {
    return reinterpret_cast<std::uintptr_t>(memory.data()) % alignof(TableHeader) == 0;
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

}  // namespace

std::size_t Table::minimum_bytes() noexcept {
    return sizeof(TableHeader) + sizeof(Shard) + sizeof(TombstoneSet) +
           kFewestCells * (kCellBytes + sizeof(Bucket)) + 64;
}

std::optional<Table> Table::format(
    std::span<std::byte> memory, std::span<const std::uint8_t, kHashKeyBytes> hash_key,
    std::span<const std::uint8_t, kMasterKeyBytes> master_key) noexcept {
    const Geometry geometry = geometry_for(memory.size());
    if (geometry.cells < kFewestCells || !is_aligned(memory)) {
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
    if (geometry.cells < kFewestCells || !is_aligned(memory) || header->magic != kTableMagic ||
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

std::span<std::byte> Table::memory() const noexcept {
    return {reinterpret_cast<std::byte*>(header_), header_->total_bytes};
}

LockedShard Table::lock(const Handle& handle) const noexcept {
    const std::uint64_t hash = hash_of(*header_, words_of(handle));
    return LockedShard(view_shard(*header_, shard_number(*header_, hash)));
}

ShardView Table::shard_of(const Handle& handle) const noexcept {
    return view_shard(*header_, shard_number(*header_, hash_of(*header_, words_of(handle))));
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
        stats.live += shard.live.load() - shard.rosters.load();
        stats.rosters += shard.rosters.load();
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
