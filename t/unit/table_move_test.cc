// Sessions on their way from one table to another: looked for between every two stores, with the
// mover killed at every store, and under load. There is no instant at which a session is nowhere.
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

#include <vector>

#include "core/handover.h"
#include "unit/zone_support.h"

using namespace sg;
using namespace sg::test;

namespace {

constexpr std::size_t kMemory = 24 * 1024;
constexpr std::uint64_t kSessions = 6;
constexpr std::uint64_t kSuperseded = 5;
constexpr TimeMs kUntil = kNow + 10'000;
constexpr int kDied = 3;
constexpr int kFinished = 4;

// Two tables; the sessions are in the first, one of them has been regenerated.
struct Scene {
    std::array<Table, 2> tables;
    const Table& old() const { return tables[0]; }
    const Table& fresh() const { return tables[1]; }
    Realm realm() const {
        Realm realm;
        realm.table = &tables[1];
        realm.older = std::span(tables).first(1);
        return realm;
    }
};

Scene scene(std::uint64_t sessions = kSessions) {
    static const std::span<std::byte> old = shared_memory(kMemory);
    static const std::span<std::byte> fresh = shared_memory(kMemory);
    const Scene made{{make_table(old), make_table(fresh)}};
    for (std::uint64_t n = 1; n <= sessions; ++n) {
        assert_int_equal(add(made.old(), n, n % 2 == 0 ? 500 : 120), InsertResult::inserted);
    }
    LockedShard shard = made.old().lock(token_of(kSuperseded).handle);
    made.old().supersede(shard, token_of(kSuperseded).handle, token_of(1).handle, kUntil);
    return made;
}

void move_all(const Scene& scene) {
    scene.old().close();
    scene.old().move_cells(0, 0, scene.old().cells_per_shard(), {&scene.tables[1], 1});
}

// What a reader sees who asks the older table first.
Seen look_in_both(const Scene& scene, std::uint64_t n) {
    const Seen seen = look(scene.old(), n);
    return seen.result == FindResult::absent ? look(scene.fresh(), n) : seen;
}

bool is_as_it_was(const Seen& seen, std::uint64_t n) {
    return seen.result == FindResult::found && seen.edition == 0 &&
           same_token(seen.view.token, token_of(n)) &&
           (seen.view.superseded_until == kUntil) == (n == kSuperseded);
}

// ---------------------------------------------------------------- between any two stores

const Scene* moving;
int looks;
std::uint64_t wrong;

void look_around() {
    for (std::uint64_t n = 1; n <= kSessions; ++n) {
        const Seen seen = look_in_both(*moving, n);
        // busy: whoever reads then waits for the lock
        wrong += seen.result == FindResult::busy || is_as_it_was(seen, n) ? 0 : 1;
    }
    ++looks;
}

void a_session_is_somewhere_at_every_instant_of_a_move(void**) {
    const Scene made = scene();
    moving = &made;
    looks = 0;
    wrong = 0;
    sg_on_store = look_around;
    move_all(made);
    sg_on_store = nullptr;
    assert_true(looks > 300);
    assert_int_equal(wrong, 0);
    assert_int_equal(made.old().stats().live, 0);
    assert_int_equal(made.fresh().stats().live, kSessions);
    assert_null(broken_invariant(made.old()));
    assert_null(broken_invariant(made.fresh()));
}

// A touch of the old cell in the last instant counts in the new one.
void activity_during_a_move_is_not_lost(void**) {
    static SlotRef slot;
    static int at;
    for (int n = 0; n < 400; n += 7) {
        const Scene made = scene(1);
        moving = &made;
        slot = look(made.old(), 1).view.slot;
        at = n;
        static bool touched;
        touched = false;
        sg_on_store = [] {
            if (at-- == 0) {
                sg_on_store = nullptr;
                touched = moving->old().touch(slot, kNow + kMinute);
            }
        };
        move_all(made);
        sg_on_store = nullptr;
        assert_int_equal(look_in_both(made, 1).view.last_seen, touched ? kNow + kMinute : kNow);
    }
}

// ---------------------------------------------------------------- killed

int stores_left;

bool cut_at(const Scene& scene, int n) {
    const pid_t child = fork();
    if (child == 0) {
        stores_left = n;
        sg_on_store = [] {
            if (stores_left-- == 0) {
                _exit(kDied);
            }
        };
        move_all(scene);
        _exit(kFinished);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status) == kFinished;
}

void lock_and_repair(const Scene& scene) {
    for (const Table& table : scene.tables) {
        table.lock_shard(0);
    }
}

void assert_all_moved(const Scene& scene) {
    assert_int_equal(scene.old().stats().live, 0);
    assert_int_equal(scene.fresh().stats().live, kSessions);
    assert_null(broken_invariant(scene.old()));
    assert_null(broken_invariant(scene.fresh()));
    for (std::uint64_t n = 1; n <= kSessions; ++n) {
        assert_true(is_as_it_was(look(scene.fresh(), n), n));
    }
}

void a_killed_mover_loses_nothing_and_the_next_one_goes_on(void**) {
    int n = 0;
    for (bool finished = false; !finished; n += 3) {
        const Scene made = scene();
        finished = cut_at(made, n);
        lock_and_repair(made);
        for (std::uint64_t session = 1; session <= kSessions; ++session) {
            assert_true(is_as_it_was(look_in_both(made, session), session));
        }
        move_all(made);
        assert_all_moved(made);
    }
    assert_true(n > 300);
}

// The session that a cut move has left in both tables; 0: none.
std::uint64_t doubled_by_cut(const Scene& scene, int n) {
    cut_at(scene, n);
    lock_and_repair(scene);
    for (std::uint64_t session = 1; session < kSuperseded; ++session) {
        if (is_there(scene.old(), session) && is_there(scene.fresh(), session)) {
            return session;
        }
    }
    return 0;
}

constexpr int kCuts = 500;

void an_end_after_a_cut_move_is_not_undone(void**) {
    int doubled = 0;
    for (int n = 0; n < kCuts; ++n) {
        const Scene made = scene();
        const std::uint64_t session = doubled_by_cut(made, n);
        if (session == 0) {
            continue;
        }
        ++doubled;
        remove_session(made.realm(), token_of(session).handle, Departure::ended, kNow + kHour);
        assert_int_equal(look_in_both(made, session).result, FindResult::absent);
        move_all(made);
        assert_int_equal(look_in_both(made, session).result, FindResult::absent);
    }
    assert_true(doubled > 10);
}

void a_change_after_a_cut_move_is_not_undone(void**) {
    int doubled = 0;
    for (int n = 0; n < kCuts; ++n) {
        const Scene made = scene();
        const std::uint64_t session = doubled_by_cut(made, n);
        if (session == 0) {
            continue;
        }
        ++doubled;
        {
            const Realm realm = made.realm();
            LockedHome home(realm, token_of(session).handle);
            home.table().replace(home.shard(), token_of(session), record_of(session, 7, 120),
                                 kLimits, kNow);
        }
        move_all(made);
        assert_true(look(made.fresh(), session).edition == 7);
        assert_int_equal(made.fresh().stats().live, kSessions);
    }
    assert_true(doubled > 10);
}

// ---------------------------------------------------------------- load

constexpr std::uint64_t kAlways = 20;
constexpr std::uint64_t kComing = 20;
constexpr double kSeconds = 1.0;

double clock_seconds() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// Exit codes of the children.
constexpr int kFine = 0;
constexpr int kLost = 11;
constexpr int kTorn = 12;
constexpr int kRevived = 13;

int read_one(const Realm& realm, std::uint64_t n) {
    std::array<std::uint8_t, 2048> record;
    SessionView view;
    const FindResult found = look_up(realm, token_of(n).handle, view, record);
    if (found != FindResult::found) {
        return n <= kAlways ? kLost : kFine;
    }
    touch_session(realm, view, view.last_seen + kSecond);
    return edition_of(n, ByteView(record).first(view.record_size)) ? kFine : kTorn;
}

int write_one(const Realm& realm, std::uint64_t n, std::uint64_t edition) {
    const Token token = token_of(n);
    if (n <= kAlways) {
        LockedHome home(realm, token.handle);
        const auto result = home.table().replace(home.shard(), token,
                                                 record_of(n, edition % 200, 120), kLimits, kNow);
        return result ? kFine : kLost;
    }
    if (remove_session(realm, token.handle, Departure::regenerated, kNow + 1)) {
        SessionView view;
        return look_up(realm, token.handle, view, {}) == FindResult::absent ? kFine : kRevived;
    }
    LockedHome home(realm, token.handle, 120);
    home.table().insert(home.shard(), token, record_of(n, 0, 120), kNow, kLimits, kNow);
    return kFine;
}

// One reads all; each writer has its own coming and going sessions.
int work(const Realm& realm, std::uint64_t seed, std::uint64_t role) {
    const double end = clock_seconds() + kSeconds;
    while (clock_seconds() < end) {
        for (int i = 0; i < 100; ++i, ++seed) {
            const std::uint64_t n = 1 + scramble(seed) % (kAlways + kComing);
            const bool mine = n <= kAlways || n % 2 == role % 2;
            const int result = role == 0 || !mine ? read_one(realm, n) : write_one(realm, n, seed);
            if (result != kFine) {
                return result;
            }
        }
    }
    return kFine;
}

pid_t start(const Realm& realm, std::uint64_t seed, std::uint64_t role) {
    const pid_t child = fork();
    if (child == 0) {
        _exit(work(realm, seed, role));
    }
    return child;
}

// From table to table, some movers killed on the way; the others know all tables.
void sessions_move_under_load_and_none_is_missed(void**) {
    static std::vector<Table> tables;
    for (int i = 0; i < 40; ++i) {
        tables.push_back(make_table(shared_memory(kMemory)));
    }
    for (std::uint64_t n = 1; n <= kAlways; ++n) {
        add(tables[0], n, 120);
    }
    Realm realm;
    realm.table = &tables.back();
    realm.older = std::span(tables).first(tables.size() - 1);
    const pid_t children[] = {start(realm, 1, 0), start(realm, 500, 1), start(realm, 900'000, 2)};
    std::size_t retired = 0;
    const double end = clock_seconds() + kSeconds;
    while (clock_seconds() < end && retired + 1 < tables.size()) {
        const pid_t mover = fork();
        if (mover == 0) {
            Drain drain;
            while (drain.step(tables[retired], std::span(tables).subspan(retired + 1), 4, kNow) !=
                   Drain::Step::done) {
            }
            _exit(kFine);
        }
        const timespec pause{.tv_sec = 0,
                             .tv_nsec = static_cast<long>(scramble(retired) % 300'000)};
        nanosleep(&pause, nullptr);
        kill(mover, SIGKILL);
        waitpid(mover, nullptr, 0);
        retired += tables[retired].is_retired() ? 1 : 0;
    }
    for (const pid_t child : children) {
        int status = 0;
        waitpid(child, &status, 0);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), kFine);
    }
    assert_true(retired > 5);
    for (std::uint64_t n = 1; n <= kAlways; ++n) {
        assert_int_equal(read_one(realm, n), kFine);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_session_is_somewhere_at_every_instant_of_a_move),
        cmocka_unit_test(activity_during_a_move_is_not_lost),
        cmocka_unit_test(a_killed_mover_loses_nothing_and_the_next_one_goes_on),
        cmocka_unit_test(an_end_after_a_cut_move_is_not_undone),
        cmocka_unit_test(a_change_after_a_cut_move_is_not_undone),
        cmocka_unit_test(sessions_move_under_load_and_none_is_missed),
    };
    return cmocka_run_group_tests_name("moving between tables", tests, nullptr, nullptr);
}
