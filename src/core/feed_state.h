// How far this node has followed the feed of its store (store/store.h), in shared memory: whether a
// copy that was confirmed a while ago may still be believed. Lock-free; any process.
//
// Times are this node's clock. A copy counts as confirmed when the question that it answers was
// sent, not when the answer came: what was ended in between is in the feed.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <optional>

#include "core/lifetime.h"
#include "core/time_ms.h"
#include "core/token.h"

namespace sg {

class FeedState {
  public:
    // The feed was followed without a gap up to what had been told when this poll was sent.
    void followed(TimeMs sent) noexcept { followed_.store(sent, std::memory_order_release); }

    // Something was missed: what was confirmed before `now` is not believed for the feed's sake.
    // (The clock may have stepped back since those copies were confirmed.)
    void missed(TimeMs now) noexcept {
        const TimeMs since = since_.load(std::memory_order_acquire);
        const TimeMs followed = followed_.load(std::memory_order_acquire);
        if (since > 0 && followed >= since) {
            since_before_.store(since, std::memory_order_release);
        }
        since_.store(followed > now ? followed : now, std::memory_order_release);
    }

    // The feed told of this session. To be called before its copy is made stale.
    void told(const Handle& handle, bool ended, TimeMs now) noexcept {
        if (ended) {
            raise(ended_[place(handle)], now);
        }
        raise(told_[place(handle)], now);
    }

    bool has_told(const Handle& handle, TimeMs since) const noexcept {
        return told_[place(handle)].load() >= since;
    }

    // What may be noted as the time of confirmation of an answer whose question was sent then. When
    // the feed has told of the session meanwhile: `overdue`, or 0 (never) if it may have ended.
    TimeMs confirmable(const Handle& handle, TimeMs sent, TimeMs overdue) const noexcept {
        return !has_told(handle, sent) ? sent : ended_[place(handle)].load() >= sent ? 0 : overdue;
    }

    // Whether a copy that was confirmed then has been vouched for by the feed since, at most
    // `bound` ago.
    bool vouches(TimeMs confirmed, TimeMs now, TimeMs bound) const noexcept {
        const TimeMs since = since_.load(std::memory_order_acquire);
        const TimeMs followed = followed_.load(std::memory_order_acquire);
        return since > 0 && confirmed > since && followed >= since &&
               is_recent(followed, now, bound);
    }

    // How long ago the feed was last heard; nullopt: it is not followed.
    std::optional<TimeMs> lag(TimeMs now) const noexcept {
        const TimeMs since = since_.load(std::memory_order_acquire);
        const TimeMs followed = followed_.load(std::memory_order_acquire);
        return since > 0 && followed >= since ? std::optional(age(followed, now)) : std::nullopt;
    }

    // Whether one that was confirmed before `then` was vouched for at that moment; known until the
    // second gap after it.
    bool vouched(TimeMs confirmed, TimeMs then) const noexcept {
        const TimeMs since = since_.load(std::memory_order_acquire);
        const TimeMs begun = since <= then ? since : since_before_.load(std::memory_order_acquire);
        return begun > 0 && confirmed > begun;
    }

  private:
    static constexpr std::size_t kPlaces =
        1024;  // sessions that share one are asked about once more

    static std::size_t place(const Handle& handle) noexcept {
        return (handle[0] | static_cast<std::size_t>(handle[1]) << 8) % kPlaces;
    }

    // Never back: after a step of the clock, what shares the place would count as not told.
    static void raise(std::atomic<TimeMs>& time, TimeMs to) noexcept {
        TimeMs is = time.load();
        while (is < to && !time.compare_exchange_weak(is, to)) {
        }
    }

    std::atomic<TimeMs> since_{0};
    std::atomic<TimeMs> since_before_{0};  // before the last gap
    std::atomic<TimeMs> followed_{0};
    std::array<std::atomic<TimeMs>, kPlaces> told_{};
    std::array<std::atomic<TimeMs>, kPlaces> ended_{};
};

static_assert(std::atomic<TimeMs>::is_always_lock_free);

}  // namespace sg
