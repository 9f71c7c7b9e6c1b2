// The table looked at between every two stores of a writer, of a repair after that writer was cut,
// and of a repair after a repair was cut. In one process, so that all combinations can be tried:
// the hook at a store looks around, or jumps out of the operation.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include <algorithm>

#include "unit/zone_support.h"

using namespace sg;
using namespace sg::test;

namespace {

constexpr std::size_t kMemory = 12 * 1024;  // one shard of some 39 cells
constexpr std::size_t kBystanders = 7;
constexpr TimeMs kUntil = kNow + 10'000;

std::uint64_t touched;                 // the session that is written
std::uint64_t bystander[kBystanders];  // the first three share its bucket

struct Scene {
    std::span<std::byte> memory;
    Table table;
};

// One piece of memory, laid out anew for each try.
Scene fresh_scene() {
    static const std::span<std::byte> memory = shared_memory(kMemory);
    return {memory, make_table(memory)};
}

std::uint64_t bucket_number(const ShardView& shard, std::uint64_t n) {
    const std::uint64_t hash = hash_of(*shard.header, words_of(token_of(n).handle));
    return static_cast<std::uint64_t>(&bucket_of(shard, hash) - shard.buckets);
}

int choose_sessions(void**) {
    const Table table = fresh_scene().table;
    LockedShard shard = table.lock_shard(0);
    touched = 1;
    std::size_t alike = 0;
    std::size_t others = 3;
    for (std::uint64_t n = 2; alike < 3 || others < kBystanders; ++n) {
        const bool same = bucket_number(shard.shard(), n) == bucket_number(shard.shard(), touched);
        if (same && alike < 3) {
            bystander[alike++] = n;
        } else if (!same && others < kBystanders) {
            bystander[others++] = n;
        }
    }
    return 0;
}

struct Operation {
    void (*prepare)(const Table&);
    void (*run)(const Table&, LockedShard&);
    int (*phase)(const Seen&);  // 0: as before, 1: as after, -1: neither
    bool must_exist;            // the session is there before and after
};

void insert_touched(const Table& table, std::size_t size, TimeMs last_seen = kNow) {
    assert_int_equal(add(table, touched, size, last_seen), InsertResult::inserted);
}

void replace_touched(const Table& table, LockedShard& shard, std::size_t size) {
    table.replace(shard, token_of(touched), record_of(touched, 1, size), kLimits, kNow);
}

void login(const Table& table, LockedShard& shard, std::size_t size) {
    const Token token = token_of(touched);
    table.insert(shard, token, record_of(touched, 0, size), kNow, kLimits, kNow);
}

int appears(const Seen& seen) {
    if (seen.result == FindResult::absent) {
        return 0;
    }
    return seen.edition == 0u ? 1 : -1;
}

int disappears(const Seen& seen) {
    if (seen.result == FindResult::absent) {
        return 1;
    }
    return seen.edition == 0u ? 0 : -1;
}

int changes_edition(const Seen& seen) {
    if (!seen.edition || *seen.edition > 1 || !same_token(seen.view.token, token_of(touched))) {
        return -1;
    }
    return static_cast<int>(*seen.edition);
}

int becomes_superseded(const Seen& seen) {
    if (seen.edition != 0u) {
        return -1;
    }
    if (seen.view.superseded_until == 0) {
        return 0;
    }
    return seen.view.superseded_until == kUntil && seen.view.successor == token_of(4711).handle
               ? 1
               : -1;
}

void nothing(const Table&) {}
void add_short(const Table& table) {
    insert_touched(table, 150);
}
void add_long(const Table& table) {
    insert_touched(table, 700);
}
void add_expired(const Table& table) {
    insert_touched(table, 700, kNow - kHour);
}

// No cell left, but sessions in it that have expired.
void fill_with_expired(const Table& table) {
    for (std::uint64_t n = 10'000;; ++n) {
        const Token token = token_of(n);
        LockedShard shard = table.lock(token.handle);
        if (table.stats().cells_used == table.stats().cells_total) {
            return;
        }
        table.insert(shard, token, record_of(n, 0, 100, kNow - kHour), kNow - kHour, kLimits,
                     kNow - kHour);
    }
}

constexpr Operation kOperations[] = {
    {nothing, [](const Table& t, LockedShard& s) { login(t, s, 150); }, appears, false},
    {nothing, [](const Table& t, LockedShard& s) { login(t, s, 700); }, appears, false},
    {fill_with_expired, [](const Table& t, LockedShard& s) { login(t, s, 500); }, appears, false},
    {add_short, [](const Table& t, LockedShard& s) { replace_touched(t, s, 160); }, changes_edition,
     true},
    {add_long, [](const Table& t, LockedShard& s) { replace_touched(t, s, 90); }, changes_edition,
     true},
    {add_short, [](const Table& t, LockedShard& s) { replace_touched(t, s, 900); }, changes_edition,
     true},
    {add_long, [](const Table& t, LockedShard& s) { replace_touched(t, s, 900); }, changes_edition,
     true},
    {add_short,
     [](const Table& t, LockedShard& s) {
         t.supersede(s, token_of(touched).handle, token_of(4711).handle, kUntil);
     },
     becomes_superseded, true},
    {add_short,
     [](const Table& t, LockedShard& s) {
         t.remove(s, token_of(touched).handle, Departure::ended, kNow + kHour);
     },
     disappears, false},
    {add_long,
     [](const Table& t, LockedShard& s) {
         t.remove(s, token_of(touched).handle, Departure::ended, kNow + kHour);
     },
     disappears, false},
    {add_expired,
     [](const Table& t, LockedShard& s) { t.sweep_shard(s, kLimits, kNow, t.cells_per_shard()); },
     disappears, false},
};

// Bystanders before and after the touched one in its bucket's chain, with short and long records.
Scene scene_for(const Operation& operation) {
    const Scene scene = fresh_scene();
    for (std::size_t i = 0; i + 1 < kBystanders; ++i) {
        if (i != 2) {
            add(scene.table, bystander[i], i % 2 == 0 ? 400 : 120);
        }
    }
    if (operation.prepare != fill_with_expired) {
        operation.prepare(scene.table);
    }
    add(scene.table, bystander[2], 300);
    add(scene.table, bystander[kBystanders - 1], 90);
    if (operation.prepare == fill_with_expired) {
        operation.prepare(scene.table);
    }
    return scene;
}

// --- what the hook at each store does -----------------------------------------------------------

const Table* watched;
const Operation* running;
int newest_phase;
const char* complaint;  // cmocka must not jump out of a hook
int stores_left;
jmp_buf cut_here;

void complain(const char* what) {
    if (complaint == nullptr) {
        complaint = what;
    }
}

void look_around() {
    for (const std::uint64_t n : bystander) {
        const Seen seen = look(*watched, n);
        if (seen.result == FindResult::busy) {
            continue;
        }
        if (seen.result != FindResult::found || seen.edition != 0u ||
            !same_token(seen.view.token, token_of(n))) {
            complain("a bystander was missed or damaged");
        }
    }
    const Seen seen = look(*watched, touched);
    if (seen.result == FindResult::busy) {
        return;
    }
    const int phase = running->phase(seen);
    if (phase < newest_phase) {
        complain("the session went back to an older state");
    }
    newest_phase = std::max(newest_phase, phase);
    if (phase == 1 && running->phase == disappears &&
        !watched->find_tombstone(token_of(touched).handle, kNow)) {
        complain("gone without a tombstone");
    }
}

void watching_hook() {
    sg_on_store = nullptr;
    look_around();
    sg_on_store = watching_hook;
    if (stores_left-- == 0) {
        longjmp(cut_here, 1);
    }
}

void cutting_hook() {
    if (stores_left-- == 0) {
        longjmp(cut_here, 1);
    }
}

// What a reader in the middle of its copy relies on: as long as a head's sequence stands, neither
// it nor its overflow cells change.
struct Guarded {
    bool valid;
    std::uint32_t sequence;
    std::uint64_t digest;
};
Guarded guarded[256];

std::uint64_t digest_of(const ShardView& shard, const Cell& head, std::uint64_t size) {
    std::uint64_t digest = 1469598103934665603u;
    const auto mix = [&digest](std::uint64_t word) { digest = (digest ^ word) * 1099511628211u; };
    mix(head.handle[0].load());
    mix(head.handle[1].load());
    for (const auto& word : head.credential) {
        mix(word.load());
    }
    mix(head.record_size.load());
    const Cell* cell = &head;
    for (std::size_t left = cells_for(size); left > 0 && cell != nullptr; --left) {
        for (const auto& word : cell->record) {
            mix(word.load());
        }
        const std::uint32_t next = cell->overflow.load();
        mix(next);
        cell = shard.in_range(next) ? &shard.cell(next) : nullptr;
    }
    return digest;
}

void check_guarded(const ShardView& shard) {
    for (std::uint32_t i = 1; i <= shard.header->cells; ++i) {
        const Cell& cell = shard.cell(i);
        const std::uint32_t sequence = cell.sequence.begin_read();
        Guarded& known = guarded[i];
        if (known.valid && known.sequence == sequence) {
            if (known.digest != digest_of(shard, cell, cell.record_size.load())) {
                complain("a record changed under an unchanged sequence");
                known.valid = false;
            }
            continue;
        }
        known.valid = (sequence & 1) == 0 && is_head(state_of(cell));
        if (known.valid) {
            known.sequence = sequence;
            known.digest = digest_of(shard, cell, cell.record_size.load());
        }
    }
}

const ShardView* guarded_shard;

void guarding_hook() {
    check_guarded(*guarded_shard);
    if (stores_left-- == 0) {
        longjmp(cut_here, 1);
    }
}

// True when it ran to its end in at most n stores. All that is jumped over is trivial.
bool operate(const Operation& operation, const Table& table, LockedShard& shard, int n,
             void (*hook)()) {
    stores_left = n;
    if (setjmp(cut_here) != 0) {
        sg_on_store = nullptr;
        return false;
    }
    sg_on_store = hook;
    operation.run(table, shard);
    sg_on_store = nullptr;
    return true;
}

bool repair(LockedShard& shard, int n, void (*hook)()) {
    stores_left = n;
    if (setjmp(cut_here) != 0) {
        sg_on_store = nullptr;
        return false;
    }
    sg_on_store = hook;
    repair_shard(shard.shard());
    sg_on_store = nullptr;
    return true;
}

constexpr int kAll = 1 << 20;

void assert_settled(const Operation& operation, const Table& table) {
    assert_string_equal(complaint == nullptr ? "" : complaint, "");
    assert_null(broken_invariant(table));
    for (const std::uint64_t n : bystander) {
        assert_true(is_there(table, n));
    }
    const Seen seen = look(table, touched);
    assert_true(operation.phase(seen) >= 0);
    assert_true(!operation.must_exist || seen.result == FindResult::found);
}

void begin_try(const Operation& operation, const Table& table) {
    running = &operation;
    watched = &table;
    newest_phase = 0;
    complaint = nullptr;
    for (Guarded& each : guarded) {
        each.valid = false;
    }
}

// --- the tests
// ------------------------------------------------------------------------------------

// Wherever the writer dies, and at every instant of the repair after it: nobody else is missed or
// damaged, and what has once been seen changed is never seen unchanged again.
void a_reader_at_any_store_sees_no_wrong_answer(void**) {
    for (const Operation& operation : kOperations) {
        for (int n = 0;; ++n) {
            const Scene scene = scene_for(operation);
            begin_try(operation, scene.table);
            bool finished = false;
            {
                LockedShard shard = scene.table.lock_shard(0);
                finished = operate(operation, scene.table, shard, n, watching_hook);
                look_around();
                assert_true(finished || repair(shard, kAll, watching_hook));
            }
            look_around();
            assert_settled(operation, scene.table);
            if (finished) {
                assert_true(n > 3 && newest_phase == 1);
                break;
            }
        }
    }
}

// A reader that is in the middle of copying a record must be told by the head's sequence before
// any of the cells it reads is wiped or used again.
void what_a_sequence_guards_changes_only_under_it(void**) {
    for (const Operation& operation : kOperations) {
        for (int n = 0;; ++n) {
            const Scene scene = scene_for(operation);
            begin_try(operation, scene.table);
            bool finished = false;
            {
                LockedShard shard = scene.table.lock_shard(0);
                guarded_shard = &shard.shard();
                check_guarded(*guarded_shard);
                finished = operate(operation, scene.table, shard, n, guarding_hook);
                assert_true(finished || repair(shard, kAll, guarding_hook));
                check_guarded(*guarded_shard);
            }
            assert_settled(operation, scene.table);
            if (finished) {
                break;
            }
        }
    }
}

// The repairer may be killed as well, at any store: the next one starts again and completes it.
void a_repair_cut_at_any_store_is_completed_by_the_next_one(void**) {
    for (const Operation& operation : kOperations) {
        for (int n = 0;; ++n) {
            bool finished = false;
            for (int m = n % 7;; m += 7) {
                const Scene scene = scene_for(operation);
                begin_try(operation, scene.table);
                bool repaired = false;
                {
                    LockedShard shard = scene.table.lock_shard(0);
                    finished = operate(operation, scene.table, shard, n, cutting_hook);
                    repaired = repair(shard, m, cutting_hook);
                    look_around();
                    assert_true(repaired || repair(shard, kAll, cutting_hook));
                }
                look_around();
                assert_settled(operation, scene.table);
                if (repaired) {
                    break;
                }
            }
            if (finished) {
                break;
            }
        }
    }
}

// A repair must be cheap for the many cells that no one was busy with: all who want this shard
// wait.
void a_repair_leaves_clean_free_cells_alone(void**) {
    const Table table = make_table(shared_memory(4 << 20));
    add(table, 1, 100);
    static int stores;
    stores = 0;
    {
        LockedShard shard = table.lock_shard(0);
        sg_on_store = [] { ++stores; };
        repair_shard(shard.shard());
        sg_on_store = nullptr;
    }
    assert_true(stores < static_cast<int>(8 * table.cells_per_shard()));
    assert_null(broken_invariant(table));
    assert_true(is_there(table, 1));
}

// Not written by encode_record, but insert takes it, so a repair has to keep it.
void an_empty_record_survives_a_repair(void**) {
    const Table table = make_table(shared_memory(kMemory));
    const Token token = token_of(1);
    {
        LockedShard shard = table.lock(token.handle);
        assert_int_equal(table.insert(shard, token, {}, kNow, kLimits, kNow),
                         InsertResult::inserted);
        repair_shard(shard.shard());
    }
    SessionView view;
    assert_int_equal(table.find(token.handle, view, {}), FindResult::found);
    assert_null(broken_invariant(table));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_at_any_store_sees_no_wrong_answer),
        cmocka_unit_test(what_a_sequence_guards_changes_only_under_it),
        cmocka_unit_test(a_repair_cut_at_any_store_is_completed_by_the_next_one),
        cmocka_unit_test(a_repair_leaves_clean_free_cells_alone),
        cmocka_unit_test(an_empty_record_survives_a_repair),
    };
    return cmocka_run_group_tests_name("table between two stores", tests, choose_sessions, nullptr);
}
