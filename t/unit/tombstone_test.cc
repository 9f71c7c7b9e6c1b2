// Tombstones: which are kept, which go, what a killed writer leaves.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include "core/zone/tombstones.h"
#include "unit/zone_support.h"

using namespace sg;
using namespace sg::test;

namespace {

// The smallest table has one set: every handle meets every other in it.
Table table_of_one_set() {
    const Table table = make_table(shared_memory(Table::minimum_bytes()));
    LockedShard shard = table.lock_shard(0);
    assert_int_equal(shard.shard().header->tombstone_sets, 1);
    return table;
}

void bury(const Table& table, std::uint64_t n, Departure why, TimeMs until) {
    LockedShard shard = table.lock(token_of(n).handle);
    assert_false(table.remove(shard, token_of(n).handle, why, until));
}

std::optional<Departure> reason(const Table& table, std::uint64_t n, TimeMs now = kNow) {
    return table.find_tombstone(token_of(n).handle, now);
}

void every_reason_is_told_until_its_time_has_come(void**) {
    const Table table = table_of_one_set();
    const Departure all[] = {Departure::ended, Departure::regenerated, Departure::expired_idle,
                             Departure::expired_absolute};
    for (std::uint64_t n = 0; n < 4; ++n) {
        bury(table, n, all[n], kNow + 100);
    }
    for (std::uint64_t n = 0; n < 4; ++n) {
        assert_true(reason(table, n, kNow + 99) == all[n]);
        assert_false(reason(table, n, kNow + 100).has_value());
    }
}

// One handle twice in a set would leave the older reason to be found.
void a_second_tombstone_of_a_handle_takes_the_place_of_the_first(void**) {
    const Table table = table_of_one_set();
    for (std::uint64_t n = 1; n <= kTombstonesPerSet; ++n) {
        bury(table, n, Departure::ended, kNow + 1000);
    }
    bury(table, 3, Departure::expired_idle, kNow + 9000);
    assert_true(reason(table, 3) == Departure::expired_idle);
    assert_true(reason(table, 3, kNow + 8999) == Departure::expired_idle);
    for (std::uint64_t n = 1; n <= kTombstonesPerSet; ++n) {
        assert_true(reason(table, n).has_value());
    }
}

void the_one_that_ends_soonest_makes_room(void**) {
    const Table table = table_of_one_set();
    for (std::uint64_t n = 1; n <= kTombstonesPerSet; ++n) {
        bury(table, n, Departure::ended, kNow + (n == 4 ? 500 : 5000));
    }
    bury(table, 100, Departure::regenerated, kNow + 300);
    assert_false(reason(table, 4).has_value());
    for (const std::uint64_t n : {1UL, 2UL, 3UL, 5UL, 100UL}) {
        assert_true(reason(table, n).has_value());
    }
}

// An expired entry is worth nothing: it goes before any that still counts.
void an_expired_one_makes_room_first(void**) {
    const Table table = table_of_one_set();
    for (std::uint64_t n = 1; n <= kTombstonesPerSet; ++n) {
        bury(table, n, Departure::ended, n == 2 ? kNow - 1 : kNow + 1000);
    }
    bury(table, 100, Departure::ended, kNow + 1000);
    for (const std::uint64_t n : {1UL, 3UL, 4UL, 5UL, 100UL}) {
        assert_true(reason(table, n) == Departure::ended);
    }
}

// Empty entries carry the handle of all zeros.
void the_zero_handle_has_no_tombstone(void**) {
    const Table table = table_of_one_set();
    assert_false(table.find_tombstone(Handle{}, kNow).has_value());
    assert_false(table.find_tombstone(Handle{}, -1).has_value());
}

// A time before 1970 must not become one in the far future.
void a_negative_time_is_over_at_once(void**) {
    const Table table = table_of_one_set();
    bury(table, 1, Departure::ended, -5);
    assert_false(reason(table, 1, 0).has_value());
}

// Half a handle and an old time: neither may be believed; the reader must come back.
void a_set_left_half_written_tells_nothing_and_is_cleared(void**) {
    const Table table = table_of_one_set();
    bury(table, 1, Departure::ended, kNow + 1000);
    {
        LockedShard shard = table.lock_shard(0);
        shard.shard().sets[0].sequence.begin_write();
        assert_false(reason(table, 1).has_value());
        repair_tombstones(shard.shard());
    }
    assert_false(reason(table, 1).has_value());
    bury(table, 1, Departure::regenerated, kNow + 1000);
    assert_true(reason(table, 1) == Departure::regenerated);
}

void a_repair_keeps_the_tombstones_that_are_whole(void**) {
    const Table table = table_of_one_set();
    bury(table, 1, Departure::ended, kNow + 1000);
    {
        LockedShard shard = table.lock_shard(0);
        repair_shard(shard.shard());
    }
    assert_true(reason(table, 1) == Departure::ended);
}

// Sessions swept for their age must answer late comers as long as their cookie may live.
void the_sweep_buries_for_the_absolute_time_and_five_minutes(void**) {
    const Table table = table_of_one_set();
    add(table, 1, 100);
    const TimeMs later = kNow + kLimits.idle;
    {
        LockedShard shard = table.lock_shard(0);
        table.sweep_shard(shard, kLimits, later, table.cells_per_shard());
    }
    const TimeMs until = later + kLimits.absolute + 5 * kMinute;
    assert_true(reason(table, 1, until - 1) == Departure::expired_idle);
    assert_false(reason(table, 1, until).has_value());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(every_reason_is_told_until_its_time_has_come),
        cmocka_unit_test(a_second_tombstone_of_a_handle_takes_the_place_of_the_first),
        cmocka_unit_test(the_one_that_ends_soonest_makes_room),
        cmocka_unit_test(an_expired_one_makes_room_first),
        cmocka_unit_test(the_zero_handle_has_no_tombstone),
        cmocka_unit_test(a_negative_time_is_over_at_once),
        cmocka_unit_test(a_set_left_half_written_tells_nothing_and_is_cleared),
        cmocka_unit_test(a_repair_keeps_the_tombstones_that_are_whole),
        cmocka_unit_test(the_sweep_buries_for_the_absolute_time_and_five_minutes),
    };
    return cmocka_run_group_tests_name("tombstones", tests, nullptr, nullptr);
}
