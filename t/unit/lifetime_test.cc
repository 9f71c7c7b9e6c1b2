// Idle and absolute timeouts.
#include "core/lifetime.h"

#include "unit/support.h"

using namespace sg;
using namespace sg::test;

namespace {

constexpr Timeouts kBoth{.idle = 10 * kMinute, .absolute = kHour};
constexpr Timeouts kNoIdle{.idle = 0, .absolute = kHour};

// Would catch: "greater than" instead of "at least": a session that lives one tick too long.
void expires_at_exactly_the_limit(void**) {
    const Ages ages{.created = kNow, .last_seen = kNow};
    assert_int_equal(check_expiry(ages, kBoth, kNow), Expiry::alive);
    assert_int_equal(check_expiry(ages, kBoth, kNow + 10 * kMinute - 1), Expiry::alive);
    assert_int_equal(check_expiry(ages, kBoth, kNow + 10 * kMinute), Expiry::idle);
    const Ages busy{.created = kNow, .last_seen = kNow + kHour - 1};
    assert_int_equal(check_expiry(busy, kBoth, kNow + kHour - 1), Expiry::alive);
    assert_int_equal(check_expiry(busy, kBoth, kNow + kHour), Expiry::absolute);
}

// Would catch: activity that keeps a session for ever.
void no_activity_moves_the_absolute_limit(void**) {
    for (TimeMs minute = 0; minute < 120; ++minute) {
        const TimeMs now = kNow + minute * kMinute;
        const Ages ages{.created = kNow, .last_seen = now};
        assert_int_equal(check_expiry(ages, kBoth, now),
                         minute < 60 ? Expiry::alive : Expiry::absolute);
    }
}

// Would catch: the user told "idle for too long" where nothing would have helped.
void names_the_absolute_limit_where_both_have_passed(void**) {
    const Ages ages{.created = kNow, .last_seen = kNow};
    assert_int_equal(check_expiry(ages, kBoth, kNow + kHour), Expiry::absolute);
    assert_int_equal(check_expiry(ages, kBoth, kNow + 1000 * kHour), Expiry::absolute);
}

// Would catch: idle 0 taken as "expires at once".
void idle_zero_means_no_idle_timeout(void**) {
    const Ages ages{.created = kNow, .last_seen = kNow};
    assert_int_equal(check_expiry(ages, kNoIdle, kNow + kHour - 1), Expiry::alive);
    assert_int_equal(check_expiry(ages, kNoIdle, kNow + kHour), Expiry::absolute);
    assert_int_equal(idle_left(ages, kNoIdle, kNow + kMinute), 59 * kMinute);
}

// Would catch: an unsigned or negative difference: everybody out after the clock was set back.
void a_clock_that_steps_back_makes_nobody_old(void**) {
    const Ages ages{.created = kNow, .last_seen = kNow + kMinute};
    for (const TimeMs back : {TimeMs{1}, kSecond, kHour, 1000 * kHour, kNow}) {
        const TimeMs now = kNow - back;
        assert_int_equal(age(kNow, now), 0);
        assert_int_equal(check_expiry(ages, kBoth, now), Expiry::alive);
        assert_int_equal(idle_left(ages, kBoth, now), kBoth.idle);
        assert_int_equal(absolute_left(ages, kBoth, now), kBoth.absolute);
    }
}

// Would catch: a clock that jumps forward and comes back to have ended a session for good: no state
// here.
void a_clock_that_comes_back_finds_the_session_alive(void**) {
    const Ages ages{.created = kNow, .last_seen = kNow};
    assert_int_equal(check_expiry(ages, kBoth, kNow + 24 * kHour), Expiry::absolute);
    assert_int_equal(check_expiry(ages, kBoth, kNow + kMinute), Expiry::alive);
}

// Would catch: an application (or a damaged record) that makes a session outlive the realm's
// limits.
void a_session_can_only_shorten(void**) {
    const Timeouts shorter = effective_timeouts(kBoth, 60, 120);
    assert_int_equal(shorter.idle, kMinute);
    assert_int_equal(shorter.absolute, 2 * kMinute);
    const Timeouts longer = effective_timeouts(kBoth, 601, 3601);
    assert_int_equal(longer.idle, kBoth.idle);
    assert_int_equal(longer.absolute, kBoth.absolute);
    const Timeouts longest = effective_timeouts(kBoth, UINT32_MAX, UINT32_MAX);
    assert_int_equal(longest.idle, kBoth.idle);
    assert_int_equal(longest.absolute, kBoth.absolute);
    const Timeouts same = effective_timeouts(kBoth, 0, 0);
    assert_int_equal(same.idle, kBoth.idle);
    assert_int_equal(same.absolute, kBoth.absolute);
}

// Would catch: "the shorter of 0 and n" where the realm has no idle timeout.
void a_session_can_have_an_idle_limit_where_the_realm_has_none(void**) {
    assert_int_equal(effective_timeouts(kNoIdle, 60, 0).idle, kMinute);
    assert_int_equal(effective_timeouts(kNoIdle, 0, 0).idle, 0);
    // 2^32 - 1 s do not overflow on the way to milliseconds.
    assert_int_equal(effective_timeouts(kNoIdle, UINT32_MAX, 0).idle, TimeMs{UINT32_MAX} * kSecond);
}

// Would catch: a countdown on the page that is negative, or longer than the session can live.
void what_is_left_is_never_negative_and_never_beyond_the_end(void**) {
    const Ages ages{.created = kNow, .last_seen = kNow + 55 * kMinute};
    assert_int_equal(absolute_left(ages, kBoth, kNow + 55 * kMinute), 5 * kMinute);
    assert_int_equal(idle_left(ages, kBoth, kNow + 55 * kMinute), 5 * kMinute);
    assert_int_equal(
        idle_left({.created = kNow, .last_seen = kNow}, kBoth, kNow + 10 * kMinute - 1), 1);
    assert_int_equal(idle_left({.created = kNow, .last_seen = kNow}, kBoth, kNow + 30 * kMinute),
                     0);
    assert_int_equal(idle_left(ages, kBoth, kNow + 2 * kHour), 0);
    assert_int_equal(absolute_left(ages, kBoth, kNow + 2 * kHour), 0);
}

// Would catch: a page that counts down to 1 s when the next request is refused already.
void nothing_is_left_exactly_when_it_is_expired(void**) {
    const Ages ages{.created = kNow, .last_seen = kNow + 52 * kMinute};
    for (TimeMs now = kNow; now < kNow + 70 * kMinute; now += 250) {
        const bool alive = check_expiry(ages, kBoth, now) == Expiry::alive;
        assert_int_equal(alive, idle_left(ages, kBoth, now) > 0);
    }
}

// Fault: the clock steps back. Would catch: what was noted before it taken for recent until the
// clock has caught up: a copy that nobody has confirmed for so long, believed.
void what_lies_ahead_is_not_recent(void**) {
    constexpr TimeMs kBound = 5 * kSecond;
    constexpr TimeMs kThen = 1'800'000'000'000;
    assert_true(is_recent(kThen, kThen, kBound));
    assert_true(is_recent(kThen, kThen + kBound, kBound));
    assert_false(is_recent(kThen, kThen + kBound + 1, kBound));
    assert_true(is_recent(kThen, kThen - kSecond, kBound));  // another worker's clock
    assert_false(is_recent(kThen, kThen - kSecond - 1, kBound));
    assert_false(is_recent(kThen, kThen - 25 * kSecond, kBound));
    assert_false(is_recent(0, kThen, kBound));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(expires_at_exactly_the_limit),
        cmocka_unit_test(no_activity_moves_the_absolute_limit),
        cmocka_unit_test(names_the_absolute_limit_where_both_have_passed),
        cmocka_unit_test(idle_zero_means_no_idle_timeout),
        cmocka_unit_test(a_clock_that_steps_back_makes_nobody_old),
        cmocka_unit_test(a_clock_that_comes_back_finds_the_session_alive),
        cmocka_unit_test(a_session_can_only_shorten),
        cmocka_unit_test(a_session_can_have_an_idle_limit_where_the_realm_has_none),
        cmocka_unit_test(what_is_left_is_never_negative_and_never_beyond_the_end),
        cmocka_unit_test(nothing_is_left_exactly_when_it_is_expired),
        cmocka_unit_test(what_lies_ahead_is_not_recent),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
