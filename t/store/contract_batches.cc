// Batches of every size, checked operation by operation against a model of one page.
#include <algorithm>
#include <optional>

#include "store/contract_support.h"

namespace sg::test {
namespace {

// One operation before it is one: the entry's record is static.
struct Step {
    StoreVerb verb = StoreVerb::get;
    StoreKey key{};
    StoreEntry entry;
};

struct Answer {
    StoreAnswer answer = StoreAnswer::found;
    bool lost = false;
    std::optional<StoreEntry> seen;
};

// What a store has to answer about one key. Nothing expires here.
class Model {
  public:
    Answer apply(const Step& step) {
        switch (step.verb) {
            case StoreVerb::get:
                return get();
            case StoreVerb::create:
            case StoreVerb::change:
                return put(step);
            case StoreVerb::end:
                if (!is_ended()) {
                    state_ = step.entry;
                    active_ = 0;
                }
                return {};
            case StoreVerb::touch:
                break;
        }
        if (!state_ || is_ended()) {
            return {.answer = StoreAnswer::absent, .lost = false, .seen = {}};
        }
        active_ = std::max(active_, step.entry.last_seen);
        return {};
    }

  private:
    bool is_ended() const { return state_ && state_->kind == EntryKind::ended; }

    Answer get() const {
        if (!state_) {
            return {.answer = StoreAnswer::absent, .lost = false, .seen = {}};
        }
        Answer answer{.answer = StoreAnswer::found, .lost = false, .seen = state_};
        answer.seen->last_seen = std::max(state_->last_seen, active_);
        return answer;
    }

    Answer put(const Step& step) {
        if (!state_ || (step.verb == StoreVerb::change && !is_ended() &&
                        state_->version < step.entry.version)) {
            state_ = step.entry;
            return {};
        }
        if (!is_ended() && state_->version == step.entry.version) {
            return {};
        }
        return {.answer = StoreAnswer::found, .lost = true, .seen = state_};
    }

