// The circuit breaker: how often a server that does not answer is asked.
#include "core/breaker.h"

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <new>

// After every other header: it defines macros with names of the standard library (fail).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

using namespace sg;
using State = Breaker::State;

namespace {

constexpr TimeMs kNow = 1'700'000'000'000;
constexpr TimeMs kFirst = Breaker::kFirstPause;
constexpr TimeMs kLongest = Breaker::kLongestPause;

void assert_state(const Breaker& breaker, TimeMs now, State wanted) {
    assert_int_equal(breaker.state(now), wanted);
}

// Three failures in a row at `now`.
void open_it(Breaker& breaker, TimeMs now) {
    for (std::uint32_t i = 0; i < Breaker::kFailuresToOpen; ++i) {
        assert_true(breaker.allows(now));
        breaker.failed(now);
    }
    assert_state(breaker, now, State::open);
}

// Would catch: a server given up for one lost packet, or one that is never given up.
void opens_after_three_failures_in_a_row(void**) {
    Breaker breaker;
    for (int i = 0; i < 100; ++i) {
        breaker.failed(kNow);
        breaker.failed(kNow);
        assert_true(breaker.allows(kNow));
        assert_state(breaker, kNow, State::closed);
        breaker.succeeded();
    }
    breaker.failed(kNow);
    breaker.failed(kNow + 1);
    assert_true(breaker.allows(kNow + 2));
    breaker.failed(kNow + 2);
    assert_false(breaker.allows(kNow + 2));
    assert_state(breaker, kNow + 2, State::open);
}

// Would catch: every request of the first pause that waits for a hung server; and all of them
// rushing to it when the pause ends.
void lets_exactly_one_probe_through_after_the_pause(void**) {
    Breaker breaker;
    open_it(breaker, kNow);
    for (TimeMs t = 0; t < kFirst; ++t) {
        assert_false(breaker.allows(kNow + t));
        assert_state(breaker, kNow + t, State::open);
    }
    assert_state(breaker, kNow + kFirst, State::half_open);
    assert_true(breaker.allows(kNow + kFirst));
    for (TimeMs t = kFirst; t < kFirst + kLongest; ++t) {
        assert_false(breaker.allows(kNow + t));
        assert_state(breaker, kNow + t, State::half_open);
    }
}

// Would catch: a server that is back and is not used.
void a_successful_probe_closes_it_at_once(void**) {
    Breaker breaker;
    open_it(breaker, kNow);
    assert_true(breaker.allows(kNow + kFirst));
    breaker.succeeded();
    assert_state(breaker, kNow + kFirst, State::closed);
    assert_true(breaker.allows(kNow + kFirst));
    assert_true(breaker.allows(kNow + kFirst));
    // Everything starts again, the pause too.
    open_it(breaker, kNow + kFirst);
    assert_false(breaker.allows(kNow + 2 * kFirst - 1));
    assert_true(breaker.allows(kNow + 2 * kFirst));
}

// Would catch: a pause that does not grow, grows without end, or overflows after a long outage.
void the_pause_doubles_up_to_two_seconds_and_stays_there(void**) {
    Breaker breaker;
    open_it(breaker, kNow);
    TimeMs now = kNow;
    for (int probe = 0; probe < 1000; ++probe) {
        constexpr TimeMs kPauses[] = {250, 500, 1000, 2000};
        const TimeMs pause = kPauses[probe < 3 ? probe : 3];
        assert_false(breaker.allows(now + pause - 1));
        now += pause;
        assert_true(breaker.allows(now));
        now += 30;  // the probe's timeout
        breaker.failed(now);
        assert_state(breaker, now, State::open);
    }
    breaker.succeeded();
    open_it(breaker, now);
    assert_true(breaker.allows(now + kFirst));
}

// Would catch: the timeouts of the requests that were under way when it opened counted as failed
// probes: two seconds without a server that hung for a moment.
void failures_that_come_in_late_do_not_make_the_pause_longer(void**) {
    Breaker breaker;
    open_it(breaker, kNow);
    for (int i = 0; i < 500; ++i) {
        breaker.failed(kNow + kFirst - 1);
    }
    assert_true(breaker.allows(kNow + kFirst));
    breaker.failed(kNow + kFirst);
    for (int i = 0; i < 500; ++i) {
        breaker.failed(kNow + kFirst);
    }
    assert_false(breaker.allows(kNow + kFirst + 499));
    assert_true(breaker.allows(kNow + kFirst + 500));
}

// Would catch: an answer that is thrown away because it came while the breaker was open.
void any_success_closes_it(void**) {
    Breaker breaker;
    open_it(breaker, kNow);
    breaker.succeeded();
    assert_state(breaker, kNow, State::closed);
    assert_true(breaker.allows(kNow));
}

// Would catch: a worker killed while it probed, after which the server is never asked again.
void a_prober_that_dies_is_followed_by_another(void**) {
    Breaker breaker;
    open_it(breaker, kNow);
    TimeMs now = kNow + kFirst;
    for (int i = 0; i < 20; ++i) {
        assert_true(breaker.allows(now));
        assert_false(breaker.allows(now + kLongest - 1));
        assert_state(breaker, now + kLongest - 1, State::half_open);
        now += kLongest;
    }
    assert_state(breaker, now, State::half_open);
    // The last of them reports after all.
    breaker.failed(now);
    assert_state(breaker, now, State::open);
    assert_true(breaker.allows(now + 2 * kFirst));
}

// Would catch: a server that stays out of use for an hour because the clock was set back an hour,
// while it paused or while a probe was on its way.
void a_clock_set_back_stops_no_probe(void**) {
    constexpr TimeMs kBack[] = {
        1,       kFirst, kLongest,   kLongest + 1, 2 * kLongest, 3 * kLongest,
        kMinute, kHour,  24 * kHour, kNow - kHour, kNow};
    for (const TimeMs back : kBack) {
        for (const bool while_probing : {false, true}) {
            Breaker breaker;
            open_it(breaker, kNow);
            if (while_probing) {
                assert_true(breaker.allows(kNow + kFirst));
            }
            // From the moment the clock was set: one probe soon, and not one more.
            const TimeMs from = kNow - back;
            int probes = 0;
            for (TimeMs now = from; now <= from + Breaker::kLongestDelay && probes == 0; ++now) {
                probes += breaker.allows(now) ? 1 : 0;
                assert_true(probes == 0 || !breaker.allows(now));
            }
            assert_int_equal(probes, 1);
        }
    }
}

// Would catch: a caller with the clock of six seconds ago, from before it waited for another
// server, that probes beside the one who does.
void a_clock_that_is_some_seconds_old_makes_no_second_probe(void**) {
    Breaker breaker;
    open_it(breaker, kNow);
    assert_true(breaker.allows(kNow + kFirst));
    for (TimeMs behind = 0; behind <= 6 * kSecond; ++behind) {
        assert_false(breaker.allows(kNow + kFirst - behind));
    }
}

// Would catch: a clock that jumps ahead and makes everybody a prober.
void a_clock_set_forward_lets_one_probe_through(void**) {
    Breaker breaker;
    open_it(breaker, kNow);
    const TimeMs later = kNow + 1000 * kHour;
    assert_true(breaker.allows(later));
    assert_false(breaker.allows(later));
    breaker.failed(later);
    assert_false(breaker.allows(later + 2 * kFirst - 1));
    assert_true(breaker.allows(later + 2 * kFirst));
}

// Would catch: a time that spills into the state: a closed breaker that refuses, an open one that
// lets everybody through.
void no_time_spoils_the_state(void**) {
    constexpr TimeMs kTimes[] = {-1'000'000'000'000, -1, 0, 1, 65535, kNow, (TimeMs{1} << 47)};
    for (const TimeMs now : kTimes) {
        Breaker breaker;
        assert_true(breaker.allows(now));
        open_it(breaker, now < 0 ? 0 : now);
        assert_true(breaker.allows((now < 0 ? 0 : now) + kFirst));
        assert_false(breaker.allows((now < 0 ? 0 : now) + kFirst));
        breaker.failed(now);
        assert_true(breaker.state(now) != State::closed);
        breaker.succeeded();
        assert_true(breaker.allows(now));
    }
}

constexpr int kProcesses = 2;  // as many as surely run at the same time
constexpr int kRounds = 20'000;

struct Shared {
    Breaker breaker;
    alignas(64) std::atomic<int> arrived{0};
    std::array<std::atomic<int>, kRounds> probes{};
};

// Starts a round when all are there, at the same moment: nobody asks with the clock of an earlier
// round.
void wait_for_all(std::atomic<int>& arrived, int round) {
    arrived.fetch_add(1);
    for (int spins = 1; arrived.load() < (round + 1) * kProcesses; ++spins) {
        if (spins % 4096 == 0) {
            sched_yield();
        }
    }
}

// Each round is one lease later than the one before.
[[noreturn]] void ask_in_every_round(Shared& shared) {
    for (int round = 0; round < kRounds; ++round) {
        wait_for_all(shared.arrived, round);
        const bool allowed = shared.breaker.allows(kNow + (round + 1) * kLongest);
        shared.probes[static_cast<std::size_t>(round)].fetch_add(allowed ? 1 : 0);
    }
    _exit(0);
}

// Would catch: a check and a write that are two steps: several workers probe a hung server at once.
// A matter of luck, and of a second core that is free: hence so many rounds. With a yield before
// each compare-and-swap the same rounds show it every time.
void one_probe_for_all_processes(void**) {
    void* const memory =
        mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    Shared& shared = *new (memory) Shared;
    open_it(shared.breaker, kNow);
    std::array<pid_t, kProcesses> children{};
    for (pid_t& child : children) {
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            ask_in_every_round(shared);
        }
    }
    for (const pid_t child : children) {
        int status = -1;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    for (const auto& probes : shared.probes) {
        assert_int_equal(probes.load(), 1);
    }
    munmap(memory, sizeof(Shared));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(opens_after_three_failures_in_a_row),
        cmocka_unit_test(lets_exactly_one_probe_through_after_the_pause),
        cmocka_unit_test(a_successful_probe_closes_it_at_once),
        cmocka_unit_test(the_pause_doubles_up_to_two_seconds_and_stays_there),
        cmocka_unit_test(failures_that_come_in_late_do_not_make_the_pause_longer),
        cmocka_unit_test(any_success_closes_it),
        cmocka_unit_test(a_prober_that_dies_is_followed_by_another),
        cmocka_unit_test(a_clock_set_back_stops_no_probe),
        cmocka_unit_test(a_clock_that_is_some_seconds_old_makes_no_second_probe),
        cmocka_unit_test(a_clock_set_forward_lets_one_probe_through),
        cmocka_unit_test(no_time_spoils_the_state),
        cmocka_unit_test(one_probe_for_all_processes),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
