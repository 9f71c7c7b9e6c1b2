// One batch of operations in memcached: rounds of reading and writing until every operation has its
// answer, or there is no time left.
#pragma once

#include <cstddef>
#include <span>

#include "store/byte_arena.h"
#include "store/memcached_batch.h"
#include "store/memcached_exchange.h"
#include "store/placement.h"
#include "store/store.h"

namespace sg {

class MemcachedRounds {
  public:
    MemcachedRounds(MemcachedCodec& codec, MemcachedExchange& exchange, StoreHealth& health,
                    const Placement& placement) noexcept
        : codec_(codec), exchange_(exchange), health_(health), placement_(placement) {}

    // `longest`: how long an entry may live.
    void open(std::size_t replicas, TimeMs longest) noexcept {
        replicas_ = replicas;
        longest_ = longest;
    }

    // The exchange's batch has begun, at `now`.
    void carry_out(std::span<StoreOp> batch, TimeMs now) noexcept;

    // Afterwards, in the order of the batch; none when memory was out.
    std::span<MemcachedTask> tasks() noexcept { return batch_.tasks(); }
    std::span<MemcachedReplica> replicas(const MemcachedTask& task) const noexcept {
        return batch_.replicas(task);
    }

  private:
    void create_unread() noexcept;
    bool round() noexcept;
    void ask(MemcachedTask& task) noexcept;
    void hear(MemcachedTask& task) noexcept;
    void hear_state(MemcachedTask& task, MemcachedReplica& replica,
                    const MemcachedExchange::Question& question) noexcept;
    void hear_activity(MemcachedTask& task, MemcachedReplica& replica,
                       const MemcachedExchange::Question& question) noexcept;
    void settle(MemcachedTask& task) noexcept;
    void finish(MemcachedTask& task) noexcept;
    void write(MemcachedTask& task) noexcept;
    void write_activities(const MemcachedTask& task) noexcept;
    ByteView seal(const StoreEntry& entry, const StoreOp& op) noexcept;
    void remember_missed(const MemcachedTask& task) noexcept;

    MemcachedCodec& codec_;
    MemcachedExchange& exchange_;
    StoreHealth& health_;
    const Placement& placement_;
    MemcachedBatch batch_;
    std::size_t replicas_ = 1;
    TimeMs longest_ = 0;
    BytesBox plain_;
    ByteArena sealed_;
    TimeMs now_ = 0;
};

}  // namespace sg
