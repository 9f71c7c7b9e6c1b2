// Many connections at once, of threads and of processes, at random operations on few keys. Nobody
// knows the order of things, so each worker checks only what can never be undone: ended stays
// ended, versions and last seen never go back, what is there does not vanish. At the end so do all
// together.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <new>
#include <thread>

#include "store/contract_support.h"

namespace sg::test {
namespace {

constexpr std::size_t kWorkers = 4;
constexpr std::size_t kKeys = 8;  // the second half is ended some time
constexpr int kRounds = 150;

// What one worker knows for certain about one key.
struct Known {
    bool exists = false;
    bool ended = false;
    Version version;
    TimeMs last_seen = 0;
};

// In shared memory: a worker may be a process.
struct Report {
    std::array<Known, kKeys> known{};
    const char* wrong = nullptr;  // a literal: the same address in a forked child
    int operations = 0;
    int unknown = 0;
};

struct Together {
    std::array<Report, kWorkers> reports{};
    std::array<StoreKey, kKeys> keys{};
    std::atomic<std::size_t> met{0};
    StoreHealth health;
};

const char* learn_ended(Known& known) {
    known.exists = true;
    known.ended = true;
    return nullptr;
}

const char* learn_live(Known& known, const Version& version) {
    if (known.ended) {
        return "an ended session is back";
    }
    if (version < known.version) {
        return "a version went back";
    }
    known.exists = true;
    known.version = version;
    return nullptr;
}

const char* learn_state(Known& known, const StoreEntry& seen) {
    return seen.kind == EntryKind::ended ? learn_ended(known) : learn_live(known, seen.version);
}

const char* learn_get(Known& known, const StoreOp& op) {
    if (op.answer == StoreAnswer::absent) {
        return known.exists ? "what was there is absent" : nullptr;
    }
    if (op.seen.kind == EntryKind::session) {
        if (op.seen.last_seen < known.last_seen) {
            return "last seen went back";
        }
        known.last_seen = op.seen.last_seen;
    }
    return learn_state(known, op.seen);
}

const char* learn_touch(Known& known, const StoreOp& op) {
    if (op.answer == StoreAnswer::absent) {
        return known.exists ? learn_ended(known) : nullptr;
    }
    if (known.ended) {
        return "an ended session was touched";
    }
    known.exists = true;
    known.last_seen = std::max(known.last_seen, op.entry.last_seen);
    return nullptr;
}

// The answer's consequence; else what is wrong with it.
const char* learn(Known& known, const StoreOp& op) {
    switch (op.verb) {
        case StoreVerb::get:
            return learn_get(known, op);
        case StoreVerb::touch:
            return learn_touch(known, op);
        case StoreVerb::end:
            return op.answer == StoreAnswer::found ? learn_ended(known) : "an end was absent";
        case StoreVerb::create:
        case StoreVerb::change:
            break;
    }
    if (op.answer == StoreAnswer::absent) {
        return "a write was absent";
    }
    if (!op.lost) {
        return learn_live(known, op.entry.version);
    }
    if (op.verb == StoreVerb::change && overtakes(op.entry, op.seen)) {
        return "lost to a state that does not win";
    }
    return learn_state(known, op.seen);
}

StoreOp random_operation(const Together& all, std::size_t worker, std::size_t at,
                         std::uint64_t random, const Known& known) {
    const StoreKey& key = all.keys[at];
    const auto step = static_cast<std::uint32_t>(random >> 8 & 3);
    const std::uint32_t counter = std::max<std::uint32_t>(1, known.version.counter + step) - 1;
    const StoreEntry session = session_entry(counter + 1, worker + 1, random & 1 ? 60 : 600);
    const auto later = static_cast<TimeMs>(random >> 16 & 0xffff);
    const bool may_end = at >= kKeys / 2 && (random >> 40) % 32 == 0;
    if (may_end) {
        return operation(StoreVerb::end, key, ended_entry());
    }
    switch (random >> 32 & 7) {
        case 0:
            return operation(StoreVerb::create, key, session);
        case 1:
        case 2:
            return operation(StoreVerb::change, key, session);
        case 3:
        case 4:
            return operation(StoreVerb::touch, key, activity_entry(kStart + later));
        default:
            return operation(StoreVerb::get, key);
    }
}

// What a worker does. No assertion in there: it runs in threads and children.
using Work = void (*)(Together&, std::size_t worker, Store&);

constexpr std::size_t kNobodyWaits = 1 << 30;

// Until all workers are here, for the n-th time.
void meet(Together& all, std::size_t n = 1) {
    all.met.fetch_add(1);
    while (all.met.load() < n * kWorkers) {
        std::this_thread::yield();
    }
}

void learn_batch(Report& report, std::span<const StoreOp> batch, std::span<const std::size_t> at) {
    for (std::size_t i = 0; i < batch.size() && report.wrong == nullptr; ++i) {
        ++report.operations;
        if (batch[i].answer == StoreAnswer::unknown) {
            ++report.unknown;
        } else {
            report.wrong = learn(report.known[at[i]], batch[i]);
        }
    }
}

void anything(Together& all, std::size_t worker, Store& store) {
    Report& report = all.reports[worker];
    meet(all);
    std::uint64_t seed = (worker + 1) << 40;
    for (int round = 0; round < kRounds && report.wrong == nullptr; ++round) {
        std::vector<StoreOp> batch;
        std::vector<std::size_t> at;
        for (std::uint64_t left = 1 + scramble(seed++) % 6; left > 0; --left) {
            const std::uint64_t random = scramble(seed++);
            at.push_back((random >> 56) % kKeys);
            batch.push_back(
                random_operation(all, worker, at.back(), random, report.known[at.back()]));
        }
        store.run(batch, kStart);
        learn_batch(report, batch, at);
    }
}

// All touch one session at the same moment, with times of their own, and then look: whoever wrote
// over what he had not read has turned it back. Later times only with the next round.
void touches(Together& all, std::size_t worker, Store& store) {
    Report& report = all.reports[worker];
    for (std::size_t round = 0; round < kRounds; ++round) {
        const std::size_t turn = (worker + scramble(round)) % kWorkers;
        StoreOp op =
            operation(StoreVerb::touch, all.keys[0],
                      activity_entry(kStart + static_cast<TimeMs>(round * kWorkers + turn)));
        StoreOp look = operation(StoreVerb::get, all.keys[0]);
        meet(all, 2 * round + 1);
        store.run({&op, 1}, kStart);
        meet(all, 2 * round + 2);
        store.run({&look, 1}, kStart);
        for (const StoreOp* one : {&op, &look}) {
            learn_batch(report, {one, 1}, std::array<std::size_t, 1>{});
        }
    }
}

Together& fresh_together() {
    auto& all = *new (shared_memory(sizeof(Together)).data()) Together;
    std::ranges::generate(all.keys, fresh_key);
    return all;
}

// What all of them know together.
std::array<Known, kKeys> all_known(const Together& all) {
    std::array<Known, kKeys> known{};
    for (const Report& report : all.reports) {
        if (report.wrong != nullptr) {
            fail_msg("%s", report.wrong);
        }
        assert_true(report.operations >= kRounds);
#if !defined(__SANITIZE_THREAD__)  // with it all is too slow to count on
        // Contention may leave some unknown, but a store in order answers.
        assert_in_range(report.unknown, 0, report.operations / 20);
#endif
        for (std::size_t i = 0; i < kKeys; ++i) {
            known[i].exists |= report.known[i].exists;
            known[i].ended |= report.known[i].ended;
            known[i].version = std::max(known[i].version, report.known[i].version);
            known[i].last_seen = std::max(known[i].last_seen, report.known[i].last_seen);
        }
    }
    return known;
}

// Against what a new connection finds.
void assert_nothing_undone(Bench& bench, const Together& all) {
    const auto known = all_known(all);
    for (std::size_t i = 0; i < kKeys; ++i) {
        if (!known[i].exists) {
            continue;
        }
        const StoreOp op = bench.get(all.keys[i]);
        assert_holds(op);
        Known last = known[i];
        if (const char* wrong = learn(last, op)) {
            fail_msg("at the end: %s", wrong);
        }
        assert_int_equal(op.seen.kind == EntryKind::ended, known[i].ended);
    }
}

// The random operations have met what they are for.
void assert_some_ended(const Together& all) {
    const auto known = all_known(all);
    assert_true(std::ranges::all_of(known, &Known::exists));
    assert_in_range(std::ranges::count_if(known, &Known::ended), 1, kKeys / 2);
}

void run_threads(Bench& bench, Together& all, Work work) {
    std::array<Store*, kWorkers> stores{};
    for (Store*& store : stores) {
        store = &bench.connect();
    }
    std::array<std::thread, kWorkers> threads;
    for (std::size_t i = 0; i < kWorkers; ++i) {
        threads[i] = std::thread(work, std::ref(all), i, std::ref(*stores[i]));
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    assert_nothing_undone(bench, all);
}

// As nginx does it: nothing is open when the workers are forked.
pid_t start_worker(Bench& bench, Together& all, std::size_t worker, Work work) {
    const pid_t child = fork();
    if (child == 0) {
        const auto store = bench.backend().connect(seal_keys({kOldKeyId, kNewKeyId}), all.health);
        if (store == nullptr) {
            all.reports[worker].wrong = "no connection";
            all.met.fetch_add(kNobodyWaits);
            _exit(1);
        }
        work(all, worker, *store);
        _exit(0);
    }
    return child;
}

void run_processes(Bench& bench, Together& all, Work work) {
    bench.disconnect();
    std::array<pid_t, kWorkers> children{};
    for (std::size_t i = 0; i < kWorkers; ++i) {
        children[i] = start_worker(bench, all, i, work);
    }
    bool all_well = true;
    for (const pid_t child : children) {
        int status = 0;
        all_well = waitpid(child, &status, 0) == child && status == 0 && all_well;
    }
    assert_true(all_well);
    assert_nothing_undone(bench, all);
}

void threads_keep_all_rules(Bench& bench) {
    Together& all = fresh_together();
    run_threads(bench, all, anything);
    assert_some_ended(all);
}

void processes_keep_all_rules(Bench& bench) {
    Together& all = fresh_together();
    run_processes(bench, all, anything);
    assert_some_ended(all);
}

void threads_never_turn_last_seen_back(Bench& bench) {
    Together& all = fresh_together();
    assert_holds(bench.create(all.keys[0], session_entry()));
    run_threads(bench, all, touches);
}

void processes_never_turn_last_seen_back(Bench& bench) {
    Together& all = fresh_together();
    assert_holds(bench.create(all.keys[0], session_entry()));
    run_processes(bench, all, touches);
}

constexpr Case kCases[] = {
    {"threads at once keep all rules", threads_keep_all_rules},
    {"processes at once keep all rules", processes_keep_all_rules, Needs::processes},
    {"threads touching one session never turn it back", threads_never_turn_last_seen_back},
    {"processes touching one session never turn it back", processes_never_turn_last_seen_back,
     Needs::processes},
};

}  // namespace

std::span<const Case> together_cases() {
    return kCases;
}

}  // namespace sg::test
