// Whether a genuine token that the store does not have is asked about once more, a moment later:
// the node that made the session may still be writing it. Once per token for a while, and for so
// many requests at a time: tokens of sessions long gone must not make work. One per realm and
// worker.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/time_ms.h"
#include "core/token.h"

namespace sg::ngx {

class SecondLooks {
  public:
    static constexpr TimeMs kPause = 100;
    static constexpr TimeMs kRemembered = 10 * kSecond;
    static constexpr std::size_t kMostAtOnce = 256;

    // True: wait for kPause, ask, and call end() in any case.
    bool begin(const Handle& handle, TimeMs now) noexcept {
        Absent& absent = absent_[handle[0]];
        const bool is_known =
            absent.handle == handle && now < absent.until && absent.until - now <= kRemembered;
        if (is_known || at_once_ == kMostAtOnce) {
            return false;
        }
        absent = {.handle = handle, .until = now + kRemembered};
        ++at_once_;
        return true;
    }
    void end() noexcept { --at_once_; }

  private:
    struct Absent {
        Handle handle{};
        TimeMs until = 0;
    };
    std::array<Absent, 256> absent_{};  // by a byte of the handle: a later one takes the place
    std::size_t at_once_ = 0;
};

}  // namespace sg::ngx
