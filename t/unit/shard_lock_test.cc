// The writer's lock between processes: who is told that its last holder died, and when.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "unit/zone_support.h"

using namespace sg;
using namespace sg::test;

namespace {

constexpr std::size_t kMemory = 12 * 1024;

// Nobody unlocks what a process held when it left this way.
[[noreturn]] void die_holding(const Table& table, std::size_t shard) {
    LockedShard held = table.lock_shard(shard);
    _exit(0);
}

void kill_a_holder(const Table& table, std::size_t shard) {
    const pid_t child = fork();
    if (child == 0) {
        die_holding(table, shard);
    }
    waitpid(child, nullptr, 0);
}

bool recovered(const Table& table, std::size_t shard) {
    LockedShard locked = table.lock_shard(shard);
    return locked.recovered();
}

void a_lock_given_back_is_taken_without_a_repair(void**) {
    const Table table = make_table(shared_memory(kMemory));
    for (int i = 0; i < 3; ++i) {
        assert_false(recovered(table, 0));
    }
    assert_int_equal(table.stats().repairs, 0);
}

// Two writers in one shard at once would tear everything.
void one_process_at_a_time_holds_a_shard(void**) {
    const Table table = make_table(shared_memory(kMemory));
    auto* const counter = reinterpret_cast<volatile std::uint64_t*>(shared_memory(4096).data());
    constexpr std::uint64_t kTimes = 50'000;
    const auto count = [&] {
        for (std::uint64_t i = 0; i < kTimes; ++i) {
            LockedShard shard = table.lock_shard(0);
            *counter = *counter + 1;
        }
    };
    const pid_t child = fork();
    if (child == 0) {
        count();
        _exit(0);
    }
    count();
    waitpid(child, nullptr, 0);
    assert_int_equal(*counter, 2 * kTimes);
}

// A worker that already sleeps at the lock when the holder is killed must be woken, not wedged.
void a_sleeper_is_woken_when_the_holder_is_killed(void**) {
    const Table table = make_table(shared_memory(kMemory));
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    const pid_t holder = fork();
    if (holder == 0) {
        LockedShard held = table.lock_shard(0);
        const ssize_t written = write(ready[1], "x", 1);
        pause();
        _exit(written == 1 ? 0 : 1);
    }
    char byte = 0;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    const pid_t sleeper = fork();
    if (sleeper == 0) {
        alarm(20);
        _exit(recovered(table, 0) ? 0 : 1);
    }
    const timespec while_it_falls_asleep{.tv_sec = 0, .tv_nsec = 50'000'000};
    nanosleep(&while_it_falls_asleep, nullptr);
    kill(holder, SIGKILL);
    waitpid(holder, nullptr, 0);
    int status = 0;
    waitpid(sleeper, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    close(ready[0]);
    close(ready[1]);
}

// Marked consistent after the repair: otherwise the mutex is lost for good at the next unlock.
void a_shard_serves_on_after_each_of_many_killed_holders(void**) {
    const Table table = make_table(shared_memory(kMemory));
    add(table, 1, 600);
    for (std::uint64_t i = 1; i <= 20; ++i) {
        kill_a_holder(table, 0);
        assert_true(recovered(table, 0));
        assert_false(recovered(table, 0));
        assert_int_equal(table.stats().repairs, i);
    }
    assert_true(is_there(table, 1));
}

// The repair stays owed when the repairer dies too.
void a_repairer_that_is_killed_leaves_the_repair_to_the_next(void**) {
    const Table table = make_table(shared_memory(kMemory));
    add(table, 1, 600);
    kill_a_holder(table, 0);
    const pid_t child = fork();
    if (child == 0) {
        static int stores = 0;
        sg_on_store = [] {
            if (++stores == 10) {
                _exit(0);
            }
        };
        table.lock_shard(0);
        _exit(1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(recovered(table, 0));
    assert_null(broken_invariant(table));
    assert_true(is_there(table, 1));
}

// A killed worker costs its own shard a repair, no other.
void other_shards_do_not_notice(void**) {
    const Table table = make_table(shared_memory(12 << 20));
    assert_true(table.shard_count() >= 2);
    kill_a_holder(table, 0);
    assert_false(recovered(table, 1));
    assert_true(recovered(table, 0));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_lock_given_back_is_taken_without_a_repair),
        cmocka_unit_test(one_process_at_a_time_holds_a_shard),
        cmocka_unit_test(a_sleeper_is_woken_when_the_holder_is_killed),
        cmocka_unit_test(a_shard_serves_on_after_each_of_many_killed_holders),
        cmocka_unit_test(a_repairer_that_is_killed_leaves_the_repair_to_the_next),
        cmocka_unit_test(other_shards_do_not_notice),
    };
    return cmocka_run_group_tests_name("shard lock", tests, nullptr, nullptr);
}