    std::optional<StoreEntry> state_;
    TimeMs active_ = 0;
};

// Ends are rare, so that the other rules are met before everything has ended.
Step random_step(const StoreKey& key, std::uint64_t random) {
    const auto counter = static_cast<std::uint32_t>(1 + random % 5);
    const StoreEntry session = session_entry(counter, 7, random % 3 == 0 ? 2000 : 90);
    const auto later = static_cast<TimeMs>(random >> 24 & 0xff) * kSecond;
    switch (random >> 16 & 15) {
        case 0:
        case 1:
        case 2:
            return {.verb = StoreVerb::create, .key = key, .entry = session};
        case 3:
        case 4:
        case 5:
        case 6:
            return {.verb = StoreVerb::change, .key = key, .entry = session};
        case 7:
        case 8:
        case 9:
            return {.verb = StoreVerb::touch, .key = key, .entry = activity_entry(kStart + later)};
        case 10:
            return {.verb = StoreVerb::end, .key = key, .entry = ended_entry()};
        default:
            return {.verb = StoreVerb::get, .key = key, .entry = {}};
    }
}

void assert_answered(const StoreOp& op, const Answer& wanted, std::size_t at, int round) {
    if (op.answer != wanted.answer || op.lost != wanted.lost) {
        print_message("operation %zu of batch %d\n", at, round);
    }
    assert_answer(op, wanted.answer, wanted.lost);
    if (wanted.seen && op.verb == StoreVerb::get) {
        assert_found(op, *wanted.seen);
    } else if (wanted.seen) {
        assert_lost_to(op, *wanted.seen);
    }
}

// Each key is met about twice in a batch, so that the order within it counts; some rounds over the
// same keys.
void run_random_batches(Bench& bench, std::size_t size, int rounds) {
    std::vector<StoreKey> keys;
    for (std::size_t i = 0; i < 1 + size / 2; ++i) {
        keys.push_back(fresh_key());
    }
    std::map<StoreKey, Model> models;
    std::uint64_t seed = size << 32;
    for (int round = 0; round < rounds; ++round) {
        std::vector<StoreOp> batch;
        std::vector<Answer> wanted;
        for (std::size_t i = 0; i < size; ++i) {
            const std::uint64_t random = scramble(seed++);
            const Step step = random_step(keys[(random >> 40) % keys.size()], random);
            batch.push_back(operation(step.verb, step.key, step.entry));
            wanted.push_back(models[step.key].apply(step));
        }
        bench.store().run(batch, kStart);
        for (std::size_t i = 0; i < size; ++i) {
            assert_answered(batch[i], wanted[i], i, round);
        }
    }
    assert_int_equal(bench.all_faults(), 0);
}

void an_empty_batch_does_nothing(Bench& bench) {
    bench.store().run({}, kStart);
    assert_int_equal(bench.all_faults(), 0);
}

void single_operations_follow_the_model(Bench& bench) {
    run_random_batches(bench, 1, 100);
}

void batches_of_two_follow_the_model(Bench& bench) {
    run_random_batches(bench, 2, 60);
}

void batches_of_64_follow_the_model(Bench& bench) {
    run_random_batches(bench, 64, 8);
}

// More than one round trip of the client library takes; more than its buffers hold.
void batches_of_300_follow_the_model(Bench& bench) {
    run_random_batches(bench, 300, 4);
}

// A login and its logout in one batch: the other way round the session would stay.
void operations_on_one_key_are_carried_out_in_order(Bench& bench) {
    const StoreKey key = fresh_key();
    std::vector<StoreOp> batch;
    batch.push_back(operation(StoreVerb::get, key));
    batch.push_back(operation(StoreVerb::touch, key, activity_entry(kStart)));
    batch.push_back(operation(StoreVerb::create, key, session_entry(1)));
    batch.push_back(operation(StoreVerb::get, key));
    batch.push_back(operation(StoreVerb::change, key, session_entry(3)));
    batch.push_back(operation(StoreVerb::change, key, session_entry(2)));
    batch.push_back(operation(StoreVerb::touch, key, activity_entry(kStart)));
    batch.push_back(operation(StoreVerb::get, key));
    batch.push_back(operation(StoreVerb::end, key, ended_entry()));
    batch.push_back(operation(StoreVerb::change, key, session_entry(4)));
    batch.push_back(operation(StoreVerb::get, key));
    bench.store().run(batch, kStart);

    StoreEntry touched = session_entry(3);
    touched.last_seen = kStart;
    assert_absent(batch[0]);
    assert_absent(batch[1]);
    assert_holds(batch[2]);
    assert_found(batch[3], session_entry(1));
    assert_holds(batch[4]);
    assert_lost_to(batch[5], session_entry(3));
    assert_holds(batch[6]);
    assert_found(batch[7], touched);
    assert_holds(batch[8]);
    assert_lost_to(batch[9], ended_entry());
    assert_ended(batch[10]);
}

// Largest records by the dozen: megabytes in one batch.
void a_batch_of_large_records_is_written_and_read(Bench& bench) {
    std::vector<StoreKey> keys(64);
    std::vector<StoreOp> writes;
    std::vector<StoreOp> reads;
    for (StoreKey& key : keys) {
        key = fresh_key();
        writes.push_back(operation(StoreVerb::create, key, session_entry(1, 7, 32 * 1024)));
        reads.push_back(operation(StoreVerb::get, key));
    }
    bench.store().run(writes, kStart);
    bench.store().run(reads, kStart);
    for (std::size_t i = 0; i < keys.size(); ++i) {
        assert_holds(writes[i]);
        assert_found(reads[i], session_entry(1, 7, 32 * 1024));
    }
}

// Single-flight is the caller's; a store asked twice answers twice.
void one_key_asked_twice_is_answered_twice(Bench& bench) {
    const StoreKey key = fresh_key();
    assert_holds(bench.create(key, session_entry()));
    std::vector<StoreOp> batch;
    for (int i = 0; i < 3; ++i) {
        batch.push_back(operation(StoreVerb::get, key));
    }
    bench.store().run(batch, kStart);
    for (const StoreOp& op : batch) {
        assert_found(op, session_entry());
    }
}

// What an operation was answered before must not show through when it is used again.
void an_operation_run_again_is_answered_afresh(Bench& bench) {
    const StoreKey key = fresh_key();
    assert_holds(bench.create(key, session_entry(5)));
    StoreOp op = bench.change(key, session_entry(4));
    assert_lost_to(op, session_entry(5));
    op.key = fresh_key();
    op = bench.run(std::move(op));
    assert_holds(op);
    op.verb = StoreVerb::get;
    op.key = fresh_key();
    assert_absent(bench.run(std::move(op)));
}

constexpr Case kCases[] = {
    {"an empty batch does nothing", an_empty_batch_does_nothing},
    {"single operations follow the model", single_operations_follow_the_model},
    {"batches of 2 follow the model", batches_of_two_follow_the_model},
    {"batches of 64 follow the model", batches_of_64_follow_the_model},
    {"batches of 300 follow the model", batches_of_300_follow_the_model},
    {"operations on one key are carried out in order",
     operations_on_one_key_are_carried_out_in_order},
    {"a batch of large records is written and read", a_batch_of_large_records_is_written_and_read},
    {"one key asked twice is answered twice", one_key_asked_twice_is_answered_twice},
    {"an operation run again is answered afresh", an_operation_run_again_is_answered_afresh},
};

}  // namespace

std::span<const Case> batch_cases() {
    return kCases;
}

}  // namespace sg::test
