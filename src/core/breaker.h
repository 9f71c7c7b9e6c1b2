// A circuit breaker for one server, in shared memory: all workers and threads act on one state, so
// that a hung server costs a few timeouts and not one for every request. Lock-free.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/time_ms.h"

namespace sg {

class Breaker {
  public:
    enum class State : std::uint8_t {
        closed,     // everybody may ask
        open,       // nobody may
        half_open,  // a probe is on its way, or the next caller will be one
    };

    static constexpr std::uint32_t kFailuresToOpen = 3;  // in a row
    static constexpr TimeMs kFirstPause = 250;           // doubled after each failed probe
    static constexpr TimeMs kLongestPause = 2 * kSecond;
    static constexpr TimeMs kLongestDelay = 4 * kLongestPause;  // after a clock was set back

    // Whether the server may be asked now. While open: one caller per pause is let through as a
    // probe (half-open); it must report with `succeeded` or `failed`. A prober that dies without
    // reporting is followed by another after kLongestPause. A clock that is set back delays the
    // next probe by kLongestDelay at most. `now` should be fresh, the pauses count from it; one
    // that is up to six seconds old makes no second probe.
    bool allows(TimeMs now) noexcept;

    // Reports of everybody who was allowed. One success closes it, whoever reports it; failures
    // that come in late, while it is open, change nothing.
    void succeeded() noexcept;
    void failed(TimeMs now) noexcept;

    State state(TimeMs now) const noexcept;

  private:
    // All of it in one word, so that every step is one compare-and-swap and a process killed
    // between two steps leaves nothing half done; see breaker.cc. Zero: closed.
    std::atomic<std::uint64_t> word_{0};
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace sg
