// Memcached through libmemcached, for many nodes. ASCII protocol, TCP_NODELAY or Unix sockets, both
// timeouts set, no auto-eject; placement by rendezvous hashing with one handle per server, so that
// a dead server never moves a key. See docs/stores.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "core/seal.h"
#include "store/health.h"
#include "store/store.h"

namespace sg {

struct MemcachedServer {
    std::string_view host;   // name, address, or the absolute path of a Unix-domain socket
    std::uint16_t port = 0;  // 0: a Unix-domain socket
    std::uint16_t weight = 1;
};

// Everything it points to outlives every store made from it.
struct MemcachedConf {
    std::array<MemcachedServer, kMaxServers> servers;
    std::size_t count = 0;
    std::size_t replicas = 1;  // 1 ... count
    TimeMs connect_timeout = 50;
    TimeMs timeout = 50;          // of one exchange (libmemcached's poll timeout)
    TimeMs longest_absolute = 0;  // the realm's absolute timeout: how long an entry may live

    // Names the realm's canary on every server (KeyRing::store_key of a public id that nobody has),
    // so that realms which share a server have one each.
    StoreKey canary{};
    // How long after a server came up empty its NOT_FOUND is not believed: what the nodes need to
    // write back what they know. 0: it is believed at once.
    TimeMs reseeding = 0;
};

// nullptr when memory or OpenSSL fail, or the configuration names no server. Connects lazily.
// `health` is shared; `keys` are copied.
std::unique_ptr<Store> make_memcached_store(const MemcachedConf& conf, const SealKeys& keys,
                                            StoreHealth& health) noexcept;

}  // namespace sg
