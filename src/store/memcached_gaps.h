// What one server missed: the keys of writes that reached other replicas and not this one. Until
// they have been written there, its NOT_FOUND means nothing for them. Bounded: of a server that
// misses more than fits, no NOT_FOUND is believed until everything missed has expired.
#pragma once

#include <cstddef>
#include <memory>

#include "core/store_key.h"
#include "core/time_ms.h"

namespace sg {

class MemcachedGaps {
  public:
    struct Missed {
        StoreKey key{};
        std::uint8_t key_id = 0;
    };

    static constexpr std::size_t kMost = 512;

    // `longest`: no entry lives longer than that.
    void open(TimeMs longest) noexcept { longest_ = longest; }

    void add(const StoreKey& key, std::uint8_t key_id, TimeMs now) noexcept;
    void remove(const StoreKey& key) noexcept;

    bool is_empty() const noexcept { return count_ == 0; }
    std::size_t count() const noexcept { return count_; }
    const Missed& operator[](std::size_t i) const noexcept { return missed_[i]; }

    // Whether the server may have missed this key.
    bool may_miss(const StoreKey& key, TimeMs now) const noexcept;

  private:
    std::size_t find(const StoreKey& key) const noexcept;

    std::unique_ptr<Missed[]> missed_;
    std::size_t count_ = 0;
    TimeMs longest_ = 0;
    TimeMs all_until_ = 0;  // every key may be missing until then
};

}  // namespace sg
