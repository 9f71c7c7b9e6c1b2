#include "store/memcached_gaps.h"

#include <algorithm>
#include <new>

namespace sg {

std::size_t MemcachedGaps::find(const StoreKey& key) const noexcept {
    const Missed* const first = missed_.get();
    const Missed* const last = first + count_;
    return static_cast<std::size_t>(
        std::find_if(first, last, [&key](const Missed& one) { return one.key == key; }) - first);
}

void MemcachedGaps::add(const StoreKey& key, std::uint8_t key_id, TimeMs now) noexcept {
    if (missed_ == nullptr) {
        missed_.reset(new (std::nothrow) Missed[kMost]);
    }
    if (missed_ != nullptr && find(key) < count_) {
        return;
    }
    if (missed_ == nullptr || count_ == kMost) {
        // A tombstone outlives its session by five minutes.
        all_until_ = std::max(all_until_, now + longest_ + 5 * kMinute);
        return;
    }
    missed_[count_++] = {.key = key, .key_id = key_id};
}

void MemcachedGaps::remove(const StoreKey& key) noexcept {
    const std::size_t at = find(key);
    if (at < count_) {
        missed_[at] = missed_[--count_];
    }
}

bool MemcachedGaps::may_miss(const StoreKey& key, TimeMs now) const noexcept {
    return now < all_until_ || find(key) < count_;
}

}  // namespace sg
