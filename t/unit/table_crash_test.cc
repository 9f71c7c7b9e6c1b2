// A writer killed at any instant: a child performs one operation on shared memory and dies at its
// n-th store, for every n until the operation is through, holding the shard's mutex. The next
// process must find a whole table, every bystander, and the touched session in its old or its new
// state, never in between.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include <sys/wait.h>
#include <unistd.h>

#include "unit/zone_support.h"

using namespace sg;
using namespace sg::test;

namespace {

constexpr std::size_t kMemory = 12 * 1024;  // one shard of some 35 cells
constexpr std::uint64_t kBystanders = 6;
constexpr std::uint64_t kTouched = 100;
constexpr int kDied = 3;
constexpr int kFinished = 4;

int stores_left;

void die_at_store() {
    if (stores_left-- == 0) {
        _exit(kDied);
    }
}

using Operation = void (*)(const Table&);

// True when the child got through the operation before its n-th store.
bool cut_at(const Table& table, Operation operation, int n) {
    const pid_t child = fork();
    if (child == 0) {
        stores_left = n;
        sg_on_store = die_at_store;
        operation(table);
        _exit(kFinished);
    }
    int status = 0;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == kDied || WEXITSTATUS(status) == kFinished);
    return WEXITSTATUS(status) == kFinished;
}

void add_bystanders(const Table& table) {
    for (std::uint64_t n = 1; n <= kBystanders; ++n) {
        assert_int_equal(add(table, n, n % 2 == 0 ? 500 : 120), InsertResult::inserted);
    }
}

void assert_bystanders(const Table& table) {
    assert_null(broken_invariant(table));  // locks every shard: the repair runs here
    for (std::uint64_t n = 1; n <= kBystanders; ++n) {
        assert_true(is_there(table, n));
    }
}

// Before: `prepare` on a fresh table. Then the cut. After: `check` gets what the lock-free reader
// sees.
void for_every_cut(Operation prepare, Operation operation,
                   void (*check)(const Table&, const Seen&)) {
    for (int n = 0;; ++n) {
        assert_true(n < 2000);
        const auto memory = shared_memory(kMemory);
        const Table table = make_table(memory);
        add_bystanders(table);
        prepare(table);
        const bool finished = cut_at(table, operation, n);
        assert_bystanders(table);
        check(table, look(table, kTouched));
        munmap(memory.data(), memory.size());
        if (finished) {
            assert_true(n > 3);  // the hook was really there
            return;
        }
    }
}

void nothing(const Table&) {}
void add_short(const Table& table) {
    add(table, kTouched, 150);
}
void add_long(const Table& table) {
    add(table, kTouched, 700);
}

void replace_with(const Table& table, std::size_t size) {
    LockedShard shard = table.lock(token_of(kTouched).handle);
    table.replace(shard, token_of(kTouched), record_of(kTouched, 1, size), kLimits, kNow);
}

void end(const Table& table) {
    LockedShard shard = table.lock(token_of(kTouched).handle);
    table.remove(shard, token_of(kTouched).handle, Departure::ended, kNow + kHour);
}

