// Time in core/ is an argument: milliseconds of the wall clock since the Unix epoch, because
// records travel to other hosts. Nothing in core/ reads a clock.
#pragma once

#include <cstdint>

namespace sg {

using TimeMs = std::int64_t;

inline constexpr TimeMs kSecond = 1000;
inline constexpr TimeMs kMinute = 60 * kSecond;
inline constexpr TimeMs kHour = 60 * kMinute;

}  // namespace sg
