// ThreadSanitizer (of gcc 12 and clang 14) does not know the calls that wait for a lock by a chosen
// clock, and would take what is done under such a lock for a race. Linked into its programs only:
// the same by the calls that it does know, which go by the time of day.
#include <pthread.h>
#include <time.h>

namespace {

constexpr long kSecondNs = 1'000'000'000;

timespec as_time_of_day(clockid_t clock, const timespec& until) {
    timespec before;
    timespec now;
    clock_gettime(clock, &before);
    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec += until.tv_sec - before.tv_sec;
    now.tv_nsec += until.tv_nsec - before.tv_nsec;
    if (now.tv_nsec < 0) {
        now.tv_nsec += kSecondNs;
        --now.tv_sec;
    } else if (now.tv_nsec >= kSecondNs) {
        now.tv_nsec -= kSecondNs;
        ++now.tv_sec;
    }
    return now;
}

}  // namespace

extern "C" int pthread_mutex_clocklock(pthread_mutex_t* mutex, clockid_t clock,
                                       const timespec* until) noexcept {
    const timespec time = as_time_of_day(clock, *until);
    return pthread_mutex_timedlock(mutex, &time);
}

extern "C" int pthread_rwlock_clockrdlock(pthread_rwlock_t* lock, clockid_t clock,
                                          const timespec* until) noexcept {
    const timespec time = as_time_of_day(clock, *until);
    return pthread_rwlock_timedrdlock(lock, &time);
}

extern "C" int pthread_rwlock_clockwrlock(pthread_rwlock_t* lock, clockid_t clock,
                                          const timespec* until) noexcept {
    const timespec time = as_time_of_day(clock, *until);
    return pthread_rwlock_timedwrlock(lock, &time);
}