void mark_superseded(const Table& table) {
    LockedShard shard = table.lock(token_of(kTouched).handle);
    table.supersede(shard, token_of(kTouched).handle, token_of(1).handle, kNow + 10'000);
}

void old_or_absent(const Table&, const Seen& seen) {
    assert_true(seen.result == FindResult::absent ||
                (seen.result == FindResult::found && seen.edition));
}

void a_login_that_is_cut_leaves_all_or_nothing(void**) {
    for_every_cut(nothing, add_short, old_or_absent);
    for_every_cut(nothing, add_long, old_or_absent);
}

// A live login must not be lost because its data was being changed.
void a_replacement_that_is_cut_leaves_the_old_or_the_new_record(void**) {
    const auto check = [](const Table&, const Seen& seen) {
        assert_int_equal(seen.result, FindResult::found);
        assert_true(seen.edition == 0 || seen.edition == 1);
        assert_true(same_token(seen.view.token, token_of(kTouched)));
    };
    for_every_cut(
        add_short, [](const Table& table) { replace_with(table, 160); }, check);
    for_every_cut(
        add_long, [](const Table& table) { replace_with(table, 90); }, check);
    for_every_cut(
        add_short, [](const Table& table) { replace_with(table, 900); }, check);
}

void a_regeneration_that_is_cut_leaves_the_session_live_or_superseded(void**) {
    for_every_cut(add_short, mark_superseded, [](const Table&, const Seen& seen) {
        assert_int_equal(seen.result, FindResult::found);
        assert_true(seen.view.superseded_until == 0 || seen.view.superseded_until == kNow + 10'000);
        if (seen.view.superseded_until != 0) {
            assert_memory_equal(seen.view.successor.data(), token_of(1).handle.data(), 16);
        }
    });
}

// Once the tombstone is whole the session is about to go; it may still be there, but never damaged.
void an_end_that_is_cut_leaves_the_session_whole_or_gone(void**) {
    for_every_cut(add_short, end, old_or_absent);
    for_every_cut(add_long, end, old_or_absent);
}

void a_sweep_that_is_cut_takes_only_what_has_expired(void**) {
    const auto prepare = [](const Table& table) {
        const Token token = token_of(kTouched);
        LockedShard shard = table.lock(token.handle);
        table.insert(shard, token, record_of(kTouched, 0, 700, kNow - kHour), kNow - kHour, kLimits,
                     kNow);
    };
    const auto sweep = [](const Table& table) {
        LockedShard shard = table.lock_shard(0);
        table.sweep_shard(shard, kLimits, kNow, table.cells_per_shard());
    };
    for_every_cut(prepare, sweep, old_or_absent);
}

// The repairer may be killed as well; the next one starts again.
void a_repair_that_is_cut_is_completed_by_the_next_one(void**) {
    for (int first = 20; first < 120; first += 9) {
        for (int n = 0;; n += 7) {
            const auto memory = shared_memory(kMemory);
            const Table table = make_table(memory);
            add_bystanders(table);
            add_long(table);
            cut_at(
                table, [](const Table& t) { replace_with(t, 900); }, first);
            const bool finished = cut_at(
                table, [](const Table& t) { t.lock_shard(0); }, n);
            assert_bystanders(table);
            const Seen seen = look(table, kTouched);
            assert_int_equal(seen.result, FindResult::found);
            assert_true(seen.edition == 0 || seen.edition == 1);
            munmap(memory.data(), memory.size());
            if (finished) {
                break;
            }
        }
    }
}

// What a worker sees before anybody repairs: no wrong "found", no wrong "absent", no endless loop.
void a_reader_beside_a_dead_writer_is_told_busy_at_worst(void**) {
    for (int n = 0; n < 400; n += 3) {
        const auto memory = shared_memory(kMemory);
        const Table table = make_table(memory);
        add_bystanders(table);
        add_long(table);
        const bool finished = cut_at(
            table, [](const Table& t) { replace_with(t, 900); }, n);
        for (std::uint64_t b = 1; b <= kBystanders; ++b) {
            const Seen seen = look(table, b);
            assert_true(seen.result == FindResult::busy ||
                        (seen.result == FindResult::found && seen.edition == 0));
        }
        const Seen touched = look(table, kTouched);
        assert_true(touched.result == FindResult::busy ||
                    (touched.result == FindResult::found && touched.edition));
        munmap(memory.data(), memory.size());
        if (finished) {
            break;
        }
    }
}

void a_repair_is_counted_and_reported_to_the_locker(void**) {
    const Table table = make_table(shared_memory(kMemory));
    assert_false(cut_at(table, add_short, 10));
    assert_int_equal(table.stats().repairs, 0);
    {
        LockedShard shard = table.lock_shard(0);
        assert_true(shard.recovered());
    }
    LockedShard again = table.lock_shard(0);
    assert_false(again.recovered());
    assert_int_equal(table.stats().repairs, 1);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_login_that_is_cut_leaves_all_or_nothing),
        cmocka_unit_test(a_replacement_that_is_cut_leaves_the_old_or_the_new_record),
        cmocka_unit_test(a_regeneration_that_is_cut_leaves_the_session_live_or_superseded),
        cmocka_unit_test(an_end_that_is_cut_leaves_the_session_whole_or_gone),
        cmocka_unit_test(a_sweep_that_is_cut_takes_only_what_has_expired),
        cmocka_unit_test(a_repair_that_is_cut_is_completed_by_the_next_one),
        cmocka_unit_test(a_reader_beside_a_dead_writer_is_told_busy_at_worst),
        cmocka_unit_test(a_repair_is_counted_and_reported_to_the_locker),
    };
    return cmocka_run_group_tests_name("table after a crash", tests, nullptr, nullptr);
}
