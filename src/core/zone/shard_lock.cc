#include "core/zone/shard_lock.h"

#include <cerrno>
#include <cstdlib>
#include <ctime>

namespace sg {
namespace {

constexpr long kLongestSleepNs = 20'000'000;
constexpr long kSecondNs = 1'000'000'000;

// A waiter that is killed when it has just been woken takes the wake-up with it, where somebody
// else has taken the lock meanwhile: the kernel passes it on only if the lock is free then. Nobody
// must sleep for ever because of that, so a waiter looks again by itself.
int lock_patiently(pthread_mutex_t& mutex) noexcept {
    int error = pthread_mutex_trylock(&mutex);
    while (error == EBUSY || error == ETIMEDOUT) {
        timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += kLongestSleepNs;
        until.tv_sec += until.tv_nsec / kSecondNs;
        until.tv_nsec %= kSecondNs;
        error = pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &until);
    }
    return error;
}

}  // namespace

LockedShard::LockedShard(const ShardView& shard) noexcept : shard_(shard) {
    const int error = lock_patiently(shard_.shard->mutex);
    if (error == EOWNERDEAD) {
        repair_shard(shard_);
        pthread_mutex_consistent(&shard_.shard->mutex);
        recovered_ = true;
    } else if (error != 0) {
        std::abort();  // the mutex itself is damaged: nothing in this zone can be trusted
    }
}

LockedShard::~LockedShard() {
    pthread_mutex_unlock(&shard_.shard->mutex);
}

bool init_shard_mutex(Shard& shard) noexcept {
    pthread_mutexattr_t attributes;
    if (pthread_mutexattr_init(&attributes) != 0) {
        return false;
    }
    const bool ok = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0 &&
                    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0 &&
                    pthread_mutex_init(&shard.mutex, &attributes) == 0;
    pthread_mutexattr_destroy(&attributes);
    return ok;
}

}  // namespace sg
