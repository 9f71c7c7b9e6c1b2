// How long a copy is believed for the feed's sake.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include "core/feed_state.h"

using namespace sg;

namespace {

constexpr TimeMs kNow = 1'800'000'000'000;
constexpr TimeMs kBound = 5 * kSecond;

// Followed since kNow, last heard a minute later.
void follow(FeedState& feed) {
    feed.missed(kNow);
    feed.followed(kNow + kMinute);
}

// Would catch: sessions asked about every few seconds although nothing can have happened to them.
void what_was_confirmed_since_is_believed_while_the_feed_is_followed(void**) {
    FeedState feed;
    follow(feed);
    assert_true(feed.vouches(kNow + 1, kNow + kMinute, kBound));
    assert_true(feed.vouches(kNow + 1, kNow + kMinute + kBound, kBound));
    feed.followed(kNow + kHour);
    assert_true(feed.vouches(kNow + 1, kNow + kHour, kBound));
}

// Threat: a session that ended elsewhere, used here. Would catch: each of the ways not to have
// heard.
void nothing_is_believed_that_the_feed_may_not_have_told(void**) {
    FeedState feed;
    assert_false(feed.vouches(kNow, kNow, kBound));  // never followed
    feed.followed(kNow);
    assert_false(feed.vouches(kNow - 1, kNow, kBound));  // nor begun
    follow(feed);
    assert_false(feed.vouches(kNow, kNow + kMinute, kBound));                   // confirmed before
    assert_false(feed.vouches(0, kNow + kMinute, kBound));                      // never confirmed
    assert_false(feed.vouches(kNow + 1, kNow + kMinute + kBound + 1, kBound));  // not heard lately
    feed.missed(kNow + 2 * kMinute);
    assert_false(feed.vouches(kNow + 1, kNow + 2 * kMinute, kBound));  // a gap since
    assert_false(feed.vouches(kNow + 2 * kMinute + 1, kNow + 2 * kMinute + 2, kBound));  // not yet
    feed.followed(kNow + 2 * kMinute + 1);
    assert_true(feed.vouches(kNow + 2 * kMinute + 1, kNow + 2 * kMinute + 2, kBound));
}

// An answer may be older than what the feed told while it was on its way. Would catch: the copy
// that it brings believed for ever.
void an_answer_to_an_older_question_confirms_nothing(void**) {
    FeedState feed;
    Handle handle{};
    handle[0] = 7;
    constexpr TimeMs kOverdue = kNow - kBound;
    assert_int_equal(feed.confirmable(handle, kNow, kOverdue), kNow);
    feed.told(handle, true, kNow);
    assert_int_equal(feed.confirmable(handle, kNow - 1, kOverdue), 0);
    assert_int_equal(feed.confirmable(handle, kNow, kOverdue), 0);
    assert_int_equal(feed.confirmable(handle, kNow + 1, kOverdue), kNow + 1);
    handle[0] = 8;
    assert_int_equal(feed.confirmable(handle, kNow - 1, kOverdue), kNow - 1);
}

// Would catch: a session that was changed on another node just before the store went, and is
// refused where one that was not would go on.
void an_answer_older_than_a_change_is_overdue_at_once(void**) {
    FeedState feed;
    Handle handle{};
    constexpr TimeMs kOverdue = kNow - kBound;
    feed.told(handle, false, kNow);
    assert_true(feed.has_told(handle, kNow));
    assert_false(feed.has_told(handle, kNow + 1));
    assert_int_equal(feed.confirmable(handle, kNow, kOverdue), kOverdue);
    feed.told(handle, true, kNow + 1);
    feed.told(handle, false, kNow + 2);
    assert_int_equal(feed.confirmable(handle, kNow + 1, kOverdue), 0);
    assert_int_equal(feed.confirmable(handle, kNow + 2, kOverdue), kOverdue);
}

// Fault: the clock steps back. Would catch: a copy that the feed has told of, or that a gap has
// made doubtful, believed again because what was noted since has an earlier time.
void a_step_of_the_clock_back_makes_nothing_believed_again(void**) {
    constexpr TimeMs kAfterStep = kNow - 25 * kSecond;
    FeedState feed;
    Handle told{};
    Handle of_same_place{};
    of_same_place[15] = 1;
    feed.told(told, false, kNow);
    feed.told(of_same_place, true, kAfterStep);
    assert_true(feed.has_told(told, kNow - kSecond));
    assert_int_equal(feed.confirmable(of_same_place, kAfterStep, 1), 0);

    feed.missed(kNow - kMinute);
    feed.followed(kNow);
    assert_true(feed.vouches(kNow - kSecond, kNow, kBound));
    feed.missed(kAfterStep);
    feed.followed(kAfterStep + kSecond);
    assert_false(feed.vouches(kNow - kSecond, kAfterStep + kSecond, kBound));
    feed.followed(kNow + kMinute);
    assert_false(feed.vouches(kNow - kSecond, kNow + kMinute, kBound));
    assert_true(feed.vouches(kNow + kSecond, kNow + kMinute, kBound));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(what_was_confirmed_since_is_believed_while_the_feed_is_followed),
        cmocka_unit_test(nothing_is_believed_that_the_feed_may_not_have_told),
        cmocka_unit_test(an_answer_to_an_older_question_confirms_nothing),
        cmocka_unit_test(an_answer_older_than_a_change_is_overdue_at_once),
        cmocka_unit_test(a_step_of_the_clock_back_makes_nothing_believed_again),
    };
    return cmocka_run_group_tests_name("feed state", tests, nullptr, nullptr);
}
