// How much time has passed: milliseconds of a clock that nobody sets.
#pragma once

#include <chrono>

#include "core/time_ms.h"

namespace sg {

inline TimeMs steady_ms() noexcept {
    using std::chrono::milliseconds;
    return std::chrono::duration_cast<milliseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

}  // namespace sg
