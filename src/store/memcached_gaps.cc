#include "store/memcached_gaps.h"

#include <time.h>

#include <algorithm>
#include <cerrno>

namespace sg {
namespace {

constexpr long kLongestWaitNs = 5'000'000;

std::uint16_t bit_of(std::size_t server) noexcept {
    return static_cast<std::uint16_t>(1u << server);
}

}  // namespace

// Killed between two stores, a holder leaves a list that can be read all the same: an entry counts
// from when the count says so, and one that is there twice does no harm.
class MemcachedGaps::Lock {
  public:
    explicit Lock(MemcachedGaps& gaps) noexcept : mutex_(gaps.mutex_) {
        timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += kLongestWaitNs;
        if (until.tv_nsec >= 1'000'000'000) {
            until.tv_nsec -= 1'000'000'000;
            ++until.tv_sec;
        }
        const int rc = pthread_mutex_timedlock(&mutex_, &until);
        if (rc == EOWNERDEAD) {
            pthread_mutex_consistent(&mutex_);
        }
        held_ = rc == 0 || rc == EOWNERDEAD;
    }
    ~Lock() {
        if (held_) {
            pthread_mutex_unlock(&mutex_);
        }
    }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;

    explicit operator bool() const noexcept { return held_; }

  private:
    pthread_mutex_t& mutex_;
    bool held_ = false;
};

MemcachedGaps::MemcachedGaps() noexcept {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&mutex_, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

// count_: it is not there.
std::uint32_t MemcachedGaps::find(const StoreKey& key) const noexcept {
    const std::uint32_t count = std::min<std::uint32_t>(count_.load(), kMost);
    const auto* const first = missed_.data();
    return static_cast<std::uint32_t>(
        std::find_if(first, first + count, [&key](const Missed& one) { return one.key == key; }) -
        first);
}

void MemcachedGaps::add(std::size_t server, const StoreKey& key, std::uint8_t key_id, TimeMs now,
                        TimeMs longest) noexcept {
    const Lock lock(*this);
    const std::uint32_t count = count_.load();
    const std::uint32_t at = lock ? find(key) : kMost;
    if (at < count) {
        missed_[at].servers |= bit_of(server);
    } else if (lock && count < kMost) {
        missed_[count] = {.key = key, .key_id = key_id, .servers = bit_of(server)};
        count_.store(count + 1, std::memory_order_release);
    } else {
        doubt(server, now, longest);
    }
}

// A tombstone outlives its session by five minutes.
void MemcachedGaps::doubt(std::size_t server, TimeMs now, TimeMs longest) noexcept {
    std::atomic<TimeMs>& until = all_until_[server];
    until.store(std::max(until.load(), now + longest + 5 * kMinute));
}

void MemcachedGaps::defer(const StoreKey& key) noexcept {
    const Lock lock(*this);
    const std::uint32_t at = lock ? find(key) : kMost;
    const std::uint32_t count = count_.load();
    if (lock && at < count) {
        std::rotate(missed_.begin() + at, missed_.begin() + at + 1, missed_.begin() + count);
    }
}

void MemcachedGaps::renumber(TimeMs now, TimeMs longest) noexcept {
    const auto doubted = [now](const std::atomic<TimeMs>& until) { return now < until.load(); };
    if (!is_empty() || std::any_of(all_until_.begin(), all_until_.end(), doubted)) {
        for (std::size_t i = 0; i < all_until_.size(); ++i) {
            doubt(i, now, longest);
        }
    }
}

void MemcachedGaps::remove(std::size_t server, const StoreKey& key) noexcept {
    const Lock lock(*this);
    const std::uint32_t at = lock ? find(key) : kMost;
    const std::uint32_t count = count_.load();
    if (!lock || at >= count) {
        return;
    }
    missed_[at].servers &= static_cast<std::uint16_t>(~bit_of(server));
    if (missed_[at].servers == 0) {
        // The others keep their order: what could not be put right waits behind them.
        std::move(missed_.begin() + at + 1, missed_.begin() + count, missed_.begin() + at);
        count_.store(count - 1, std::memory_order_release);
    }
}

std::size_t MemcachedGaps::of_server(std::size_t server, std::span<Missed> out) noexcept {
    const Lock lock(*this);
    std::size_t found = 0;
    const std::uint32_t count = lock ? std::min<std::uint32_t>(count_.load(), kMost) : 0;
    for (std::uint32_t i = 0; i < count && found < out.size(); ++i) {
        if ((missed_[i].servers & bit_of(server)) != 0) {
            out[found++] = missed_[i];
        }
    }
    return found;
}

bool MemcachedGaps::may_miss(std::size_t server, const StoreKey& key, TimeMs now) noexcept {
    if (now < all_until_[server].load()) {
        return true;
    }
    if (is_empty()) {
        return false;
    }
    const Lock lock(*this);
    const std::uint32_t at = lock ? find(key) : 0;
    return !lock || (at < count_.load() && (missed_[at].servers & bit_of(server)) != 0);
}

}  // namespace sg
