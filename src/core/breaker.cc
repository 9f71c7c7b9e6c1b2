#include "core/breaker.h"

#include <algorithm>

namespace sg {
namespace {

// The word, from its low end: failures in a row (8 bits; kFailuresToOpen means open), doublings of
// the pause (7), probing (1), and for 48 bits the time: when the next probe may go, or when the one
// that is on its way counts as lost. While closed there is nothing but the failures.
struct View {
    std::uint32_t failures = 0;
    std::uint32_t doublings = 0;
    bool probing = false;
    TimeMs until = 0;
};

constexpr int kDoublingsShift = 8;
constexpr int kProbingShift = 15;
constexpr int kTimeShift = 16;

View unpack(std::uint64_t word) noexcept {
    return {.failures = static_cast<std::uint32_t>(word & 0xff),
            .doublings = static_cast<std::uint32_t>(word >> kDoublingsShift & 0x7f),
            .probing = (word >> kProbingShift & 1) != 0,
            .until = static_cast<TimeMs>(word >> kTimeShift)};
}

std::uint64_t pack(const View& view) noexcept {
    return static_cast<std::uint64_t>(view.until) << kTimeShift |
           std::uint64_t{view.probing} << kProbingShift |
           std::uint64_t{view.doublings} << kDoublingsShift | view.failures;
}

bool is_closed(const View& view) noexcept {
    return view.failures < Breaker::kFailuresToOpen;
}

TimeMs pause_after(std::uint32_t doublings) noexcept {
    return std::min(Breaker::kFirstPause << doublings, Breaker::kLongestPause);
}

// No time ever written lies further ahead than kLongestPause. One that lies much further was
// written before the clock was set back; much, because a caller's clock may be some seconds old (it
// waited for another server) and must not make it a second prober.
bool is_due(const View& view, TimeMs now) noexcept {
    return now >= view.until || view.until - now > Breaker::kLongestDelay;
}

View after_failure(View view, TimeMs now) noexcept {
    if (is_closed(view)) {
        ++view.failures;
        view.until = is_closed(view) ? 0 : now + Breaker::kFirstPause;
        return view;
    }
    // Past the longest pause there is nothing to double.
    view.doublings += pause_after(view.doublings) < Breaker::kLongestPause ? 1 : 0;
    view.probing = false;
    view.until = now + pause_after(view.doublings);
    return view;
}

}  // namespace

bool Breaker::allows(TimeMs now) noexcept {
    std::uint64_t word = word_.load(std::memory_order_relaxed);
    for (;;) {
        View view = unpack(word);
        if (is_closed(view)) {
            return true;
        }
        if (!is_due(view, now)) {
            return false;
        }
        view.probing = true;
        view.until = now + kLongestPause;
        if (word_.compare_exchange_weak(word, pack(view), std::memory_order_relaxed)) {
            return true;
        }
    }
}

void Breaker::succeeded() noexcept {
    // Read first: with a server in health the word stays shared between the caches of all cores.
    if (word_.load(std::memory_order_relaxed) != 0) {
        word_.store(0, std::memory_order_relaxed);
    }
}

void Breaker::failed(TimeMs now) noexcept {
    std::uint64_t word = word_.load(std::memory_order_relaxed);
    for (;;) {
        const View view = unpack(word);
        if (!is_closed(view) && !view.probing) {
            return;  // asked before it opened
        }
        if (word_.compare_exchange_weak(word, pack(after_failure(view, now)),
                                        std::memory_order_relaxed)) {
            return;
        }
    }
}

Breaker::State Breaker::state(TimeMs now) const noexcept {
    const View view = unpack(word_.load(std::memory_order_relaxed));
    if (is_closed(view)) {
        return State::closed;
    }
    return view.probing || is_due(view, now) ? State::half_open : State::open;
}

}  // namespace sg
