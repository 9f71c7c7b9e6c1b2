// How much time has passed, of a clock that nobody sets.
#pragma once

#include <chrono>
#include <cstdint>

#include "core/time_ms.h"

namespace sg {

inline std::int64_t steady_us() noexcept {
    using std::chrono::microseconds;
    return std::chrono::duration_cast<microseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

inline TimeMs steady_ms() noexcept {
    return steady_us() / 1000;
}

}  // namespace sg
