#include "core/zone/shard_lock.h"

#include <cerrno>
#include <cstdlib>

namespace sg {

LockedShard::LockedShard(const ShardView& shard) noexcept : shard_(shard) {
    const int error = pthread_mutex_lock(&shard_.shard->mutex);
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
