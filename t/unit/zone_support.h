// A zone table in memory that forked children share, sessions made of numbers, and a check of
// everything that must hold in a table no writer is busy in.
#pragma once

#include <sys/mman.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>

#include "core/zone/layout.h"
#include "core/zone/shard_lock.h"
#include "core/zone/table.h"

namespace sg::test {

inline constexpr TimeMs kNow = 1'800'000'000'000;
inline constexpr SweepLimits kLimits{.idle = 15 * kMinute, .absolute = 8 * kHour};

// Memory that survives fork as one and the same; never unmapped (the process ends soon).
inline std::span<std::byte> shared_memory(std::size_t bytes) {
    void* const memory =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        std::abort();
    }
    return {static_cast<std::byte*>(memory), bytes};
}

inline Table make_table(std::span<std::byte> memory) {
    std::array<std::uint8_t, Table::kHashKeyBytes> hash_key;
    std::array<std::uint8_t, Table::kMasterKeyBytes> master;
    hash_key.fill(0x5a);
    hash_key[3] = 0x17;
    master.fill(0x33);
    const auto table = Table::format(memory, hash_key, master);
    if (!table) {
        std::abort();
    }
    return *table;
}

// Spreads a number over 64 bits, so that handles look random.
inline std::uint64_t scramble(std::uint64_t n) {
    n = (n + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    n = (n ^ (n >> 27)) * 0x94d049bb133111ebu;
    return n ^ (n >> 31);
}

inline Token token_of(std::uint64_t n) {
    Token token;
    token.key_id = static_cast<std::uint8_t>(n);
    store_le<std::uint64_t>(token.handle.data(), scramble(n));
    store_le<std::uint64_t>(token.handle.data() + 8, scramble(n + 1'000'000'007));
    token.secret.fill(static_cast<std::uint8_t>(n * 7 + 1));
    token.tag.fill(static_cast<std::uint8_t>(n * 11 + 2));
    return token;
}

// Record bytes that name their owner and edition in every word, so that a torn copy shows. Created
// at `created`, no limits of its own: words 1 and 3 are where the sweep reads them.
struct RecordBytes {
    std::array<std::uint8_t, 2048> bytes{};
    std::size_t size = 0;
    operator ByteView() const { return ByteView(bytes).first(size); }
};

// Leaves room for some thousand editions, and for a byte 2 (flags) that says nothing.
inline std::uint64_t owner(std::uint64_t n) {
    return scramble(n) & ~std::uint64_t{0xffffff};
}

inline RecordBytes record_of(std::uint64_t n, std::uint64_t edition, std::size_t size,
                             TimeMs created = kNow) {
    RecordBytes record;
    record.size = size;
    for (std::size_t at = 0; at + 8 <= record.bytes.size(); at += 8) {
        store_le<std::uint64_t>(record.bytes.data() + at, owner(n) + edition * 0x100 + at);
    }
    store_le<std::uint64_t>(record.bytes.data() + 8, static_cast<std::uint64_t>(created));
    store_le<std::uint64_t>(record.bytes.data() + 24, 0);
    return record;
}

// The edition in which a copy is consistent, or nothing when it is torn.
inline std::optional<std::uint64_t> edition_of(std::uint64_t n, ByteView copy) {
    const std::uint64_t first = load_le<std::uint64_t>(copy.data()) - owner(n);
    const std::uint64_t edition = first / 0x100;
    const RecordBytes expected = record_of(
        n, edition, copy.size(), static_cast<TimeMs>(load_le<std::uint64_t>(copy.data() + 8)));
    if (std::memcmp(copy.data(), expected.bytes.data(), copy.size()) != 0) {
        return std::nullopt;
    }
    return edition;
}

struct Seen {
    FindResult result = FindResult::busy;
    SessionView view;
    std::optional<std::uint64_t> edition;
};

inline Seen look(const Table& table, std::uint64_t n) {
    Seen seen;
    std::array<std::uint8_t, 2048> record;
    seen.result = table.find(token_of(n).handle, seen.view, record);
    if (seen.result == FindResult::found) {
        seen.edition = edition_of(n, ByteView(record).first(seen.view.record_size));
    }
    return seen;
}

inline bool is_there(const Table& table, std::uint64_t n) {
    const Seen seen = look(table, n);
    return seen.result == FindResult::found && seen.edition &&
           same_token(seen.view.token, token_of(n));
}

inline InsertResult add(const Table& table, std::uint64_t n, std::size_t size,
                        TimeMs last_seen = kNow, TimeMs now = kNow) {
    const Token token = token_of(n);
    LockedShard shard = table.lock(token.handle);
    return table.insert(shard, token, record_of(n, 0, size, last_seen), last_seen, kLimits, now);
}

// nullptr when everything holds, else what does not.
inline const char* broken_invariant(const Table& table) {
    for (std::size_t s = 0; s < table.shard_count(); ++s) {
        LockedShard locked = table.lock_shard(s);
        const ShardView& shard = locked.shard();
        const std::uint32_t cells = shard.header->cells;
        static std::array<std::uint8_t, 1 << 16> seen;
        seen.fill(0);
        std::uint32_t live = 0;
        std::uint32_t used = 0;
        for (std::uint32_t b = 0; b < shard.header->buckets; ++b) {
            if (shard.buckets[b].sequence.is_odd()) {
                return "an odd bucket";
            }
            for (std::uint32_t i = shard.buckets[b].head.load(); i != 0;
                 i = shard.cell(i).next.load()) {
                if (!shard.in_range(i) || seen[i]++ != 0) {
                    return "a cell linked twice, or out of range";
                }
                const Cell& cell = shard.cell(i);
                if (!is_head(state_of(cell))) {
                    return "a linked cell that is no session";
                }
                ++live;
                ++used;
                std::uint32_t o = cell.overflow.load();
                for (std::size_t left = cells_for(cell.record_size.load()); left > 1; --left) {
                    if (!shard.in_range(o) || seen[o]++ != 0 ||
                        state_of(shard.cell(o)) != CellState::overflow) {
                        return "a broken overflow chain";
                    }
                    ++used;
                    o = shard.cell(o).overflow.load();
                }
                if (o != 0) {
                    return "an overflow chain that is too long";
                }
            }
        }
        std::uint32_t free = 0;
        for (std::uint32_t i = shard.shard->free_head.load(); i != 0;
             i = shard.cell(i).next.load()) {
            if (!shard.in_range(i) || seen[i]++ != 0 ||
                state_of(shard.cell(i)) != CellState::free) {
                return "a free list with a cell that is not free";
            }
            for (const auto& word : shard.cell(i).credential) {
                if (word.load() != 0) {
                    return "a secret left in a free cell";
                }
            }
            for (const auto& word : shard.cell(i).record) {
                if (word.load() != 0) {
                    return "a record left in a free cell";
                }
            }
            ++free;
        }
        for (std::uint32_t i = 1; i <= cells; ++i) {
            if (seen[i] != 1) {
                return "a lost cell";
            }
            if (shard.cell(i).sequence.is_odd()) {
                return "an odd cell";
            }
        }
        if (live != shard.shard->live.load() || used != shard.shard->used.load() ||
            free + used != cells) {
            return "wrong counts";
        }
        for (std::uint32_t i = 0; i < shard.header->tombstone_sets; ++i) {
            if (shard.sets[i].sequence.is_odd()) {
                return "an odd tombstone set";
            }
        }
    }
    return nullptr;
}

}  // namespace sg::test
