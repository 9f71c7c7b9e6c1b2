// Copying a table that is in use, or that a killed writer has left in pieces.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include "unit/zone_support.h"

using namespace sg;
using namespace sg::test;

namespace {

constexpr std::size_t kMemory = 128 * 1024;
constexpr std::uint64_t kSessions = 60;

Table old_table() {
    const Table old = make_table(shared_memory(kMemory));
    for (std::uint64_t n = 1; n <= kSessions; ++n) {
        assert_int_equal(add(old, n, n % 3 == 0 ? 500 : 120), InsertResult::inserted);
    }
    return old;
}

// A child that dies at the n-th store of `work`, holding the lock.
void cut_in_child(const Table& table, int n, void (*work)(const Table&)) {
    const pid_t child = fork();
    if (child == 0) {
        static int left;
        left = n;
        sg_on_store = [] {
            if (left-- == 0) {
                _exit(0);
            }
        };
        work(table);
        _exit(0);
    }
    waitpid(child, nullptr, 0);
}

// The old table is only read, so nobody repairs it first. Closed buckets must not cost a shard its
// users.
void sessions_of_a_half_repaired_shard_are_copied(void**) {
    const Table old = old_table();
    cut_in_child(old, 5, [](const Table& t) { add(t, 999, 120); });
    // 60 stores into the repair: buckets are closed, none is rebuilt.
    cut_in_child(old, 1500, [](const Table& t) { t.lock_shard(0); });
    assert_int_equal(look(old, 1).result, FindResult::busy);
    const Table fresh = make_table(shared_memory(kMemory));
    std::uint64_t copied = 0;
    std::uint64_t needed = 0;
    assert_true(fresh.copy_from(old, kNow, no_pause, copied, needed));
    assert_int_equal(copied, kSessions);
    assert_null(broken_invariant(fresh));
    for (std::uint64_t n = 1; n <= kSessions; ++n) {
        assert_true(is_there(fresh, n));
    }
}

const Table* old_in_use;
int stores_until;
void (*meanwhile)(const Table&);

void disturb() {
    if (stores_until-- == 0) {
        sg_on_store = nullptr;
        meanwhile(*old_in_use);
    }
}

// Runs `what` on the old table at some store of the copy: the old workers go on.
void copy_disturbed(const Table& fresh, const Table& old, int at, void (*what)(const Table&)) {
    old_in_use = &old;
    meanwhile = what;
    stores_until = at;
    sg_on_store = disturb;
    std::uint64_t copied = 0;
    std::uint64_t needed = 0;
    const bool all = fresh.copy_from(old, kNow, no_pause, copied, needed);
    sg_on_store = nullptr;
    assert_true(all);
    assert_int_equal(copied, fresh.stats().live);
    assert_null(broken_invariant(fresh));
}

// A logout while the reload copies must not be undone by the copy.
void a_session_that_ends_during_the_copy_is_not_in_it(void**) {
    for (int at = 1; at < 1500; at += 97) {
        const Table old = old_table();
        const Table fresh = make_table(shared_memory(kMemory));
        copy_disturbed(fresh, old, at, [](const Table& t) {
            LockedShard shard = t.lock(token_of(1).handle);
            t.remove(shard, token_of(1).handle, Departure::ended, kNow + kHour);
        });
        assert_int_equal(look(fresh, 1).result, FindResult::absent);
        assert_true(fresh.find_tombstone(token_of(1).handle, kNow) == Departure::ended);
    }
}

// Nor may a session that has lost roles by regeneration come out whole.
void a_session_superseded_during_the_copy_is_so_in_it(void**) {
    for (int at = 1; at < 1500; at += 97) {
        const Table old = old_table();
        const Table fresh = make_table(shared_memory(kMemory));
        copy_disturbed(fresh, old, at, [](const Table& t) {
            LockedShard shard = t.lock(token_of(1).handle);
            t.supersede(shard, token_of(1).handle, token_of(2).handle, kNow + 10'000);
        });
        assert_int_equal(look(fresh, 1).view.superseded_until, kNow + 10'000);
    }
}

// A replacement moves a session into a cell that may lie behind the copy already.
void a_session_that_moves_during_the_copy_is_in_it(void**) {
    for (int at = 1; at < 1500; at += 97) {
        const Table old = old_table();
        const Table fresh = make_table(shared_memory(kMemory));
        copy_disturbed(fresh, old, at, [](const Table& t) {
            for (std::uint64_t n = 1; n <= kSessions; ++n) {
                LockedShard shard = t.lock(token_of(n).handle);
                t.replace(shard, token_of(n).handle, record_of(n, 1, 120), kLimits, kNow);
            }
        });
        for (std::uint64_t n = 1; n <= kSessions; ++n) {
            assert_true(is_there(fresh, n));
        }
    }
}

// Old age is judged by whoever knows the limits, and a copy leaves no tombstones of its own.
void nothing_is_reclaimed_for_its_age_while_copying(void**) {
    const Table old = make_table(shared_memory(kMemory));
    std::uint64_t count = 0;
    while (add(old, count + 1, 100, kNow - kHour, kNow - kHour) == InsertResult::inserted) {
        ++count;
    }
    {
        LockedShard shard = old.lock(token_of(1).handle);
        old.supersede(shard, token_of(1).handle, token_of(2).handle, kNow - 1);
    }
    const Table fresh = make_table(shared_memory(kMemory / 2));
    std::uint64_t copied = 0;
    std::uint64_t needed = 0;
    assert_false(fresh.copy_from(old, kNow, no_pause, copied, needed));
    assert_int_equal(needed, count);
    assert_false(fresh.find_tombstone(token_of(1).handle, kNow).has_value());
}

// Would catch: a store that came up empty and is told of some sessions only, or of what has ended
// as of what lives.
void a_walk_meets_every_session_and_every_end(void**) {
    const Table table = old_table();
    for (std::uint64_t n = 1; n <= 10; ++n) {
        LockedShard shard = table.lock(token_of(n).handle);
        table.remove(shard, token_of(n).handle, Departure::ended, kNow + kHour);
    }
    std::array<Handle, 7> handles;
    std::vector<Handle> met;
    for (Table::Cursor cursor; cursor.shard < table.shard_count();) {
        const std::size_t count = table.walk_sessions(cursor, 50, handles);
        met.insert(met.end(), handles.begin(), handles.begin() + count);
    }
    assert_int_equal(met.size(), kSessions - 10);
    for (std::uint64_t n = 11; n <= kSessions; ++n) {
        assert_int_equal(std::count(met.begin(), met.end(), token_of(n).handle), 1);
    }
    std::array<Table::Ended, 12> ended;
    std::vector<Handle> gone;
    for (Table::Cursor cursor; cursor.shard < table.shard_count();) {
        const std::size_t count = table.walk_ended(cursor, 50, kNow, ended);
        for (std::size_t i = 0; i < count; ++i) {
            assert_int_equal(ended[i].why, Departure::ended);
            assert_int_equal(ended[i].until, kNow + kHour);
            gone.push_back(ended[i].handle);
        }
    }
    assert_int_equal(gone.size(), 10);
    assert_int_equal(std::count(gone.begin(), gone.end(), token_of(3).handle), 1);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_walk_meets_every_session_and_every_end),
        cmocka_unit_test(sessions_of_a_half_repaired_shard_are_copied),
        cmocka_unit_test(a_session_that_ends_during_the_copy_is_not_in_it),
        cmocka_unit_test(a_session_superseded_during_the_copy_is_so_in_it),
        cmocka_unit_test(a_session_that_moves_during_the_copy_is_in_it),
        cmocka_unit_test(nothing_is_reclaimed_for_its_age_while_copying),
    };
    return cmocka_run_group_tests_name("copy of a table", tests, nullptr, nullptr);
}
