#include "core/store_entry.h"

#include "core/roster.h"

#include <algorithm>

namespace sg {
namespace {

// Byte table of layout 1 (docs/formats.md). The first 40 bytes are those of every kind: an ended
// entry ends there, an activity 8 bytes later. A new kind or field needs a new layout number.
enum : std::size_t {
    kLayoutAt = 0,
    kKindAt = 1,
    kWhyAt = 2,  // 0 unless ended
    kReservedAt = 3,
    kCounterAt = 4,
    kNodeAt = 8,
    kStoreKeyAt = 16,
    kExpiresAt = 32,
    kEndOfEnded = 40,
    kLastSeenAt = 40,
    kEndOfActivity = 48,
    kSupersededUntilAt = 48,
    kSuccessorAt = 56,  // zero unless superseded
    kTokenAt = 72,
    kRecordLengthAt = 120,
    kEndOfFixed = 124,
};
static_assert(kEndOfFixed == kEntryFixedBytes);
static_assert(kTokenAt + kTokenBytes == kRecordLengthAt);

std::size_t fixed_size(EntryKind kind) noexcept {
    switch (kind) {
        case EntryKind::session:
            return kEndOfFixed;
        case EntryKind::ended:
            return kEndOfEnded;
        case EntryKind::activity:
            return kEndOfActivity;
    }
    return 0;  // no kind of this layout
}

bool valid_departure(Departure why) noexcept {
    return why >= Departure::ended && why <= Departure::expired_absolute;
}

// What encode_entry refuses and decode_entry therefore never sees in an entry of ours.
bool well_formed(const StoreEntry& entry) noexcept {
    if (entry.expires < 0) {
        return false;
    }
    switch (entry.kind) {
        case EntryKind::session:
            return entry.last_seen >= 0 && entry.superseded_until >= 0 && !entry.record.empty() &&
                   entry.record.size() <= kMaxEntryRecord;
        case EntryKind::ended:
            return valid_departure(entry.why);
        case EntryKind::activity:
            return entry.last_seen >= 0;
    }
    return false;
}

void store_time(std::uint8_t* to, TimeMs time) noexcept {
    store_le<std::uint64_t>(to, static_cast<std::uint64_t>(time));
}

TimeMs load_time(const std::uint8_t* from) noexcept {
    return static_cast<TimeMs>(load_le<std::uint64_t>(from));
}

void encode_session(const StoreEntry& entry, std::uint8_t* to) noexcept {
    const bool superseded = entry.superseded_until != 0;
    store_time(to + kSupersededUntilAt, entry.superseded_until);
    const Handle successor = superseded ? entry.successor : Handle{};
    std::copy(successor.begin(), successor.end(), to + kSuccessorAt);
    std::memcpy(to + kTokenAt, &entry.token, kTokenBytes);
    store_le<std::uint32_t>(to + kRecordLengthAt, static_cast<std::uint32_t>(entry.record.size()));
    std::copy(entry.record.begin(), entry.record.end(), to + kEndOfFixed);
}

bool decode_session(ByteView bytes, StoreEntry& entry) noexcept {
    const std::uint8_t* const from = bytes.data();
    entry.superseded_until = load_time(from + kSupersededUntilAt);
    std::copy_n(from + kSuccessorAt, entry.successor.size(), entry.successor.begin());
    std::memcpy(&entry.token, from + kTokenAt, kTokenBytes);
    entry.record = bytes.subspan(kEndOfFixed);
    return load_le<std::uint32_t>(from + kRecordLengthAt) == entry.record.size() &&
           (entry.superseded_until != 0 || entry.successor == Handle{});
}

// Everything but layout and key. The sizes of the kinds are checked before anything is read.
bool decode_fields(ByteView bytes, StoreEntry& entry) noexcept {
    const std::uint8_t* const from = bytes.data();
    entry = StoreEntry{};
    entry.kind = static_cast<EntryKind>(from[kKindAt]);
    const std::size_t fixed = fixed_size(entry.kind);
    const bool is_session = entry.kind == EntryKind::session;
    const bool is_ended = entry.kind == EntryKind::ended;
    if (fixed == 0 || bytes.size() < fixed || (!is_session && bytes.size() != fixed) ||
        from[kReservedAt] != 0 || (!is_ended && from[kWhyAt] != 0)) {
        return false;
    }
    entry.version.counter = load_le<std::uint32_t>(from + kCounterAt);
    entry.version.node = load_le<std::uint64_t>(from + kNodeAt);
    entry.expires = load_time(from + kExpiresAt);
    if (is_ended) {
        entry.why = static_cast<Departure>(from[kWhyAt]);
    } else {
        entry.last_seen = load_time(from + kLastSeenAt);
    }
    return (!is_session || decode_session(bytes, entry)) && well_formed(entry);
}

}  // namespace

std::size_t encoded_size(const StoreEntry& entry) noexcept {
    return fixed_size(entry.kind) + (entry.kind == EntryKind::session ? entry.record.size() : 0);
}

std::size_t encode_entry(const StoreEntry& entry, const StoreKey& key, ByteSpan out) noexcept {
    const std::size_t size = encoded_size(entry);
    if (!well_formed(entry) || size > out.size()) {
        return 0;
    }
    std::uint8_t* const to = out.data();
    const bool is_ended = entry.kind == EntryKind::ended;
    to[kLayoutAt] = kEntryVersion;
    to[kKindAt] = static_cast<std::uint8_t>(entry.kind);
    to[kWhyAt] = is_ended ? static_cast<std::uint8_t>(entry.why) : std::uint8_t{0};
    to[kReservedAt] = 0;
    store_le<std::uint32_t>(to + kCounterAt, entry.version.counter);
    store_le<std::uint64_t>(to + kNodeAt, entry.version.node);
    std::copy(key.begin(), key.end(), to + kStoreKeyAt);
    store_time(to + kExpiresAt, entry.expires);
    if (!is_ended) {
        store_time(to + kLastSeenAt, entry.last_seen);
    }
    if (entry.kind == EntryKind::session) {
        encode_session(entry, to);
    }
    return size;
}

EntryRead decode_entry(ByteView bytes, const StoreKey& key, StoreEntry& entry) noexcept {
    if (!bytes.empty() && bytes[kLayoutAt] > kEntryVersion) {
        return EntryRead::newer_layout;
    }
    if (bytes.size() < kEndOfEnded || bytes[kLayoutAt] != kEntryVersion ||
        !decode_fields(bytes, entry)) {
        return EntryRead::damaged;
    }
    return std::equal(key.begin(), key.end(), bytes.data() + kStoreKeyAt) ? EntryRead::ok
                                                                          : EntryRead::wrong_key;
}

bool overtakes(const StoreEntry& a, const StoreEntry& b) noexcept {
    if (is_roster(a.record)) {
        return b.kind == EntryKind::session && roster_follows(a.record, b.version.node);
    }
    return a.kind == EntryKind::session && b.kind == EntryKind::session &&
           a.version.counter > b.version.counter;
}

bool wins(const StoreEntry& a, const StoreEntry& b) noexcept {
    if (b.kind == EntryKind::ended) {
        return false;
    }
    return a.kind == EntryKind::ended ||
           (a.kind == EntryKind::session && b.kind == EntryKind::session && a.version > b.version);
}

}  // namespace sg
