// What a memcached store does about an operation once its replicas have told what they hold:
// every verb against every pair of replicas.
#include "store/memcached_rules.h"

#include <array>
#include <initializer_list>

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <new>
#include <vector>

#include "store/memcached_gaps.h"
#include "unit/zone_support.h"

// After every other header: it defines macros with names of the standard library (fail).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

using namespace sg;
using namespace sg::test;
using Holds = MemcachedHolds;

namespace {

constexpr std::array<std::uint8_t, 4> kRecord = {1, 2, 3, 4};

StoreEntry session(std::uint32_t counter, TimeMs last_seen = kNow) {
    StoreEntry entry;
    entry.version.counter = counter;
    entry.expires = kNow + kHour;
    entry.last_seen = last_seen;
    entry.record = kRecord;
    return entry;
}

StoreEntry tombstone() {
    StoreEntry entry;
    entry.kind = EntryKind::ended;
    entry.expires = kNow + kHour;
    return entry;
}

StoreEntry activity(TimeMs last_seen) {
    StoreEntry entry;
    entry.kind = EntryKind::activity;
    entry.last_seen = last_seen;
    return entry;
}

// What a replica may have told.
MemcachedReplica silent() {
    return {};
}

MemcachedReplica empty(bool certain = true) {
    MemcachedReplica replica;
    replica.state = replica.activity = Holds::nothing;
    replica.certain = certain;
    return replica;
}

MemcachedReplica live(std::uint32_t counter) {
    MemcachedReplica replica = empty();
    replica.state = Holds::live;
    replica.version.counter = counter;
    return replica;
}

MemcachedReplica active(std::uint32_t counter, TimeMs last_seen) {
    MemcachedReplica replica = live(counter);
    replica.activity = Holds::live;
    replica.last_seen = last_seen;
    return replica;
}

MemcachedReplica ended() {
    MemcachedReplica replica = empty();
    replica.state = Holds::ended;
    return replica;
}

MemcachedReplica damaged() {
    MemcachedReplica replica = empty();
    replica.state = Holds::damaged;
    return replica;
}

// The winning state as the store finds it, then the decision.
MemcachedDecision decided(StoreVerb verb, const StoreEntry& entry,
                          std::initializer_list<MemcachedReplica> replicas) {
    StoreOp op;
    op.verb = verb;
    op.entry = entry;
    MemcachedMerged merged;
    for (const MemcachedReplica& one : replicas) {
        if (one.state == Holds::live || one.state == Holds::ended) {
            const StoreEntry seen =
                one.state == Holds::ended ? tombstone() : session(one.version.counter);
            if (!merged.exists || wins(seen, op.seen)) {
                op.seen = seen;
            }
            merged.exists = true;
            merged.last_seen = std::max(merged.last_seen, one.last_seen);
        }
    }
    return decide(op, merged, {replicas.begin(), replicas.size()});
}

constexpr ReplicaSet kNone = 0;
constexpr ReplicaSet kFirst = 1;
constexpr ReplicaSet kSecond = 2;
constexpr ReplicaSet kBoth = 3;

void assert_decision(const MemcachedDecision& got, StoreAnswer answer, bool lost, ReplicaSet states,
                     bool own) {
    assert_int_equal(got.answer, answer);
    assert_int_equal(got.lost, lost);
    assert_int_equal(got.states, states);
    assert_true(states == 0 || got.writes_own == own);
}

// What a case expects, by verb.
void get_is(StoreAnswer answer, std::initializer_list<MemcachedReplica> replicas,
            ReplicaSet repairs = kNone) {
    assert_decision(decided(StoreVerb::get, {}, replicas), answer, false, repairs, false);
}

void writes(StoreVerb verb, const StoreEntry& entry, ReplicaSet states,
            std::initializer_list<MemcachedReplica> replicas) {
    assert_decision(decided(verb, entry, replicas), StoreAnswer::unknown, false, states, true);
}

void holds(StoreVerb verb, const StoreEntry& entry, bool lost, ReplicaSet repairs,
           std::initializer_list<MemcachedReplica> replicas) {
    assert_decision(decided(verb, entry, replicas), StoreAnswer::found, lost, repairs, false);
}

using enum StoreAnswer;

// An outage taken for "no such session" logs people out; one replica that is sure suffices.
void absent_takes_one_replica_that_is_certain(void**) {
    get_is(absent, {empty()});
    get_is(unknown, {empty(false)});
    get_is(unknown, {silent()});
    get_is(absent, {empty(), empty()});
    get_is(absent, {empty(), silent()});
    get_is(absent, {silent(), empty()});
    get_is(absent, {empty(), empty(false)});
    get_is(unknown, {empty(false), silent()});
    get_is(unknown, {empty(false), empty(false)});
    get_is(unknown, {silent(), silent()});
}

// What cannot be read may be the session, or its tombstone.
void something_unreadable_is_never_absent(void**) {
    get_is(unknown, {damaged()});
    get_is(unknown, {damaged(), empty()});
    get_is(unknown, {empty(), damaged()});
    get_is(unknown, {damaged(), silent()});
}

void found_on_any_replica_wins_and_goes_where_it_is_missing(void**) {
    get_is(found, {live(1)});
    get_is(found, {live(1), live(1)});
    get_is(found, {live(1), silent()});
    get_is(found, {silent(), live(1)});
    get_is(found, {live(1), empty()}, kSecond);
    get_is(found, {empty(false), live(1)}, kFirst);
    get_is(found, {live(2), live(1)}, kSecond);
    get_is(found, {live(1), damaged()});
}

// The replica that slept through the logout lets the session in again.
void a_tombstone_beats_everything_and_goes_over_everything(void**) {
    get_is(found, {ended(), live(9)}, kSecond);
    get_is(found, {live(9), ended()}, kFirst);
    get_is(found, {ended(), empty()}, kSecond);
    get_is(found, {damaged(), ended()}, kFirst);
    get_is(found, {ended(), ended()});
    get_is(found, {ended(), silent()});
}

// A login must not depend on what cannot be known: nobody else has ever had this key.
void a_create_is_written_wherever_nothing_is(void**) {
    const auto create = StoreVerb::create;
    writes(create, session(1), kFirst, {empty()});
    writes(create, session(1), kFirst, {empty(false)});
    writes(create, session(1), kBoth, {empty(), empty(false)});
    writes(create, session(1), kSecond, {silent(), empty()});
    writes(create, session(1), kNone, {silent(), silent()});
    writes(create, session(1), kNone, {damaged()});
    writes(create, session(1), kNone, {damaged(), empty()});
}

void a_create_leaves_what_is_there(void**) {
    const auto create = StoreVerb::create;
    holds(create, session(1), false, kNone, {live(1)});
    holds(create, session(1), false, kSecond, {live(1), empty()});
    holds(create, session(5), true, kNone, {live(1)});
    holds(create, session(5), true, kFirst, {empty(), live(1)});
    holds(create, session(5), true, kSecond, {ended(), live(5)});
}

void a_change_goes_where_an_older_state_is(void**) {
    const auto change = StoreVerb::change;
    writes(change, session(2), kFirst, {live(1)});
    writes(change, session(2), kBoth, {live(1), empty()});
    writes(change, session(2), kFirst, {live(1), silent()});
    writes(change, session(2), kFirst, {live(1), damaged()});
    holds(change, session(2), false, kSecond, {live(2), live(1)});
    holds(change, session(2), true, kFirst, {live(1), live(3)});
    holds(change, session(2), true, kFirst, {live(1), ended()});
}

// Where nothing is, it could have been ended: on the replica that is silent now or, before it came
// up empty, on this one.
void a_change_comes_back_only_where_absence_is_certain(void**) {
    const auto change = StoreVerb::change;
    writes(change, session(2), kFirst, {empty()});
    writes(change, session(2), kSecond, {silent(), empty()});
    writes(change, session(2), kNone, {empty(false)});
    writes(change, session(2), kNone, {empty(false), silent()});
    writes(change, session(2), kNone, {empty(), damaged()});
}

// A logout holds whatever is there, and is acknowledged by one replica.
void an_end_goes_over_everything_but_an_end(void**) {
    const auto end = StoreVerb::end;
    writes(end, tombstone(), kBoth, {live(3), empty(false)});
    writes(end, tombstone(), kFirst, {damaged(), silent()});
    writes(end, tombstone(), kNone, {silent(), silent()});
    holds(end, tombstone(), false, kNone, {ended(), silent()});
    holds(end, tombstone(), false, kSecond, {ended(), live(3)});
}

MemcachedDecision touched(TimeMs last_seen, std::initializer_list<MemcachedReplica> replicas) {
    return decided(StoreVerb::touch, activity(last_seen), replicas);
}

// An activity where there is no session would be one for whoever takes the key's entries for it.
void a_touch_is_written_where_a_live_session_is(void**) {
    constexpr TimeMs kLater = kNow + kMinute;
    assert_int_equal(touched(kLater, {live(1), live(1)}).activities, kBoth);
    assert_int_equal(touched(kLater, {live(1), empty()}).activities, kFirst);
    assert_int_equal(touched(kLater, {live(1), silent()}).activities, kFirst);
    assert_int_equal(touched(kLater, {live(1)}).answer, unknown);
    assert_int_equal(touched(kLater, {active(1, kLater), live(1)}).activities, kSecond);
    assert_int_equal(touched(kLater, {active(1, kLater), live(1)}).answer, found);
    assert_int_equal(touched(kLater, {ended(), live(1)}).answer, absent);
    assert_int_equal(touched(kLater, {ended(), live(1)}).activities, kNone);
    assert_int_equal(touched(kLater, {empty()}).answer, absent);
    assert_int_equal(touched(kLater, {empty(false)}).answer, unknown);
    assert_int_equal(touched(kLater, {damaged()}).answer, unknown);
}

// Last seen is a maximum.
void a_touch_never_goes_back(void**) {
    assert_int_equal(touched(kNow, {live(1)}).answer, found);  // the session says so itself
    assert_int_equal(touched(kNow, {live(1)}).activities, kNone);
    const auto decision = touched(kNow + 1, {active(1, kNow + 9), active(1, kNow + 1)});
    assert_int_equal(decision.answer, found);
    assert_int_equal(decision.activities, kNone);
}

// An activity that cannot be read: a session in use would look idle. A touch heals it.
void a_damaged_activity_is_unknown_unless_another_replica_has_it(void**) {
    MemcachedReplica broken = live(1);
    broken.activity = Holds::damaged;
    get_is(unknown, {broken});
    get_is(unknown, {broken, live(1)});
    get_is(unknown, {broken, silent()});
    get_is(found, {broken, active(1, kNow + 1)});
    assert_int_equal(decided(StoreVerb::get, {}, {broken, active(1, kNow + 1)}).activities, kFirst);
    assert_int_equal(touched(kNow - kHour, {broken}).activities, kFirst);
    assert_int_equal(touched(kNow - kHour, {broken}).answer, unknown);
}

void a_get_levels_the_activities(void**) {
    const auto decision = decided(StoreVerb::get, {}, {active(1, kNow + 9), active(1, kNow + 1)});
    assert_int_equal(decision.activities, kSecond);
    // The session's own time is on both.
    assert_int_equal(decided(StoreVerb::get, {}, {active(1, kNow - 9), live(1)}).activities, kNone);
}

// ------------------------------------------------------------------------------------- gaps

StoreKey key_of(std::uint64_t number) {
    StoreKey key{};
    store_le(key.data(), number);
    return key;
}

void miss(MemcachedGaps& gaps, std::size_t server, std::uint64_t n) {
    gaps.add(server, key_of(n), 7, kNow, kHour);
}

std::vector<std::uint64_t> missed_by(MemcachedGaps& gaps, std::size_t server) {
    std::array<MemcachedGaps::Missed, MemcachedGaps::kMost> all;
    std::vector<std::uint64_t> numbers;
    for (const auto& one : std::span(all).first(gaps.of_server(server, all))) {
        numbers.push_back(load_le<std::uint64_t>(one.key.data()));
    }
    return numbers;
}

void a_missed_key_is_doubted_on_that_server_until_it_is_repaired(void**) {
    MemcachedGaps gaps;
    assert_true(gaps.is_empty());
    miss(gaps, 0, 1);
    miss(gaps, 0, 2);
    miss(gaps, 0, 1);
    miss(gaps, 3, 1);
    assert_true(missed_by(gaps, 0) == (std::vector<std::uint64_t>{1, 2}));
    assert_true(gaps.may_miss(0, key_of(1), kNow));
    assert_true(gaps.may_miss(3, key_of(1), kNow));
    assert_false(gaps.may_miss(3, key_of(2), kNow));
    assert_false(gaps.may_miss(0, key_of(3), kNow));
    gaps.defer(key_of(1));
    assert_true(missed_by(gaps, 0) == (std::vector<std::uint64_t>{2, 1}));
    gaps.remove(0, key_of(1));
    gaps.remove(0, key_of(1));
    assert_false(gaps.may_miss(0, key_of(1), kNow));
    assert_true(gaps.may_miss(3, key_of(1), kNow));
    gaps.remove(3, key_of(1));
    gaps.remove(0, key_of(2));
    assert_true(gaps.is_empty());
}

// A list that forgets the oldest would call a session absent that is on the other server.
void more_than_fits_makes_every_key_doubtful_until_all_has_expired(void**) {
    MemcachedGaps gaps;
    for (std::uint64_t i = 0; i < MemcachedGaps::kMost; ++i) {
        miss(gaps, 1, i);
    }
    assert_false(gaps.may_miss(1, key_of(1'000'000), kNow));
    miss(gaps, 1, 999'999);
    assert_int_equal(missed_by(gaps, 1).size(), MemcachedGaps::kMost);
    assert_true(gaps.may_miss(1, key_of(1'000'000), kNow));
    assert_false(gaps.may_miss(2, key_of(1'000'000), kNow));
    assert_true(gaps.may_miss(1, key_of(1'000'000), kNow + kHour));
    assert_false(gaps.may_miss(1, key_of(1'000'000), kNow + kHour + 5 * kMinute));
    assert_true(gaps.may_miss(1, key_of(1), kNow + kHour + 5 * kMinute));
}

// Would catch: what one server missed asked of another that has its place in the list now.
void other_servers_make_every_key_doubtful_if_anything_was_missed(void**) {
    MemcachedGaps gaps;
    gaps.renumber(kNow, kHour);
    assert_false(gaps.may_miss(0, key_of(1), kNow));
    miss(gaps, 0, 1);
    gaps.renumber(kNow, kHour);
    assert_true(gaps.may_miss(5, key_of(2), kNow));
    assert_false(gaps.may_miss(5, key_of(2), kNow + kHour + 5 * kMinute));
}

// Would catch: a node that waits for ever for a worker that was killed, or trusts a server while
// nobody can tell what it missed.
void a_killed_holder_is_followed_and_a_stopped_one_is_not_waited_for(void**) {
    void* const memory = mmap(nullptr, sizeof(MemcachedGaps), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    auto& gaps = *new (memory) MemcachedGaps;
    miss(gaps, 0, 1);
    const pid_t child = fork();
    if (child == 0) {
        for (std::uint64_t n = 2;; ++n) {  // killed anywhere in here
            miss(gaps, 0, n % 50);
            gaps.remove(0, key_of(n % 50));
        }
    }
    usleep(20'000);
    kill(child, SIGSTOP);
    int status = 0;
    waitpid(child, &status, WUNTRACED);
    gaps.may_miss(0, key_of(7), kNow);  // comes back, whatever the child holds
    miss(gaps, 0, 1'000);
    assert_true(gaps.may_miss(0, key_of(1'000), kNow));
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    miss(gaps, 0, 2'000);
    assert_true(gaps.may_miss(0, key_of(2'000), kNow));
    gaps.remove(0, key_of(2'000));
    munmap(memory, sizeof(MemcachedGaps));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(absent_takes_one_replica_that_is_certain),
        cmocka_unit_test(something_unreadable_is_never_absent),
        cmocka_unit_test(found_on_any_replica_wins_and_goes_where_it_is_missing),
        cmocka_unit_test(a_tombstone_beats_everything_and_goes_over_everything),
        cmocka_unit_test(a_create_is_written_wherever_nothing_is),
        cmocka_unit_test(a_create_leaves_what_is_there),
        cmocka_unit_test(a_change_goes_where_an_older_state_is),
        cmocka_unit_test(a_change_comes_back_only_where_absence_is_certain),
        cmocka_unit_test(an_end_goes_over_everything_but_an_end),
        cmocka_unit_test(a_touch_is_written_where_a_live_session_is),
        cmocka_unit_test(a_touch_never_goes_back),
        cmocka_unit_test(a_damaged_activity_is_unknown_unless_another_replica_has_it),
        cmocka_unit_test(a_get_levels_the_activities),
        cmocka_unit_test(a_missed_key_is_doubted_on_that_server_until_it_is_repaired),
        cmocka_unit_test(other_servers_make_every_key_doubtful_if_anything_was_missed),
        cmocka_unit_test(a_killed_holder_is_followed_and_a_stopped_one_is_not_waited_for),
        cmocka_unit_test(more_than_fits_makes_every_key_doubtful_until_all_has_expired),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
