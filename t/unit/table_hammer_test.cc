// Several processes at once on one table, some of them killed: readers must never see a torn
// record, a stranger's credential, or miss a session that is always there.
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

#include <algorithm>

#include "unit/zone_support.h"

using namespace sg;
using namespace sg::test;

namespace {

constexpr std::size_t kMemory = 48 * 1024;  // small: cells are reused all the time
constexpr std::uint64_t kAlways =
    20;  // sessions 1..20 are never removed, only replaced and touched
constexpr std::uint64_t kComing = 60;  // 21..80 come and go
constexpr double kSeconds = 1.0;

double clock_seconds() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

std::size_t size_for(std::uint64_t n) {
    return 60 + scramble(n) % 700;
}

enum Exit : int { fine = 0, torn = 10, lost = 11, stranger = 12, nothing_done = 13 };

FindResult find(const Table& table, std::uint64_t n, SessionView& view, ByteSpan record) {
    const FindResult result = table.find(token_of(n).handle, view, record);
    if (result != FindResult::busy) {
        return result;
    }
    LockedShard shard = table.lock(token_of(n).handle);
    return table.find_locked(shard, token_of(n).handle, view, record);
}

Exit read_one(const Table& table, std::uint64_t n) {
    std::array<std::uint8_t, 2048> record;
    SessionView view;
    const FindResult result = find(table, n, view, record);
    if (result == FindResult::absent) {
        return n <= kAlways ? lost : fine;
    }
    if (result != FindResult::found || !edition_of(n, ByteView(record).first(view.record_size))) {
        return torn;
    }
    if (!same_token(view.token, token_of(n))) {
        return stranger;
    }
    table.touch(view.slot, view.last_seen + 1000);
    return fine;
}

Exit reader(const Table& table, std::uint64_t seed) {
    const double end = clock_seconds() + kSeconds;
    std::uint64_t reads = 0;
    while (clock_seconds() < end) {
        for (int i = 0; i < 200; ++i, ++reads) {
            const Exit result = read_one(table, 1 + scramble(seed++) % (kAlways + kComing));
            if (result != fine) {
                return result;
            }
        }
    }
    return reads > 1000 ? fine : nothing_done;
}

void write_one(const Table& table, std::uint64_t n, std::uint64_t edition) {
    const Token token = token_of(n);
    LockedShard shard = table.lock(token.handle);
    if (n <= kAlways) {
        table.replace(shard, token, record_of(n, edition % 200, size_for(edition)), kLimits, kNow);
    } else if (!table.remove(shard, token.handle, Departure::ended, kNow + kHour)) {
        table.insert(shard, token, record_of(n, 0, size_for(edition)), kNow, kLimits, kNow);
    }
}

[[noreturn]] void writer(const Table& table, std::uint64_t seed, double seconds) {
    const double end = clock_seconds() + seconds;
    while (clock_seconds() < end) {
        for (int i = 0; i < 50; ++i, ++seed) {
            write_one(table, 1 + scramble(seed) % (kAlways + kComing), seed);
        }
    }
    _exit(fine);
}

Table table_with_sessions() {
    const Table table = make_table(shared_memory(kMemory));
    for (std::uint64_t n = 1; n <= kAlways; ++n) {
        assert_int_equal(add(table, n, size_for(n)), InsertResult::inserted);
    }
    return table;
}

pid_t start_reader(const Table& table, std::uint64_t seed) {
    const pid_t child = fork();
    if (child == 0) {
        _exit(reader(table, seed));
    }
    return child;
}

pid_t start_writer(const Table& table, std::uint64_t seed, double seconds) {
    const pid_t child = fork();
    if (child == 0) {
        writer(table, seed, seconds);
    }
    return child;
}

void assert_fine(pid_t child) {
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), fine);
}

void assert_all_there(const Table& table) {
    assert_null(broken_invariant(table));
    for (std::uint64_t n = 1; n <= kAlways; ++n) {
        assert_true(is_there(table, n));
    }
}

void readers_beside_writers_see_whole_sessions_only(void**) {
    const Table table = table_with_sessions();
    const pid_t children[] = {start_reader(table, 1), start_reader(table, 1'000'000),
                              start_writer(table, 7, kSeconds),
                              start_writer(table, 9'000'000, kSeconds)};
    for (const pid_t child : children) {
        assert_fine(child);
    }
    assert_all_there(table);
}

// kill -9 of the writer, again and again, while others read and write.
void killed_writers_wedge_nobody_and_lose_nothing(void**) {
    const Table table = table_with_sessions();
    const pid_t first = start_reader(table, 1);
    const pid_t second = start_reader(table, 1'000'000);
    const pid_t steady = start_writer(table, 5, kSeconds);
    const double end = clock_seconds() + kSeconds;
    std::uint64_t kills = 0;
    while (clock_seconds() < end) {
        const pid_t victim = start_writer(table, 1000 * ++kills, 60);
        const timespec pause{.tv_sec = 0,
                             .tv_nsec = static_cast<long>(scramble(kills) % 3'000'000)};
        nanosleep(&pause, nullptr);
        kill(victim, SIGKILL);
        waitpid(victim, nullptr, 0);
    }
    assert_fine(first);
    assert_fine(second);
    assert_fine(steady);
    assert_true(kills > 20);
    assert_all_there(table);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(readers_beside_writers_see_whole_sessions_only),
        cmocka_unit_test(killed_writers_wedge_nobody_and_lose_nothing),
    };
    return cmocka_run_group_tests_name("table under load", tests, nullptr, nullptr);
}
