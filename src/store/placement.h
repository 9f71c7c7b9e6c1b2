// Which servers hold a key: rendezvous hashing. Every server has a score for every key, and the
// best scores hold it. So nothing is remembered, all nodes agree whatever the order in their
// configurations, and a server that comes or goes moves its own share of the keys and no other.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/store_key.h"
#include "store/health.h"

namespace sg {

class Placement {
  public:
    // A server is known by its name and port: what is written in the configuration, so it must be
    // written the same on all nodes. False: weight 0, or already kMaxServers.
    bool add(std::string_view name, std::uint16_t port, std::uint16_t weight) noexcept;

    std::size_t count() const noexcept { return count_; }

    // The positions (in the order of `add`) of the servers that hold `key`, best first, all
    // distinct: as many as `out` has room for, count() at most. Returns how many.
    std::size_t place(const StoreKey& key, std::span<std::uint8_t> out) const noexcept;

  private:
    struct Server {
        std::uint64_t seed = 0;
        double share = 0;  // 1 / weight
    };

    std::array<Server, kMaxServers> servers_{};
    std::size_t count_ = 0;
};

}  // namespace sg
