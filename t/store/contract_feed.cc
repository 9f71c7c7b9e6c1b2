// What is told to other nodes, and what must never go unheard.
#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "store/contract_support.h"

namespace sg::test {
namespace {

Handle handle_of(std::uint64_t n) {
    Handle handle{};
    store_le<std::uint64_t>(handle.data(), n);
    return handle;
}

StoreOp told(StoreVerb verb, std::uint64_t n, const StoreEntry& entry) {
    StoreOp op = operation(verb, fresh_key(), entry);
    op.handle = handle_of(n);
    return op;
}

StoreOp an_end(std::uint64_t n) {
    return told(StoreVerb::end, n, ended_entry());
}

// One node that follows the feed; at first it only finds its place.
class Follower {
  public:
    explicit Follower(Store& store) : store_(store) {}

    FeedHeard listen(std::size_t room = 256) {
        std::array<FeedNote, 256> notes;
        std::size_t count = 0;
        const FeedHeard heard = store_.listen(places, std::span(notes).first(room), count, kStart);
        heard_.insert(heard_.end(), notes.begin(), notes.begin() + static_cast<long>(count));
        return heard;
    }

    // Until there is nothing more. Then whether all of it was heard.
    bool catch_up(std::size_t room = 256) {
        FeedHeard heard = FeedHeard::more;
        for (int i = 0; heard == FeedHeard::more && i < 10'000; ++i) {
            heard = listen(room);
        }
        return heard == FeedHeard::whole;
    }

    // A place at the present. The feed begins with the first node that listens or tells.
    void begin() {
        for (int i = 0; i < 10 && listen() != FeedHeard::whole; ++i) {
        }
        heard_.clear();
        assert_int_equal(listen(), FeedHeard::whole);
        assert_int_equal(heard_.size(), 0);
    }

    std::vector<FeedNote> take() { return std::exchange(heard_, {}); }

    std::array<FeedPlace, kMaxServers> places{};

