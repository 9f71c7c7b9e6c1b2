// The canary: one small sealed entry of the realm on every server, asked for last in every
// question. Where it is missing, the server has come up empty (or has evicted it), and its
// NOT_FOUND is not believed until the nodes have had time to write back what they know. Where it
// arrives, the answer to the question was read to its end: libmemcached alone cannot tell "nothing
// there" from some errors.
//
// It is an entry of kind activity: last_seen is when it was put there (born), the version's node a
// random number (epoch).
#pragma once

#include <array>
#include <cstddef>

#include "store/memcached_codec.h"
#include "store/memcached_store.h"

namespace sg {

class MemcachedCanary {
  public:
    // `reseeding`: how old it must be to vouch for what is not there; 0: it need only be there.
    void open(const StoreKey& key, std::uint8_t key_id, TimeMs reseeding) noexcept;

    const MemcachedName& name() const noexcept { return name_; }

    // A new one, sealed. False: no memory, no random bytes.
    bool make(MemcachedCodec& codec, TimeMs now, ByteArena& out, ByteArena::Place& place) noexcept;

    enum class Tells : std::uint8_t {
        certain,  // what is not there has never been there, or has ended
        young,    // not yet
        damaged,  // it cannot be read: put a new one in its place
    };

    // What the one found on `server` tells. Reads it once: it hardly ever changes.
    Tells look(MemcachedCodec& codec, std::size_t server, ByteView sealed, TimeMs now) noexcept;

    // When it was put on `server`; 0: not known.
    TimeMs born(std::size_t server) const noexcept { return known_[server].born; }

  private:
    static constexpr std::size_t kLargest = kEntryFixedBytes + kSealBytes;

    struct Known {
        std::array<std::uint8_t, kLargest> sealed{};
        std::size_t size = 0;
        TimeMs born = 0;
    };

    MemcachedName name_{};
    StoreKey key_{};
    std::uint8_t key_id_ = 0;
    TimeMs reseeding_ = 0;
    std::array<Known, kMaxServers> known_{};
};

}  // namespace sg
