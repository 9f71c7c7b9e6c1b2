#include "store/memcached_canary.h"

#include <openssl/rand.h>

#include <algorithm>

namespace sg {
namespace {

constexpr TimeMs kClocksDiffer = kMinute;

}  // namespace

void MemcachedCanary::open(const StoreKey& key, std::uint8_t key_id, TimeMs reseeding) noexcept {
    name_ = memcached_name(MemcachedSlot::canary, key);
    key_ = key;
    key_id_ = key_id;
    reseeding_ = reseeding;
}

bool MemcachedCanary::make(MemcachedCodec& codec, TimeMs now, ByteArena& out,
                           ByteArena::Place& place) noexcept {
    std::array<std::uint8_t, sizeof(std::uint64_t)> epoch;
    if (RAND_bytes(epoch.data(), static_cast<int>(epoch.size())) != 1) {
        return false;
    }
    StoreEntry entry;
    entry.kind = EntryKind::activity;
    entry.version.node = load_le<std::uint64_t>(epoch.data());
    entry.last_seen = now;
    return codec.seal(entry, key_, key_id_, out, place);
}

MemcachedCanary::Tells MemcachedCanary::look(MemcachedCodec& codec, std::size_t server,
                                             ByteView sealed, TimeMs now) noexcept {
    if (reseeding_ == 0) {
        return Tells::certain;
    }
    Known& known = known_[server];
    if (!std::ranges::equal(sealed, ByteView(known.sealed).first(known.size))) {
        StoreEntry entry;
        known.size = 0;
        if (sealed.size() > known.sealed.size() || !codec.open_activity(key_, sealed, entry)) {
            return Tells::damaged;
        }
        std::ranges::copy(sealed, known.sealed.begin());
        known.size = sealed.size();
        known.born = entry.last_seen;
    }
    if (known.born - now > kClocksDiffer) {
        return Tells::damaged;  // of a node whose clock is wrong: it would stay young for long
    }
    return now - known.born >= reseeding_ ? Tells::certain : Tells::young;
}

}  // namespace sg