  private:
    Store& store_;
    std::vector<FeedNote> heard_;
};

void start_feed(Bench& bench) {
    assert_holds(bench.run(an_end(0)));
}

void assert_heard(Follower& follower, std::vector<FeedNote> wanted) {
    assert_true(follower.catch_up());
    std::vector<FeedNote> heard = follower.take();
    const auto order = [](const FeedNote& a, const FeedNote& b) { return a.handle < b.handle; };
    std::ranges::stable_sort(heard, order);  // several servers have several feeds
    std::ranges::stable_sort(wanted, order);
    assert_int_equal(heard.size(), wanted.size());
    assert_true(heard == wanted);
}

// Would catch: a logout that other nodes never hear of.
void ends_and_changes_are_told(Bench& bench) {
    start_feed(bench);
    Follower follower(bench.connect());
    follower.begin();
    const StoreKey key = fresh_key();
    assert_holds(bench.create(key, session_entry(1, 7)));
    StoreOp change = operation(StoreVerb::change, key, session_entry(2, 7));
    change.handle = handle_of(1);
    assert_holds(bench.run(std::move(change)));
    assert_holds(bench.run(an_end(2)));
    assert_heard(follower, {{FeedWhat::changed, handle_of(1)}, {FeedWhat::ended, handle_of(2)}});
    assert_heard(follower, {});
}

// Would catch: nodes that ask about everybody because one user reads a page.
void what_changes_nothing_for_others_is_not_told(Bench& bench) {
    start_feed(bench);
    Follower follower(bench.connect());
    follower.begin();
    const StoreKey key = fresh_key();
    assert_holds(bench.create(key, session_entry(3, 7)));
    assert_int_equal(bench.touch(key, kStart + 1).answer, StoreAnswer::found);
    bench.get(key);
    assert_true(bench.change(key, session_entry(2, 7)).lost);
    assert_heard(follower, {});
}

// A place is kept in shared memory over every worker's end. Would catch: what was told meanwhile.
void what_was_told_while_nobody_listened_is_heard_later(Bench& bench) {
    start_feed(bench);
    Follower follower(bench.connect());
    follower.begin();
    std::vector<FeedNote> wanted;
    for (std::uint64_t n = 1; n <= 70; ++n) {
        assert_holds(bench.run(an_end(n)));
        wanted.push_back({FeedWhat::ended, handle_of(n)});
    }
    Follower later(bench.connect());
    later.places = follower.places;
    assert_heard(later, wanted);
    assert_heard(follower, wanted);
}

// Would catch: the tail of a large batch, or what did not fit.
void a_large_batch_is_told_whole_however_little_is_taken_at_once(Bench& bench) {
    start_feed(bench);
    Follower follower(bench.connect());
    follower.begin();
    std::vector<StoreOp> batch;
    std::vector<FeedNote> wanted;
    for (std::uint64_t n = 1; n <= 200; ++n) {
        batch.push_back(an_end(n));
        wanted.push_back({FeedWhat::ended, handle_of(n)});
    }
    bench.store().run(batch, kStart);
    for (const StoreOp& op : batch) {
        assert_holds(op);
    }
    assert_true(follower.catch_up(70));
    std::vector<FeedNote> heard = follower.take();
    std::ranges::sort(heard, {}, &FeedNote::handle);
    assert_true(heard == wanted);
}

// Told and acknowledged again: its first answer may have been lost. Would catch: an end that was
// carried out, whose note was not, and that is acknowledged when it is tried again.
void an_end_that_is_repeated_is_told_again(Bench& bench) {
    start_feed(bench);
    Follower follower(bench.connect());
    follower.begin();
    StoreOp op = an_end(1);
    const StoreKey key = op.key;
    assert_holds(bench.run(std::move(op)));
    op = an_end(1);
    op.key = key;
    assert_holds(bench.run(std::move(op)));
    assert_heard(follower, {{FeedWhat::ended, handle_of(1)}, {FeedWhat::ended, handle_of(1)}});
}

// Would catch: a node that comes from elsewhere and believes it has heard everything.
void a_place_that_is_none_is_a_gap_and_then_the_present(Bench& bench) {
    start_feed(bench);
    Follower follower(bench.connect());
    follower.begin();
    const std::uint64_t good = follower.places[0].epoch;
    for (const int wrong : {0, 1, 2, 3}) {
        for (FeedPlace& place : follower.places) {
            const FeedPlace wrongs[] = {{},
                                        {place.epoch + 1, place.next},
                                        {place.epoch, place.next + 100'000},
                                        {place.epoch, 0}};
            place = wrongs[wrong];
        }
        assert_int_equal(follower.listen(), FeedHeard::gap);
        assert_int_equal(follower.listen(), FeedHeard::whole);
        assert_int_equal(follower.take().size(), 0);
        assert_int_equal(follower.places[0].epoch, good);
    }
    assert_holds(bench.run(an_end(9)));
    assert_heard(follower, {{FeedWhat::ended, handle_of(9)}});
}

using Dump = std::map<std::string, RawValue>;

// The raw value that one more end has added: its slot in the feed. The tombstone is there already.
std::string slot_of_an_end(Bench& bench, std::uint64_t n) {
    StoreOp op = an_end(n);
    const StoreKey key = op.key;
    assert_holds(bench.run(std::move(op)));
    const Dump before = bench.backend().dump();
    op = an_end(n);
    op.key = key;
    assert_holds(bench.run(std::move(op)));
    for (const auto& [name, value] : bench.backend().dump()) {
        if (!before.contains(name)) {
            return name;
        }
    }
    return {};
}

// Threat: somebody who can write to the store hides a logout. Would catch: a slot that was
// replaced, or is damaged, passed over.
void a_slot_that_was_tampered_with_is_a_gap(Bench& bench) {
    start_feed(bench);
    const std::string first = slot_of_an_end(bench, 1);
    if (first.empty()) {
        return;  // the fake's feed cannot be reached from outside
    }
    const RawValue replayed = bench.backend().dump()[first];
    Follower follower(bench.connect());
    for (const bool replays : {true, false}) {
        follower.begin();
        const std::string slot = slot_of_an_end(bench, 2);
        assert_true(bench.backend().write(slot, replays ? replayed : RawValue{0, "rubbish"}));
        FeedHeard heard = FeedHeard::more;
        for (int i = 0; heard == FeedHeard::more && i < 100; ++i) {
            heard = follower.listen();
        }
        assert_int_equal(heard, FeedHeard::gap);
        assert_true(follower.catch_up());
    }
}

// Would catch: two nodes that take one number, and one of the two logouts unheard.
void threads_that_tell_at_the_same_moment_are_all_heard(Bench& bench) {
    constexpr std::uint64_t kTellers = 4;
    constexpr std::uint64_t kEach = 60;
    start_feed(bench);
    Follower follower(bench.connect());
    follower.begin();
    std::vector<std::thread> threads;
    std::array<std::vector<Handle>, kTellers> acknowledged;
    for (std::uint64_t t = 0; t < kTellers; ++t) {
        Store& store = bench.connect();
        threads.emplace_back([&store, &mine = acknowledged[t], t] {
            for (std::uint64_t n = 0; n < kEach; ++n) {
                std::array<StoreOp, 1> batch{an_end(1 + t * 1000 + n)};
                store.run(batch, kStart);
                if (batch[0].answer == StoreAnswer::found) {
                    mine.push_back(batch[0].handle);
                }
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    assert_true(follower.catch_up());
    const std::vector<FeedNote> heard = follower.take();
    std::size_t known = 0;
    for (const auto& mine : acknowledged) {
        known += mine.size();
        for (const Handle& handle : mine) {
            assert_true(std::ranges::find(heard, handle, &FeedNote::handle) != heard.end());
        }
    }
#if !defined(__SANITIZE_THREAD__)               // with it all is too slow to count on
    assert_true(known > kTellers * kEach / 2);  // the others would be tried again
#endif
}

constexpr Case kCases[] = {
    {"ends and changes are told", ends_and_changes_are_told},
    {"what changes nothing for others is not told", what_changes_nothing_for_others_is_not_told},
    {"what was told while nobody listened is heard later",
     what_was_told_while_nobody_listened_is_heard_later},
    {"a large batch is told whole, however little is taken at once",
     a_large_batch_is_told_whole_however_little_is_taken_at_once},
    {"an end that is repeated is told again", an_end_that_is_repeated_is_told_again},
    {"a place that is none is a gap, and then the present",
     a_place_that_is_none_is_a_gap_and_then_the_present},
    {"a slot that was tampered with is a gap", a_slot_that_was_tampered_with_is_a_gap},
    {"threads that tell at the same moment are all heard",
     threads_that_tell_at_the_same_moment_are_all_heard},
};

}  // namespace

std::span<const Case> feed_cases() {
    return kCases;
}

}  // namespace sg::test
