// The one place the module takes its time from: nginx's cached wall clock, in ms since the epoch.
// A test build (SESSION_GUARD_TEST_CLOCK) adds an offset from a file that the test maps too, so
// that tests move the clock instead of sleeping. The release build contains none of it.
#pragma once

#include "nginx/ngx.h"

#include "core/time_ms.h"

namespace sg::ngx {

#if (SESSION_GUARD_TEST_CLOCK)
// Maps the file named by the environment variable SESSION_GUARD_TEST_FILE (64 bytes: int64 offset
// in ms, uint32 "make the random generator fail", uint32 TestStoreState); once, in the master,
// before the fork.
void map_test_file() noexcept;
TimeMs test_clock_offset() noexcept;
bool test_random_fails() noexcept;
enum class TestStoreState : std::uint32_t { works, fails, stalls };
TestStoreState test_store() noexcept;
#else
constexpr TimeMs test_clock_offset() noexcept {
    return 0;
}
constexpr bool test_random_fails() noexcept {
    return false;
}
#endif

inline TimeMs now_ms() noexcept {
    const ngx_time_t* const time = ngx_timeofday();
    return static_cast<TimeMs>(time->sec) * kSecond + static_cast<TimeMs>(time->msec) +
           test_clock_offset();
}

}  // namespace sg::ngx
