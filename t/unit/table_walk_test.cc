// Rounds through a table.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include <algorithm>
#include <array>
#include <vector>

#include "unit/zone_support.h"

using namespace sg;
using namespace sg::test;

namespace {

constexpr std::size_t kMemory = 128 * 1024;
constexpr std::uint64_t kSessions = 60;

Table table_with_sessions() {
    const Table table = make_table(shared_memory(kMemory));
    for (std::uint64_t n = 1; n <= kSessions; ++n) {
        assert_int_equal(add(table, n, n % 3 == 0 ? 500 : 120), InsertResult::inserted);
    }
    return table;
}

// Would catch: a store that came up empty and is told of some sessions only, or of what has ended
// as of what lives.
void a_walk_meets_every_session_and_every_end(void**) {
    const Table table = table_with_sessions();
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
    };
    return cmocka_run_group_tests_name("rounds through a table", tests, nullptr, nullptr);
}
