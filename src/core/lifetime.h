// Idle and absolute timeouts as arithmetic on plain milliseconds. Differences are clamped at zero,
// so a clock that steps back never makes a session old and never makes a number negative.
#pragma once

#include <cstdint>

#include "core/time_ms.h"

namespace sg {

// 0 for `idle` means no idle timeout. `absolute` is always set.
struct Timeouts {
    TimeMs idle = 0;
    TimeMs absolute = 0;
};

// The realm's timeouts, shortened by what the session carries (seconds, 0: nothing). A session can
// never lengthen them.
Timeouts effective_timeouts(const Timeouts& realm, std::uint32_t session_idle_s,
                            std::uint32_t session_absolute_s) noexcept;

struct Ages {
    TimeMs created = 0;
    TimeMs last_seen = 0;
};

enum class Expiry : std::uint8_t { alive, idle, absolute };

// Expired at exactly the limit. Where both limits have passed, the absolute one is named: it is the
// one that no activity could have prevented.
Expiry check_expiry(const Ages& ages, const Timeouts& timeouts, TimeMs now) noexcept;

// Milliseconds left, 0 at least. With no idle timeout, idle_left is what is left of the absolute
// one.
TimeMs idle_left(const Ages& ages, const Timeouts& timeouts, TimeMs now) noexcept;
TimeMs absolute_left(const Ages& ages, const Timeouts& timeouts, TimeMs now) noexcept;

// Age in ms, clamped at zero.
constexpr TimeMs age(TimeMs since, TimeMs now) noexcept {
    return now > since ? now - since : 0;
}

// Whether that was at most `bound` ago. What lies ahead, by more than workers' clocks differ, was
// noted before a step back: nobody knows how long ago.
constexpr bool is_recent(TimeMs since, TimeMs now, TimeMs bound) noexcept {
    constexpr TimeMs kClocksDiffer = 1000;
    const auto shifted = static_cast<std::uint64_t>(now - since + kClocksDiffer);
    return shifted <= static_cast<std::uint64_t>(bound + kClocksDiffer);
}

}  // namespace sg
