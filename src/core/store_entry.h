// What the second tier keeps under one key: a session, the tombstone of an ended one, or the last
// activity of a session. Plain bytes here; core/seal.h seals them. See docs/formats.md.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

#include "core/bytes.h"
#include "core/store_key.h"
#include "core/time_ms.h"
#include "core/token.h"
#include "core/zone/table.h"

namespace sg {

// What the second tier said about one key. Never fold `unknown` into `absent`.
enum class StoreAnswer : std::uint8_t { unknown, absent, found };

enum class EntryKind : std::uint8_t {
    session = 1,
    ended = 2,     // absorbing: nothing replaces it but its own end of life
    activity = 3,  // last seen, in an entry of its own so that a touch rewrites 100 bytes only
};

// Orders the states of one session: larger counter, then larger node. A session's counter grows
// with every change (Record::change_counter); a replaced session is later than all of its changes.
struct Version {
    static constexpr std::uint32_t kReplaced = 1U << 31;

    std::uint32_t counter = 0;
    std::uint64_t node = 0;
    auto operator<=>(const Version&) const noexcept = default;  // NOLINT(modernize-use-nullptr)
};

struct StoreEntry {
    EntryKind kind = EntryKind::session;
    Version version;
    TimeMs expires = 0;  // wall clock; the store may forget the entry then

    // session
    Token token;
    TimeMs last_seen = 0;  // activity too
    TimeMs superseded_until = 0;
    Handle successor{};  // when superseded_until != 0
    ByteView record;     // points into whatever the entry was decoded from or composed of

    // ended
    Departure why = Departure::ended;
};

inline constexpr std::uint8_t kEntryVersion = 1;
inline constexpr std::size_t kEntryFixedBytes = 124;  // session without its record: the largest
inline constexpr std::size_t kMaxEntryRecord = 40 * 1024;
inline constexpr std::size_t kMaxEntryBytes = kEntryFixedBytes + kMaxEntryRecord;

// Bytes `encode_entry` will write.
std::size_t encoded_size(const StoreEntry& entry) noexcept;

// Writes the entry with `key` inside, so that a reply that belongs to another key is noticed; of
// the fields, those of its kind. Returns the bytes written, 0 when `out` is too small, a time
// negative, or the record of a session empty or larger than kMaxEntryRecord.
std::size_t encode_entry(const StoreEntry& entry, const StoreKey& key, ByteSpan out) noexcept;

enum class EntryRead : std::uint8_t {
    ok,
    newer_layout,  // written by a newer module: *unknown*, never *absent*
    wrong_key,     // well-formed, but somebody else's: a mixed-up reply
    damaged,
};

// Strict: anything encode_entry does not write is refused; the record itself is not looked into.
// Fields of other kinds are as in a StoreEntry{}. `entry` is unspecified unless ok.
EntryRead decode_entry(ByteView bytes, const StoreKey& key, StoreEntry& entry) noexcept;

// Whether a change to `a` may go over `b`: it must come after everything that `b` has been through.
// Two changes that were made from one state do not replace each other: the later one must be made
// again from what is there.
bool overtakes(const StoreEntry& a, const StoreEntry& b) noexcept;

// Whether `a` replaces `b` where both are known, on two replicas: ended beats live and is never
// replaced; between live ones the larger version. Equal versions do not replace each other. Not for
// activity.
bool wins(const StoreEntry& a, const StoreEntry& b) noexcept;

}  // namespace sg
