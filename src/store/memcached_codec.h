// Entries as they lie in memcached: sealed, under short ASCII names made of the store key, with a
// time to live.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base64url.h"
#include "core/random_pool.h"
#include "core/seal.h"
#include "store/byte_arena.h"
#include "store/health.h"
#include "store/store.h"

namespace sg {

// What lies under one store key. The letter is a part of the name.
enum class MemcachedSlot : char {
    state = 's',      // session or tombstone
    activity = 'a',   //
    canary = 'c',     // one for each server and realm, see memcached_canary.h
    feed_head = 'h',  // likewise, see memcached_feed.h
    feed_slot = 'f',  //
};

// "sg:s:" and the store key in base64url.
inline constexpr std::size_t kMemcachedNameSize = 5 + base64url_chars(sizeof(StoreKey));
using MemcachedName = std::array<char, kMemcachedNameSize>;

MemcachedName memcached_name(MemcachedSlot slot, const StoreKey& key) noexcept;
// The same from another name of that key.
MemcachedName memcached_name(MemcachedSlot slot, const MemcachedName& other) noexcept;

// As memcached takes it: seconds from now, or beyond 30 days a date. A little later than `expires`,
// which we look at ourselves.
std::int64_t memcached_expiry(TimeMs expires, TimeMs now) noexcept;

class MemcachedCodec {
  public:
    explicit MemcachedCodec(StoreHealth& health) noexcept;

    bool load(const SealKeys& keys) noexcept;

    // Appends the sealed entry. False, and the fault counted: it cannot be written.
    bool seal(const StoreEntry& entry, const StoreKey& key, std::uint8_t key_id, ByteArena& out,
              ByteArena::Place& place) noexcept;

    // Opens and decodes. False, and the fault counted: it is damaged, or newer than this module.
    bool open_state(const StoreKey& key, ByteView sealed, BytesBox& plain,
                    StoreEntry& entry) noexcept;
    bool open_activity(const StoreKey& key, ByteView sealed, StoreEntry& entry) noexcept;

    // The same for what is no entry. Empty: it does not open.
    bool seal_bytes(const StoreKey& key, EntryKind kind, std::uint8_t key_id, ByteView plain,
                    ByteArena& out, ByteArena::Place& place) noexcept;
    ByteView open_bytes(const StoreKey& key, EntryKind kind, ByteView sealed,
                        ByteSpan plain) noexcept;

  private:
    bool open(const StoreKey& key, EntryKind kind, ByteView sealed, ByteSpan plain,
              StoreEntry& entry) noexcept;

    StoreHealth& health_;
    Sealer sealer_;
    RandomPool random_;
    BytesBox plain_;
};

}  // namespace sg
