// The zone's table as its users see it: one process, no crash.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include "unit/zone_support.h"

using namespace sg;
using namespace sg::test;

namespace {

constexpr std::size_t kMemory = 256 * 1024;

// A look-up that returned the slot's bytes without its tail, or another session's.
void a_session_is_found_with_its_record_and_credential(void**) {
    const Table table = make_table(shared_memory(kMemory));
    for (const std::size_t size : {40UL, 184UL, 185UL, 368UL, 369UL, 2000UL}) {
        assert_int_equal(add(table, size, size), InsertResult::inserted);
        const Seen seen = look(table, size);
        assert_int_equal(seen.result, FindResult::found);
        assert_int_equal(seen.view.record_size, size);
        assert_true(seen.edition.has_value());
        assert_true(same_token(seen.view.token, token_of(size)));
        assert_int_equal(seen.view.last_seen, kNow);
        assert_int_equal(seen.view.superseded_until, 0);
    }
    assert_null(broken_invariant(table));
}

void an_unknown_handle_is_absent(void**) {
    const Table table = make_table(shared_memory(kMemory));
    assert_int_equal(look(table, 1).result, FindResult::absent);
    add(table, 1, 100);
    assert_int_equal(look(table, 2).result, FindResult::absent);
}

// The handle of all zeros names no free cell (their handles are wiped to zero).
void the_zero_handle_names_nothing(void**) {
    const Table table = make_table(shared_memory(kMemory));
    SessionView view;
    std::array<std::uint8_t, 64> record;
    assert_int_equal(table.find(Handle{}, view, record), FindResult::absent);
}

void a_short_buffer_is_told_the_size_and_the_credential(void**) {
    const Table table = make_table(shared_memory(kMemory));
    add(table, 5, 500);
    SessionView view;
    std::array<std::uint8_t, 499> record;
    assert_int_equal(table.find(token_of(5).handle, view, record), FindResult::too_small);
    assert_int_equal(view.record_size, 500);
    assert_true(same_token(view.token, token_of(5)));
}

void the_same_handle_is_not_inserted_twice(void**) {
    const Table table = make_table(shared_memory(kMemory));
    assert_int_equal(add(table, 1, 100), InsertResult::inserted);
    assert_int_equal(add(table, 1, 100), InsertResult::exists);
    assert_null(broken_invariant(table));
}

// Ended means ended: not found, and the tombstone says why, until it has run out.
void a_removed_session_is_absent_and_leaves_a_tombstone(void**) {
    const Table table = make_table(shared_memory(kMemory));
    add(table, 1, 600);
    {
        LockedShard shard = table.lock(token_of(1).handle);
        assert_true(table.remove(shard, token_of(1).handle, Departure::ended, kNow + 1000));
        assert_false(table.remove(shard, token_of(1).handle, Departure::ended, kNow + 1000));
    }
    assert_int_equal(look(table, 1).result, FindResult::absent);
    assert_true(table.find_tombstone(token_of(1).handle, kNow + 999) == Departure::ended);
    assert_false(table.find_tombstone(token_of(1).handle, kNow + 1000).has_value());
    assert_false(table.find_tombstone(token_of(2).handle, kNow).has_value());
    assert_int_equal(table.stats().cells_used, 0);
    assert_null(broken_invariant(table));
}

void a_touch_moves_last_seen_by_a_second_or_more_and_never_back(void**) {
    const Table table = make_table(shared_memory(kMemory));
    add(table, 1, 100);
    const SlotRef slot = look(table, 1).view.slot;
    assert_false(table.touch(slot, kNow + 999));
    assert_int_equal(look(table, 1).view.last_seen, kNow);
    assert_true(table.touch(slot, kNow + 1000));
    assert_int_equal(look(table, 1).view.last_seen, kNow + 1000);
    assert_false(table.touch(slot, kNow - 60'000));
    assert_int_equal(look(table, 1).view.last_seen, kNow + 1000);
}

// A late touch must never extend the stranger who got the cell.
void a_touch_of_a_reused_cell_does_nothing(void**) {
    const Table table = make_table(shared_memory(kMemory));
    add(table, 1, 100);
    const SlotRef slot = look(table, 1).view.slot;
    {
        LockedShard shard = table.lock(token_of(1).handle);
        table.remove(shard, token_of(1).handle, Departure::ended, kNow);
    }
    assert_false(table.touch(slot, kNow + 10'000));
    add(table, 2, 100);
    assert_int_equal(look(table, 2).view.slot.index, slot.index);
    assert_false(table.touch(slot, kNow + 10'000));
    assert_int_equal(look(table, 2).view.last_seen, kNow);
}

void a_slot_reference_out_of_range_does_nothing(void**) {
    const Table table = make_table(shared_memory(kMemory));
    assert_false(table.touch({.shard = 0, .index = 0, .generation = 0}, kNow));
    assert_false(table.touch({.shard = 0, .index = 1u << 30, .generation = 0}, kNow));
    assert_false(table.touch({.shard = 99, .index = 1, .generation = 0}, kNow));
}

void a_replaced_record_keeps_credential_and_last_seen(void**) {
    const Table table = make_table(shared_memory(kMemory));
    add(table, 1, 100);
    table.touch(look(table, 1).view.slot, kNow + 5000);
    for (std::uint64_t edition = 1; edition < 40; ++edition) {
        LockedShard shard = table.lock(token_of(1).handle);
        const auto result = table.replace(shard, token_of(1),
                                          record_of(1, edition, 100 + edition * 20), kLimits, kNow);
        assert_true(result == InsertResult::inserted);
    }
    const Seen seen = look(table, 1);
    assert_true(seen.edition == 39);
    assert_true(same_token(seen.view.token, token_of(1)));
    assert_int_equal(seen.view.last_seen, kNow + 5000);
    assert_int_equal(table.stats().live, 1);
    assert_null(broken_invariant(table));
}

void nothing_is_replaced_where_no_live_session_is(void**) {
    const Table table = make_table(shared_memory(kMemory));
    LockedShard shard = table.lock(token_of(1).handle);
    assert_false(
        table.replace(shard, token_of(1), record_of(1, 1, 100), kLimits, kNow).has_value());
}

void a_superseded_session_names_its_successor_and_is_not_changed_again(void**) {
    const Table table = make_table(shared_memory(kMemory));
    add(table, 1, 100);
    LockedShard shard = table.lock(token_of(1).handle);
    assert_true(table.supersede(shard, token_of(1).handle, token_of(2).handle, kNow + 10'000));
    assert_false(table.supersede(shard, token_of(1).handle, token_of(3).handle, kNow + 10'000));
    assert_false(
        table.replace(shard, token_of(1), record_of(1, 1, 100), kLimits, kNow).has_value());
    const Seen seen = look(table, 1);
    assert_int_equal(seen.view.superseded_until, kNow + 10'000);
    assert_memory_equal(seen.view.successor.data(), token_of(2).handle.data(), 16);
}

std::uint64_t fill(const Table& table, std::size_t size, TimeMs last_seen) {
    std::uint64_t n = 1;
    while (add(table, n, size, last_seen) == InsertResult::inserted) {
        ++n;
    }
    return n - 1;
}

// Live logins stay: the new one is refused.
void a_full_table_refuses_and_keeps_every_live_session(void**) {
    const Table table = make_table(shared_memory(kMemory));
    const std::uint64_t count = fill(table, 100, kNow);
    assert_true(count > 500);
    assert_int_equal(add(table, count + 1, 100), InsertResult::full);
    for (std::uint64_t n = 1; n <= count; ++n) {
        assert_true(is_there(table, n));
    }
    assert_null(broken_invariant(table));
}

// Expired first: a table full of the dead must take the living, and remember why the dead left.
void a_full_table_reclaims_expired_sessions_for_a_new_one(void**) {
    const Table table = make_table(shared_memory(kMemory));
    const std::uint64_t count = fill(table, 100, kNow);
    const TimeMs later = kNow + kLimits.idle;
    assert_int_equal(add(table, count + 1, 100, later, later), InsertResult::inserted);
    assert_int_equal(table.stats().live, 1);
    assert_true(table.find_tombstone(token_of(count).handle, later) == Departure::expired_idle);
    assert_null(broken_invariant(table));
}

// Would catch: a login refused for the sake of an old handle that passes no more; or a handle that
// still passes thrown out for it.
void a_full_table_gives_up_superseded_sessions_whose_window_is_over(void**) {
    const Table table = make_table(shared_memory(kMemory));
    const std::uint64_t count = fill(table, 100, kNow);
    {
        LockedShard shard = table.lock(token_of(3).handle);
        table.supersede(shard, token_of(3).handle, token_of(4).handle, kNow + 10'000);
    }
    assert_int_equal(add(table, count + 1, 100, kNow, kNow + 9'999), InsertResult::full);
    assert_int_equal(look(table, 3).result, FindResult::found);
    assert_int_equal(add(table, count + 1, 100, kNow, kNow + 10'000), InsertResult::inserted);
    assert_int_equal(look(table, 3).result, FindResult::absent);
    assert_null(broken_invariant(table));
}

void the_sweep_takes_expired_and_outlived_sessions_only(void**) {
    const Table table = make_table(shared_memory(kMemory));
    add(table, 1, 100, kNow);                     // idle by then
    add(table, 2, 100, kNow + kLimits.idle - 1);  // not
    add(table, 3, 100, kNow + kLimits.idle - 1);  // superseded, over
    {
        LockedShard shard = table.lock(token_of(3).handle);
        table.supersede(shard, token_of(3).handle, token_of(2).handle, kNow + 10'000);
    }
    const TimeMs later = kNow + kLimits.idle;
    LockedShard shard = table.lock_shard(0);
    assert_int_equal(table.sweep_shard(shard, kLimits, later, table.cells_per_shard()), 1);
    assert_int_equal(look(table, 2).result, FindResult::found);
    assert_true(table.find_tombstone(token_of(1).handle, later) == Departure::expired_idle);
    // A slow response may still want to end what this one was regenerated into.
    assert_int_equal(look(table, 3).result, FindResult::found);
    const TimeMs hour_later = kNow + 10'000 + kHour;
    table.sweep_shard(shard, kLimits, hour_later, table.cells_per_shard());
    assert_int_equal(look(table, 3).result, FindResult::absent);
    assert_true(table.find_tombstone(token_of(3).handle, hour_later) == Departure::regenerated);
}

// A clock that steps back must not make anybody old.
void the_sweep_spares_sessions_from_the_future(void**) {
    const Table table = make_table(shared_memory(kMemory));
    add(table, 1, 100, kNow + kHour);
    LockedShard shard = table.lock_shard(0);
    assert_int_equal(table.sweep_shard(shard, kLimits, kNow, table.cells_per_shard()), 0);
}

void a_record_no_shard_can_hold_is_too_large(void**) {
    const Table table = make_table(shared_memory(8 * 1024));
    std::array<std::uint8_t, 2048> big{};
    const Token token = token_of(1);
    LockedShard shard = table.lock(token.handle);
    assert_int_equal(table.insert(shard, token, ByteView(big).first(2048), kNow, kLimits, kNow),
                     InsertResult::inserted);
    static std::array<std::uint8_t, Table::kMaxRecordBytes + 1> huge{};
    assert_int_equal(table.insert(shard, token_of(2), huge, kNow, kLimits, kNow),
                     InsertResult::too_large);
}

void attaching_sees_the_same_table_and_refuses_any_other_geometry(void**) {
    const auto memory = shared_memory(kMemory);
    assert_false(Table::attach(memory).has_value());
    const Table table = make_table(memory);
    add(table, 1, 100);
    const auto again = Table::attach(memory);
    assert_true(again.has_value());
    assert_true(is_there(*again, 1));
    assert_int_equal(again->master_key()[0], 0x33);
    assert_false(Table::attach(memory.first(kMemory - 4096)).has_value());
    memory[0] ^= std::byte{1};
    assert_false(Table::attach(memory).has_value());
}

void a_span_below_the_minimum_is_refused(void**) {
    std::array<std::uint8_t, Table::kHashKeyBytes> hash_key{};
    std::array<std::uint8_t, Table::kMasterKeyBytes> master{};
    const auto memory = shared_memory(kMemory);
    assert_false(Table::format(memory.first(0), hash_key, master).has_value());
    assert_false(Table::format(memory.first(2048), hash_key, master).has_value());
    assert_true(Table::format(memory.first(Table::minimum_bytes()), hash_key, master).has_value());
}

// The header's own alignment: a compiler may clear it with instructions that insist on it.
void a_span_that_is_not_aligned_is_refused(void**) {
    std::array<std::uint8_t, Table::kHashKeyBytes> hash_key{};
    std::array<std::uint8_t, Table::kMasterKeyBytes> master{};
    const auto memory = shared_memory(kMemory).subspan(8);
    assert_false(Table::format(memory, hash_key, master).has_value());
    assert_false(Table::attach(memory).has_value());
}

// Until 0 means live in a view: a successor must never be named without a restriction.
void a_session_superseded_until_nothing_is_not_live(void**) {
    const Table table = make_table(shared_memory(kMemory));
    add(table, 1, 100);
    LockedShard shard = table.lock(token_of(1).handle);
    assert_true(table.supersede(shard, token_of(1).handle, token_of(2).handle, 0));
    assert_true(look(table, 1).view.superseded_until != 0);
}

// Per-session limits shorten the realm's.
void the_sweep_honours_the_limits_in_the_record(void**) {
    const Table table = make_table(shared_memory(kMemory));
    for (const std::uint64_t n : {1UL, 2UL, 3UL}) {
        RecordBytes record = record_of(n, 0, 100);
        store_le<std::uint32_t>(record.bytes.data() + 24, n == 1 ? 60 : 0);
        store_le<std::uint32_t>(record.bytes.data() + 28, n == 2 ? 60 : 0);
        const Token token = token_of(n);
        LockedShard shard = table.lock(token.handle);
        table.insert(shard, token, record, kNow, kLimits, kNow);
    }
    LockedShard shard = table.lock_shard(0);
    assert_int_equal(table.sweep_shard(shard, kLimits, kNow + 59'999, table.cells_per_shard()), 0);
    assert_int_equal(table.sweep_shard(shard, kLimits, kNow + 60'000, table.cells_per_shard()), 2);
    assert_true(table.find_tombstone(token_of(1).handle, kNow) == Departure::expired_idle);
    assert_true(table.find_tombstone(token_of(2).handle, kNow) == Departure::expired_absolute);
    assert_true(is_there(table, 3));
}

// More tombstones than a set holds: the newest are known, nothing else breaks.
void old_tombstones_make_room_for_new_ones(void**) {
    const Table table = make_table(shared_memory(16 * 1024));
    for (std::uint64_t n = 1; n <= 2000; ++n) {
        LockedShard shard = table.lock(token_of(n).handle);
        table.remove(shard, token_of(n).handle, Departure::ended,
                     kNow + static_cast<TimeMs>(n) * 1000);
        assert_true(table.find_tombstone(token_of(n).handle, kNow) == Departure::ended);
    }
    assert_null(broken_invariant(table));
}

// What `zone` must be sized by: all included, and shards filled unevenly.
void a_million_typical_sessions_need_at_most_320_bytes_each(void**) {
    constexpr std::uint64_t kSessions = 1'000'000;
    const Table table = make_table(shared_memory(kSessions * 320));
    std::uint64_t stored = 0;
    for (std::uint64_t n = 0; n < kSessions; ++n) {
        stored += add(table, n, kInlineBytes) == InsertResult::inserted ? 1 : 0;
    }
    assert_int_equal(stored, kSessions);
}

// Would catch: shards that grow with the zone. A login that finds no room looks through its whole
// shard, a repair as well, and every other request of the worker waits meanwhile.
void a_large_table_has_more_shards_not_larger_ones(void**) {
    constexpr std::size_t kLarge = 448'000'000;
    const auto memory = shared_memory(kLarge);
    const Table table = make_table(memory);
    assert_true(table.cells_per_shard() < 17'000);
    assert_true(table.shard_count() * table.cells_per_shard() * 305 > kLarge);
    const auto again = Table::attach(memory);
    assert_true(again.has_value());
    munmap(memory.data(), memory.size());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_session_is_found_with_its_record_and_credential),
        cmocka_unit_test(an_unknown_handle_is_absent),
        cmocka_unit_test(the_zero_handle_names_nothing),
        cmocka_unit_test(a_short_buffer_is_told_the_size_and_the_credential),
        cmocka_unit_test(the_same_handle_is_not_inserted_twice),
        cmocka_unit_test(a_removed_session_is_absent_and_leaves_a_tombstone),
        cmocka_unit_test(a_touch_moves_last_seen_by_a_second_or_more_and_never_back),
        cmocka_unit_test(a_touch_of_a_reused_cell_does_nothing),
        cmocka_unit_test(a_slot_reference_out_of_range_does_nothing),
        cmocka_unit_test(a_replaced_record_keeps_credential_and_last_seen),
        cmocka_unit_test(nothing_is_replaced_where_no_live_session_is),
        cmocka_unit_test(a_superseded_session_names_its_successor_and_is_not_changed_again),
        cmocka_unit_test(a_full_table_refuses_and_keeps_every_live_session),
        cmocka_unit_test(a_full_table_reclaims_expired_sessions_for_a_new_one),
        cmocka_unit_test(a_full_table_gives_up_superseded_sessions_whose_window_is_over),
        cmocka_unit_test(the_sweep_takes_expired_and_outlived_sessions_only),
        cmocka_unit_test(the_sweep_spares_sessions_from_the_future),
        cmocka_unit_test(a_record_no_shard_can_hold_is_too_large),
        cmocka_unit_test(attaching_sees_the_same_table_and_refuses_any_other_geometry),
        cmocka_unit_test(a_span_below_the_minimum_is_refused),
        cmocka_unit_test(a_span_that_is_not_aligned_is_refused),
        cmocka_unit_test(a_session_superseded_until_nothing_is_not_live),
        cmocka_unit_test(the_sweep_honours_the_limits_in_the_record),
        cmocka_unit_test(old_tombstones_make_room_for_new_ones),
        cmocka_unit_test(a_million_typical_sessions_need_at_most_320_bytes_each),
        cmocka_unit_test(a_large_table_has_more_shards_not_larger_ones),
    };
    return cmocka_run_group_tests_name("table", tests, nullptr, nullptr);
}
