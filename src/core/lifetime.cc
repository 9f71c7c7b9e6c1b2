#include "core/lifetime.h"

#include <algorithm>

namespace sg {
namespace {

TimeMs shortened(TimeMs limit, std::uint32_t session_s) noexcept {
    if (session_s == 0) {
        return limit;
    }
    const TimeMs session = static_cast<TimeMs>(session_s) * kSecond;
    return limit == 0 ? session : std::min(limit, session);
}

}  // namespace

Timeouts effective_timeouts(const Timeouts& realm, std::uint32_t session_idle_s,
                            std::uint32_t session_absolute_s) noexcept {
    return {.idle = shortened(realm.idle, session_idle_s),
            .absolute = shortened(realm.absolute, session_absolute_s)};
}

Expiry check_expiry(const Ages& ages, const Timeouts& timeouts, TimeMs now) noexcept {
    if (age(ages.created, now) >= timeouts.absolute) {
        return Expiry::absolute;
    }
    if (timeouts.idle != 0 && age(ages.last_seen, now) >= timeouts.idle) {
        return Expiry::idle;
    }
    return Expiry::alive;
}

TimeMs absolute_left(const Ages& ages, const Timeouts& timeouts, TimeMs now) noexcept {
    return std::max<TimeMs>(timeouts.absolute - age(ages.created, now), 0);
}

TimeMs idle_left(const Ages& ages, const Timeouts& timeouts, TimeMs now) noexcept {
    const TimeMs absolute = absolute_left(ages, timeouts, now);
    if (timeouts.idle == 0) {
        return absolute;
    }
    return std::clamp<TimeMs>(timeouts.idle - age(ages.last_seen, now), 0, absolute);
}

}  // namespace sg
