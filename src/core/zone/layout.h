// What lies in shared memory: header, then per shard its lock, tombstones, buckets and cells.
// Standard layout, fixed-width integers, indices (1-based, 0: none) instead of pointers;
// docs/formats.md draws it.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/record.h"
#include "core/zone/shared_word.h"
#include "core/zone/table.h"

namespace sg {

inline constexpr std::uint64_t kTableMagic = 0x31656c6261744753;  // "SGtable1"
inline constexpr std::uint32_t kLayoutVersion = 1;

// What a table of an earlier configuration is still good for.
enum class Phase : std::uint32_t {
    open = 0,
    closed = 1,   // its workers are gone: nothing new comes in, its sessions move out
    retired = 2,  // empty for good: nobody looks here any more
};
inline constexpr std::uint32_t kPhaseMask = 3;
inline constexpr std::uint32_t kHandoverBit = 4;  // older tables have sessions, too

struct alignas(64) TableHeader {
    std::uint64_t magic;
    std::uint32_t version;
    std::uint32_t shard_count;
    std::uint64_t total_bytes;
    std::uint64_t shard_bytes;
    std::uint32_t cells;              // of one shard
    std::uint32_t buckets;            // of one shard
    std::uint32_t tombstone_sets;     // of one shard
    SharedWord<std::uint32_t> phase;  // Phase; and kHandoverBit
    std::uint64_t hash_key[2];
    std::uint8_t master_key[Table::kMasterKeyBytes];
};

// Everything but the mutex is written under the mutex.
struct alignas(64) Shard {
    pthread_mutex_t mutex;  // robust, process-shared
    SharedWord<std::uint32_t> free_head;
    SharedWord<std::uint32_t> used;  // cells
    SharedWord<std::uint32_t> live;  // sessions, and rosters
    SharedWord<std::uint32_t> rosters;
    SharedWord<std::uint32_t> sweep_cursor;
    SharedWord<std::uint64_t> repairs;
};

struct Bucket {
    SharedWord<std::uint32_t> head;
    SequenceWord sequence;  // odd while the chain changes
};

enum class CellState : std::uint32_t {
    free = 0,
    live = 1,
    superseded = 2,
    ended = 3,
    overflow = 4
};

inline constexpr std::size_t kCellBytes = 288;
inline constexpr std::size_t kInlineBytes = 184;  // of the record, in each cell of its chain

// A session takes one head cell and, for a long record, a chain of overflow cells, which the head's
// sequence covers. Of an overflow cell only next, overflow, state and record are used.
struct Cell {
    SequenceWord sequence;
    SharedWord<std::uint32_t> next;      // bucket chain or free list; of an overflow cell: its head
    SharedWord<std::uint64_t> activity;  // generation << 42 | last seen in ms
    SharedWord<std::uint64_t> handle[2];
    SharedWord<std::uint64_t> credential[4];  // secret 16, tag 15, key id 1
    SharedWord<std::uint32_t> overflow;       // next cell of the record
    SharedWord<std::uint32_t> record_size;
    SharedWord<std::uint32_t> state;  // CellState; one store decides live, superseded, ended
    SharedWord<std::uint32_t>
        edition;                      // counts replacements; the newer of two copies wins a repair
    SharedWord<std::uint64_t> stamp;  // ms << 1 | held; live: confirmed; superseded: until then
    SharedWord<std::uint64_t> successor[2];
    SharedWord<std::uint64_t> record[kInlineBytes / 8];
};

// A cell's stamp: a time, and whether the second tier holds this very state.
constexpr std::uint64_t stamp_of(TimeMs at, bool held) noexcept {
    return static_cast<std::uint64_t>(at > 0 ? at : 0) << 1 | (held ? 1 : 0);
}
constexpr TimeMs time_of_stamp(std::uint64_t stamp) noexcept {
    return static_cast<TimeMs>(stamp >> 1);
}
constexpr bool is_held(std::uint64_t stamp) noexcept {
    return (stamp & 1) != 0;
}

inline constexpr unsigned kTimeBits = 42;  // ms since 1970 until the year 2109
inline constexpr std::uint64_t kTimeMask = (std::uint64_t{1} << kTimeBits) - 1;
inline constexpr std::uint32_t kGenerationMask = (1u << (64 - kTimeBits)) - 1;

// Where the sweep finds the times in the record (record.cc).
inline constexpr std::size_t kRecordFlagsWord = 0;    // byte 2
inline constexpr std::size_t kRecordCreatedWord = 1;  // bytes 8-15
inline constexpr std::size_t kRecordCounterWord =
    4;  // bytes 36-39: the change counter, its upper half
inline constexpr std::size_t kRecordLimitsWord = 3;  // bytes 24-31: idle, absolute in seconds

struct Tombstone {
    SharedWord<std::uint64_t> handle[2];
    SharedWord<std::uint64_t> until_and_why;  // ms << 8 | Departure; 0: empty
};

inline constexpr std::size_t kTombstonesPerSet = 5;

struct alignas(64) TombstoneSet {
    SequenceWord sequence;
    std::uint32_t reserved;
    Tombstone entries[kTombstonesPerSet];
};

static_assert(sizeof(Bucket) == 8);
static_assert(sizeof(Cell) == kCellBytes && offsetof(Cell, record) == kCellBytes - kInlineBytes);
static_assert(sizeof(TombstoneSet) == 128);
static_assert(sizeof(TableHeader) == 128 && sizeof(Shard) % 64 == 0);  // the mutex differs by CPU
static_assert(std::is_standard_layout_v<TableHeader> && std::is_standard_layout_v<Shard> &&
              std::is_standard_layout_v<Cell> && std::is_standard_layout_v<TombstoneSet>);

constexpr std::size_t cells_for(std::size_t record_size) noexcept {
    return record_size <= kInlineBytes ? 1 : (record_size + kInlineBytes - 1) / kInlineBytes;
}

// Typed view of one shard; cheap, owns nothing. Indices are 1-based and must be in range.
struct ShardView {
    const TableHeader* header;
    std::uint32_t number;
    Shard* shard;
    TombstoneSet* sets;
    Bucket* buckets;
    Cell* cells;

