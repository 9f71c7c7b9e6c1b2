#include "store/memcached_codec.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>

namespace sg {
namespace {

constexpr std::int64_t kLongestRelative = std::int64_t{30} * 24 * 3600;
constexpr std::size_t kSlotAt = 3;  // of a name
// memcached's clock moves once a second, and it rounds down.
constexpr std::int64_t kSlack = 2;

bool system_random(ByteSpan out) noexcept {
    return RAND_bytes(out.data(), static_cast<int>(out.size())) == 1;
}

std::int64_t whole_seconds(TimeMs time) noexcept {
    return time / kSecond + (time % kSecond > 0 ? 1 : 0);
}

StoreFault fault_of(EntryRead read) noexcept {
    if (read == EntryRead::newer_layout) {
        return StoreFault::newer_layout;
    }
    return read == EntryRead::wrong_key ? StoreFault::wrong_key : StoreFault::bad_seal;
}

}  // namespace

MemcachedName memcached_name(MemcachedSlot slot, const StoreKey& key) noexcept {
    MemcachedName name{'s', 'g', ':', static_cast<char>(slot), ':'};
    base64url_encode(key, std::span(name).subspan(5));
    return name;
}

MemcachedName memcached_name(MemcachedSlot slot, const MemcachedName& other) noexcept {
    MemcachedName name = other;
    name[kSlotAt] = static_cast<char>(slot);
    return name;
}

std::int64_t memcached_expiry(TimeMs expires, TimeMs now) noexcept {
    const std::int64_t seconds = whole_seconds(expires - now) + kSlack;
    return seconds <= kLongestRelative ? seconds : whole_seconds(expires) + kSlack;
}

MemcachedCodec::MemcachedCodec(StoreHealth& health) noexcept
    : health_(health), random_(&system_random) {}

bool MemcachedCodec::load(const SealKeys& keys) noexcept {
    return sealer_.load(keys) && plain_.resize(kMaxEntryBytes);
}

bool MemcachedCodec::seal(const StoreEntry& entry, const StoreKey& key, std::uint8_t key_id,
                          ByteArena& out, ByteArena::Place& place) noexcept {
    const std::size_t size = encode_entry(entry, key, plain_.span());
    const ByteSpan plain = plain_.span().first(size);
    const bool sealed = size != 0 && seal_bytes(key, entry.kind, key_id, plain, out, place);
    OPENSSL_cleanse(plain.data(), plain.size());
    if (!sealed) {
        count_fault(health_, StoreFault::bad_seal);
    }
    return sealed;
}

bool MemcachedCodec::seal_bytes(const StoreKey& key, EntryKind kind, std::uint8_t key_id,
                                ByteView plain, ByteArena& out, ByteArena::Place& place) noexcept {
    std::array<std::uint8_t, kNonceBytes> nonce;
    if (!random_.take(nonce) || !out.append(plain.size() + kSealBytes, place)) {
        return false;
    }
    const bool sealed =
        sealer_.seal(key_id, key, kind, plain, nonce, out.span(place)) == place.size;
    if (!sealed) {
        out.give_back(place);
    }
    return sealed;
}

ByteView MemcachedCodec::open_bytes(const StoreKey& key, EntryKind kind, ByteView sealed,
                                    ByteSpan plain) noexcept {
    std::size_t size = 0;
    if (sealed.size() > plain.size() + kSealBytes ||
        sealer_.open(key, kind, sealed, plain, size) != Sealer::Opened::ok) {
        count_fault(health_, StoreFault::bad_seal);
        return {};
    }
    return plain.first(size);
}

bool MemcachedCodec::open(const StoreKey& key, EntryKind kind, ByteView sealed, ByteSpan plain,
                          StoreEntry& entry) noexcept {
    std::size_t size = 0;
    switch (sealer_.open(key, kind, sealed, plain, size)) {
        case Sealer::Opened::ok:
            break;
        case Sealer::Opened::newer_layout:
            count_fault(health_, StoreFault::newer_layout);
            return false;
        default:
            count_fault(health_, StoreFault::bad_seal);
            return false;
    }
    EntryRead read = decode_entry(plain.first(size), key, entry);
    if (read == EntryRead::ok && entry.kind != kind) {
        read = EntryRead::damaged;
    }
    if (read != EntryRead::ok) {
        count_fault(health_, fault_of(read));
    }
    return read == EntryRead::ok;
}

// A tombstone is smaller than any session, and all are of one size.
bool MemcachedCodec::open_state(const StoreKey& key, ByteView sealed, BytesBox& plain,
                                StoreEntry& entry) noexcept {
    StoreEntry tombstone;
    tombstone.kind = EntryKind::ended;
    const bool is_ended = sealed.size() == encoded_size(tombstone) + kSealBytes;
    const auto kind = is_ended ? EntryKind::ended : EntryKind::session;
    const std::size_t room = sealed.size() - std::min(sealed.size(), kSealBytes);
    return plain.resize(room) && open(key, kind, sealed, plain.span(), entry);
}

bool MemcachedCodec::open_activity(const StoreKey& key, ByteView sealed,
                                   StoreEntry& entry) noexcept {
    std::array<std::uint8_t, kEntryFixedBytes> plain;
    if (sealed.size() > plain.size() + kSealBytes) {
        count_fault(health_, StoreFault::bad_seal);
        return false;
    }
    return open(key, EntryKind::activity, sealed, plain, entry);
}

}  // namespace sg
