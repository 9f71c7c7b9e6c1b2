// How sessions lie in an LMDB file: names, keys and values. See docs/formats.md.
//
//   unnamed db    "session_guard" -> layout u32 | zero u32, and the two named databases
//   "entries"     store key 16 | slot u8      -> expires i64 | kind u8 | sealed entry
//   "expiry"      expires, big-endian, 8 | store key 16 -> nothing; one for each entry in slot 0
//
// The feed lies among the entries: key 8 zero bytes and a number, slots 2 and 3, sealed bytes
// alone.
//
// Slot 0 holds the session or its tombstone, slot 1 its last activity: neighbours, so that one
// descent of the tree reads both. `expires` and `kind` stand in the clear beside what is sealed, so
// that the index can be kept and an entry removed without its key; both are in the sealed part too,
// and that is what counts. Integers are little-endian unless said otherwise.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "core/bytes.h"
#include "core/store_entry.h"
#include "core/time_ms.h"

namespace sg {

inline constexpr std::uint32_t kLmdbLayout = 1;
inline constexpr char kLmdbMark[] = "session_guard";
inline constexpr char kLmdbEntries[] = "entries";
inline constexpr char kLmdbExpiry[] = "expiry";
inline constexpr std::size_t kLmdbMarkBytes = 8;

enum class LmdbSlot : std::uint8_t {
    state = 0,
    activity = 1,
    feed_head = 2,  // of these two, the key is the number in the feed (lmdb_feed.h)
    feed_slot = 3,
};

inline constexpr std::size_t kLmdbPrefixBytes = 8 + 1;

using LmdbEntryKey = std::array<std::uint8_t, sizeof(StoreKey) + 1>;
using LmdbExpiryKey = std::array<std::uint8_t, 8 + sizeof(StoreKey)>;

inline LmdbEntryKey lmdb_entry_key(const StoreKey& key, LmdbSlot slot) noexcept {
    LmdbEntryKey bytes;
    std::copy(key.begin(), key.end(), bytes.begin());
    bytes.back() = static_cast<std::uint8_t>(slot);
    return bytes;
}

inline LmdbExpiryKey lmdb_expiry_key(TimeMs expires, const StoreKey& key) noexcept {
    LmdbExpiryKey bytes;
    const auto time = static_cast<std::uint64_t>(std::max<TimeMs>(expires, 0));
    for (std::size_t i = 0; i < 8; ++i) {
        bytes[i] = static_cast<std::uint8_t>(time >> (56 - 8 * i));
    }
    std::copy(key.begin(), key.end(), bytes.begin() + 8);
    return bytes;
}

inline void lmdb_read_expiry_key(const std::uint8_t* bytes, TimeMs& expires,
                                 StoreKey& key) noexcept {
    std::uint64_t time = 0;
    for (std::size_t i = 0; i < 8; ++i) {
        time = time << 8 | bytes[i];
    }
    expires = static_cast<TimeMs>(time);
    std::copy_n(bytes + 8, key.size(), key.begin());
}

}  // namespace sg
