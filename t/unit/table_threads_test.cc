// Threads on one zone table, for ThreadSanitizer (make tsan): whatever several workers may touch at
// once is an atomic word, or under the shard's lock. What the readers must never see is
// table_hammer_test's subject, with processes.
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "unit/zone_support.h"

// After the others: cmocka has a macro fail().
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

using namespace sg;
using namespace sg::test;

namespace {

constexpr std::size_t kMemory = 48 * 1024;  // small: cells are used again all the time
constexpr std::uint64_t kAlways = 20;       // sessions 1..20 stay, others come and go
constexpr std::uint64_t kAll = 80;
constexpr std::chrono::milliseconds kTime{700};

struct Shared {
    Table table = make_table(shared_memory(kMemory));
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> wrong{0};
    std::atomic<std::uint64_t> reads{0};
    std::atomic<std::uint64_t> writes{0};
};

void read_one(Shared& shared, std::uint64_t n) {
    Seen seen = look(shared.table, n);
    if (seen.result == FindResult::busy) {
        return;
    }
    const bool is_there = seen.result == FindResult::found;
    const bool is_whole = is_there && seen.edition && same_token(seen.view.token, token_of(n));
    shared.wrong += is_there ? !is_whole : n <= kAlways;
    if (is_whole) {
        shared.table.touch(seen.view.slot, seen.view.last_seen + 1000);
    }
    ++shared.reads;
}

void write_one(Shared& shared, std::uint64_t n, std::uint64_t random) {
    const Token token = token_of(n);
    const std::size_t size = 60 + random % 700;
    {
        LockedShard shard = shared.table.lock(token.handle);
        if (n <= kAlways) {
            shared.table.replace(shard, token, record_of(n, random % 200, size), kLimits, kNow);
        } else if (!shared.table.remove(shard, token.handle, Departure::ended, kNow + kHour)) {
            shared.table.insert(shard, token, record_of(n, 0, size), kNow, kLimits, kNow);
        }
    }
    if (random % 64 == 0) {
        LockedShard shard = shared.table.lock_shard(random % shared.table.shard_count());
        shared.table.sweep_shard(shard, kLimits, kNow, 64);
    }
    ++shared.writes;
}

void work(Shared& shared, std::uint64_t seed, bool is_writer) {
    while (!shared.stop.load()) {
        const std::uint64_t random = scramble(seed++);
        const std::uint64_t n = 1 + random % kAll;
        if (is_writer) {
            write_one(shared, n, random >> 8);
        } else {
            read_one(shared, n);
        }
    }
}

void threads_share_a_table_without_a_race(void**) {
    static Shared shared;
    for (std::uint64_t n = 1; n <= kAlways; ++n) {
        assert_int_equal(add(shared.table, n, 100), InsertResult::inserted);
    }
    std::vector<std::thread> threads;
    for (std::uint64_t i = 0; i < 4; ++i) {
        threads.emplace_back(work, std::ref(shared), i * 1'000'000, i % 2 == 0);
    }
    std::this_thread::sleep_for(kTime);
    shared.stop.store(true);
    for (std::thread& thread : threads) {
        thread.join();
    }
    assert_int_equal(shared.wrong.load(), 0);
    assert_true(shared.reads.load() > 0 && shared.writes.load() > 0);
    assert_null(broken_invariant(shared.table));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(threads_share_a_table_without_a_race)};
    return cmocka_run_group_tests_name("table and threads", tests, nullptr, nullptr);
}
