// The health of a realm's store, in the realm's zone: shared by all workers and their threads.
// Standard layout, lock-free atomics of at most 8 bytes, no pointers.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/breaker.h"
#include "store/memcached_gaps.h"
#include "store/store.h"

namespace sg {

struct StoreHealth {
    std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(StoreFault::count_)> faults{};
    std::array<Breaker, kMaxServers>
        breakers{};  // by position in the configuration; LMDB: the first
    // When each server came up empty, as its canary tells (memcached_canary.h); 0: not known yet.
    std::array<std::atomic<TimeMs>, kMaxServers> born{};
    MemcachedGaps gaps;
    std::atomic<std::uint64_t> servers{0};  // which ones: a digest of the configuration's list
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free &&
              std::atomic<TimeMs>::is_always_lock_free);

inline void count_fault(StoreHealth& health, StoreFault fault) noexcept {
    health.faults[static_cast<std::size_t>(fault)].fetch_add(1, std::memory_order_relaxed);
}

}  // namespace sg
