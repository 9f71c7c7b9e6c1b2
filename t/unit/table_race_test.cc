// Two processes on one session: what a reader may be told while it is regenerated and removed, and
// that a touch beside a replacement is not lost.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "unit/zone_support.h"

using namespace sg;
using namespace sg::test;

namespace {

constexpr std::size_t kMemory = 48 * 1024;
constexpr double kSeconds = 1.5;
enum Exit : int { fine = 0, wrong = 10, nothing_done = 13 };

double clock_seconds() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// A word both processes see, beside the table.
std::atomic<std::uint64_t>& shared_counter() {
    return *new (shared_memory(4096).data()) std::atomic<std::uint64_t>(0);
}

void assert_exit(pid_t child, int code) {
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), code);
}

// Sessions with the same handle come, are superseded, and go. `superseded` counts them.
[[noreturn]] void regenerate_for_ever(const Table& table, std::atomic<std::uint64_t>& superseded) {
    const Token token = token_of(1);
    for (const double end = clock_seconds() + kSeconds; clock_seconds() < end;) {
        for (int i = 0; i < 1000; ++i) {
            const std::uint64_t round = superseded.load() + 1;
            LockedShard shard = table.lock(token.handle);
            table.insert(shard, token, record_of(1, round, 100), kNow, kLimits, kNow);
            table.supersede(shard, token.handle, token_of(2).handle, kNow + 10'000);
            superseded.store(round);
            table.remove(shard, token.handle, Departure::ended, kNow);
        }
    }
    _exit(fine);
}

// The restrictions of a superseded session must not fall off in the moment it goes: a look-up that
// asked for the state twice would call it live.
void a_superseded_session_never_passes_as_live(void**) {
    const Table table = make_table(shared_memory(kMemory));
    std::atomic<std::uint64_t>& superseded = shared_counter();
    const pid_t writer = fork();
    if (writer == 0) {
        regenerate_for_ever(table, superseded);
    }
    bool passed_as_live = false;
    std::uint64_t found = 0;
    for (const double end = clock_seconds() + kSeconds; clock_seconds() < end;) {
        for (int i = 0; i < 1000; ++i) {
            std::array<std::uint8_t, 256> record;
            SessionView view;
            const std::uint64_t before = superseded.load();
            if (table.find(token_of(1).handle, view, record) != FindResult::found) {
                continue;
            }
            ++found;
            const std::uint64_t round = (load_le<std::uint64_t>(record.data()) - owner(1)) / 0x100;
            passed_as_live |= view.superseded_until == 0 && round <= before;
        }
    }
    assert_exit(writer, fine);
    assert_true(found > 100);
    assert_false(passed_as_live);
}

// Last activity is what keeps a user logged in: a data change at the same moment must not undo it.
void a_touch_beside_a_replacement_is_not_lost(void**) {
    const Table table = make_table(shared_memory(kMemory));
    add(table, 1, 100);
    const pid_t toucher = fork();
    if (toucher == 0) {
        // Each touch is two seconds on; where it says it was taken, it must not be gone later.
        TimeMs last = kNow;
        for (const double end = clock_seconds() + kSeconds; clock_seconds() < end;) {
            for (int i = 0; i < 1000; ++i) {
                const Seen seen = look(table, 1);
                if (seen.result != FindResult::found) {
                    continue;
                }
                if (seen.view.last_seen + kSecond < last) {
                    // Between the link of the new cell and the carrying over: ask under the lock.
                    LockedShard shard = table.lock(token_of(1).handle);
                    if (look(table, 1).view.last_seen + kSecond < last) {
                        _exit(wrong);
                    }
                }
                if (table.touch(seen.view.slot, last + 2 * kSecond)) {
                    last += 2 * kSecond;
                }
            }
        }
        _exit(last > kNow ? fine : nothing_done);
    }
    std::uint64_t edition = 0;
    for (const double end = clock_seconds() + kSeconds; clock_seconds() < end;) {
        for (int i = 0; i < 200; ++i) {
            LockedShard shard = table.lock(token_of(1).handle);
            table.replace(shard, token_of(1), record_of(1, ++edition % 200, 100), kLimits, kNow);
        }
    }
    assert_exit(toucher, fine);
    assert_null(broken_invariant(table));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_superseded_session_never_passes_as_live),
        cmocka_unit_test(a_touch_beside_a_replacement_is_not_lost),
    };
    return cmocka_run_group_tests_name("table, two at once", tests, nullptr, nullptr);
}
