// What servers missed: the keys of writes that reached other replicas and not them. Until they have
// been written there, a server's NOT_FOUND means nothing for them. Bounded: where more was missed
// than fits, no NOT_FOUND of that server is believed until everything that was missed has expired.
//
// In shared memory, for all workers and threads of the node: whoever comes next puts it right, also
// after the one that noted it has been killed. Under a robust lock that nobody waits for long: its
// holder may be stopped.
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/store_key.h"
#include "core/time_ms.h"

namespace sg {

inline constexpr std::size_t kMaxServers = 16;

class MemcachedGaps {
  public:
    struct Missed {
        StoreKey key{};
        std::uint8_t key_id = 0;
        std::uint16_t servers = 0;  // one bit for each
    };

    static constexpr std::size_t kMost = 256;  // keys, of all servers

    MemcachedGaps() noexcept;
    MemcachedGaps(const MemcachedGaps&) = delete;
    MemcachedGaps& operator=(const MemcachedGaps&) = delete;

    // Acknowledge a write only when what missed it has been added. `longest`: no entry lives
    // longer.
    void add(std::size_t server, const StoreKey& key, std::uint8_t key_id, TimeMs now,
             TimeMs longest) noexcept;
    void remove(std::size_t server, const StoreKey& key) noexcept;

    // It could not be written there yet: the others first.
    void defer(const StoreKey& key) noexcept;

    // The servers are others now: what was missed is not known of any of them.
    void renumber(TimeMs now, TimeMs longest) noexcept;

    bool is_empty() const noexcept { return count_.load(std::memory_order_acquire) == 0; }

    // What a server missed, as many as `out` has room for. What is added later comes later.
    std::size_t of_server(std::size_t server, std::span<Missed> out) noexcept;

    // Whether the server may have missed this key.
    bool may_miss(std::size_t server, const StoreKey& key, TimeMs now) noexcept;

  private:
    class Lock;

    std::uint32_t find(const StoreKey& key) const noexcept;
    void doubt(std::size_t server, TimeMs now, TimeMs longest) noexcept;

    pthread_mutex_t mutex_;
    std::atomic<std::uint32_t> count_{0};
    std::array<Missed, kMost> missed_{};
    std::array<std::atomic<TimeMs>, kMaxServers>
        all_until_{};  // every key may be missing until then
};

}  // namespace sg