    bool in_range(std::uint32_t index) const noexcept {
        return index != 0 && index <= header->cells;
    }
    Cell& cell(std::uint32_t index) const noexcept { return cells[index - 1]; }
    std::uint32_t index_of(const Cell& cell) const noexcept {
        return static_cast<std::uint32_t>(&cell - cells) + 1;
    }
};

struct HandleWords {
    std::uint64_t low;
    std::uint64_t high;
};

inline HandleWords words_of(const Handle& handle) noexcept {
    return {load_le<std::uint64_t>(handle.data()), load_le<std::uint64_t>(handle.data() + 8)};
}

// Keyed, so that a client cannot aim look-ups at one bucket. A universal hash of two words, not a
// MAC: handles that get into the table are minted here.
inline std::uint64_t hash_of(const TableHeader& header, HandleWords words) noexcept {
    const auto product = static_cast<unsigned __int128>(words.low ^ header.hash_key[0]) *
                         (words.high ^ header.hash_key[1]);
    return static_cast<std::uint64_t>(product >> 64) ^ static_cast<std::uint64_t>(product);
}

// Multiply-shift: maps 32 bits of the hash evenly to 0 .. n-1. Shard and bucket use different
// halves.
inline std::uint32_t scaled(std::uint64_t half, std::uint32_t n) noexcept {
    return static_cast<std::uint32_t>(((half & 0xffffffffu) * n) >> 32);
}

inline ShardView view_shard(const TableHeader& header, std::uint32_t number) noexcept {
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

inline std::uint32_t shard_number(const TableHeader& header, std::uint64_t hash) noexcept {
    return scaled(hash >> 32, header.shard_count);
}
inline Bucket& bucket_of(const ShardView& shard, std::uint64_t hash) noexcept {
    return shard.buckets[scaled(hash, shard.header->buckets)];
}
inline TombstoneSet& tombstone_set_of(const ShardView& shard, std::uint64_t hash) noexcept {
    return shard.sets[scaled(hash * 0x9e3779b97f4a7c15u >> 32, shard.header->tombstone_sets)];
}
inline CellState state_of(const Cell& cell) noexcept {
    return static_cast<CellState>(cell.state.load());
}
inline bool is_head(CellState state) noexcept {
    return state == CellState::live || state == CellState::superseded;
}
inline bool is_roster(const Cell& cell) noexcept {
    return (cell.record[kRecordFlagsWord].load() >> 16 & kRosterFlag) != 0;
}
inline bool has_handle(const Cell& cell, HandleWords words) noexcept {
    return cell.handle[0].load() == words.low && cell.handle[1].load() == words.high;
}

}  // namespace sg
