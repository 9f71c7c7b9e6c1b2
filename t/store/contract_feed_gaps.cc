// What a node that follows the feed must not overlook: when something was told that it cannot read
// any more, it has to know that there was something.
#include <iterator>
#include <map>
#include <set>
#include <thread>

#include "store/feed_support.h"

namespace sg::test {
namespace {

using Dump = std::map<std::string, RawValue>;

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

// The raw values that telling something adds or changes: slots of the feed, and its head.
template <class Telling>
std::set<std::string> written_by(Bench& bench, Telling telling) {
    const Dump before = bench.backend().dump();
    telling();
    std::set<std::string> names;
    for (const auto& [name, value] : bench.backend().dump()) {
        const auto old = before.find(name);
        if (old == before.end() || old->second.bytes != value.bytes) {
            names.insert(name);
        }
    }
    return names;
}

// What is written whenever something is told.
std::string head_of(Bench& bench, Teller& teller) {
    const auto first = written_by(bench, [&] { teller.tell(2); });
    const auto second = written_by(bench, [&] { teller.tell(2); });
    std::vector<std::string> both;
    std::ranges::set_intersection(first, second, std::back_inserter(both));
    assert_int_equal(both.size(), 1);
    return both[0];
}

template <class Telling>
std::set<std::string> slots_of(Bench& bench, const std::string& head, Telling telling) {
    std::set<std::string> slots = written_by(bench, telling);
    slots.erase(head);
    assert_true(!slots.empty());
    return slots;
}

std::string slot_of(Bench& bench, const std::string& head, Teller& teller, std::uint64_t n) {
    const auto slots = slots_of(bench, head, [&] { teller.tell(n); });
    assert_int_equal(slots.size(), 1);
    return *slots.begin();
}

// Not all of it can be heard any more: that must be said, and then the node goes on from there.
void assert_gap(Follower& follower) {
    FeedHeard heard = FeedHeard::more;
    for (int i = 0; i < 100 && (heard == FeedHeard::more || heard == FeedHeard::unknown); ++i) {
        heard = follower.listen();
    }
    assert_int_equal(heard, FeedHeard::gap);
    assert_true(follower.catch_up());
    follower.take();
}

// Threat: somebody who can write to the store hides a logout. Would catch: a slot that was
// replaced, or is damaged, passed over.
void a_slot_that_was_tampered_with_is_a_gap(Bench& bench) {
    Teller teller(bench);
    const std::string head = head_of(bench, teller);
    const std::string first = slot_of(bench, head, teller, 2);
    const RawValue replayed = bench.backend().dump()[first];
    Follower follower(bench.connect());
    for (const bool replays : {true, false}) {
        for (const bool is_last : {true, false}) {
            follower.begin();
            const std::string slot = slot_of(bench, head, teller, 3);
            assert_true(bench.backend().write(slot, replays ? replayed : RawValue{0, "rubbish"}));
            if (!is_last) {
                teller.tell(4);
            }
            assert_gap(follower);
        }
    }
}

// Evicted, or expired before it was read. Would catch: one that is taken for one not yet written.
void a_slot_that_is_missing_is_a_gap(Bench& bench) {
    Teller teller(bench);
    const std::string head = head_of(bench, teller);
    Follower follower(bench.connect());
    for (const bool is_last : {true, false}) {
        follower.begin();
        teller.tell(2);
        assert_true(bench.backend().remove(slot_of(bench, head, teller, 3)));
        if (!is_last) {
            teller.tell(4);
        }
        assert_gap(follower);
    }
}

// A server brought back from an image of yesterday; or a head that was replayed. Would catch: ends
// that get numbers which this node believes it has heard.
void a_counter_that_went_back_is_a_gap(Bench& bench) {
    Teller teller(bench);
    const std::string head = head_of(bench, teller);
    Follower follower(bench.connect());
    for (const int by : {1, 3, 40}) {
        const RawValue old = bench.backend().dump()[head];
        follower.begin();
        for (int i = 0; i < by; ++i) {
            teller.tell(3);
        }
        assert_true(follower.catch_up());
        assert_true(bench.backend().write(head, old));
        assert_gap(follower);
        teller.tell(5);
        assert_true(follower.catch_up());
        const std::vector<FeedNote> heard = follower.take();
        assert_true(std::ranges::find(heard, handle_of(5), &FeedNote::handle) != heard.end());
    }
}

// Would catch: a node that goes on counting where nobody counts any more.
void a_head_that_cannot_be_read_is_a_gap(Bench& bench) {
    Teller teller(bench);
    const std::string head = head_of(bench, teller);
    Follower follower(bench.connect());
    follower.begin();
    assert_true(bench.backend().write(head, {.flags = 0, .bytes = "rubbish"}));
    teller.tell(3);
    assert_gap(follower);
    teller.tell(4);
    assert_heard(follower, {{FeedWhat::ended, handle_of(4)}});
}

// Two nodes tell at once, and both believe they were the last. Would catch: an end that was
// acknowledged, whose slot nobody misses when it is gone.
void the_last_of_what_was_told_at_once_is_missed_too(Bench& bench) {
    constexpr int kRounds = 30;
    Teller first(bench);
    Teller second(bench.connect(), first.key());
    const std::string head = head_of(bench, first);
    Follower follower(bench.connect());
    for (int round = 0; round < kRounds; ++round) {
        follower.begin();
        Follower before = follower;
        const auto slots = slots_of(bench, head, [&] {
            std::thread other([&] { second.tell(3); });
            first.tell(2);
            other.join();
        });
        assert_true(follower.catch_up());
        Follower late = follower;  // has heard all but the last
        for (std::size_t i = 0; i < late.places.size(); ++i) {
            late.places[i].next -= late.places[i].next != before.places[i].next ? 1 : 0;
        }
        for (const std::string& slot : slots) {
            assert_true(bench.backend().remove(slot));
        }
        assert_int_equal(late.listen(), FeedHeard::gap);
    }
}

// A worker that has told nothing for long remembers an old number. Would catch: a slot that is gone
// replaced by another one, so that nobody misses it.
void a_number_is_never_given_twice(Bench& bench) {
    Teller silent(bench);
    Teller busy(bench.connect(), silent.key());
    const std::string head = head_of(bench, silent);
    Follower follower(bench.connect());
    follower.begin();
    const std::string slot = slot_of(bench, head, busy, 2);
    busy.tell(3);
    assert_true(bench.backend().remove(slot));
    silent.tell(4);
    assert_gap(follower);
}

// Threat: somebody who can write to the store takes back what was told last, head and slots, and
// waits until as much has been told again. Would catch: numbers without a chain.
void what_was_told_instead_is_a_gap(Bench& bench) {
    Teller teller(bench);
    const std::string head = head_of(bench, teller);
    Follower follower(bench.connect());
    for (const bool goes_on : {false, true}) {
        const RawValue old = bench.backend().dump()[head];
        const auto slots = slots_of(bench, head, [&] {
            teller.tell(2);
            teller.tell(3);
        });
        follower.begin();
        for (const std::string& slot : slots) {
            assert_true(bench.backend().remove(slot));
        }
        assert_true(bench.backend().write(head, old));
        Teller other(bench.connect(), teller.key());
        other.tell(4);
        other.tell(5);
        if (goes_on) {
            other.tell(6);
        }
        assert_gap(follower);
    }
}

constexpr Case kCases[] = {
    {"a place that is none is a gap, and then the present",
     a_place_that_is_none_is_a_gap_and_then_the_present},
    {"a slot that was tampered with is a gap", a_slot_that_was_tampered_with_is_a_gap,
     Needs::raw_feed},
    {"a slot that is missing is a gap", a_slot_that_is_missing_is_a_gap, Needs::raw_feed},
    {"a counter that went back is a gap", a_counter_that_went_back_is_a_gap, Needs::raw_feed},
    {"a head that cannot be read is a gap", a_head_that_cannot_be_read_is_a_gap, Needs::raw_feed},
    {"the last of what was told at once is missed, too",
     the_last_of_what_was_told_at_once_is_missed_too, Needs::raw_feed},
    {"a number is never given twice", a_number_is_never_given_twice, Needs::raw_feed},
    {"what was told instead is a gap", what_was_told_instead_is_a_gap, Needs::raw_feed},
};

}  // namespace

std::span<const Case> feed_gap_cases() {
    return kCases;
}

}  // namespace sg::test
