// What the cases of the feed are written with: a node that follows it, and one that tells.
#pragma once

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "store/contract_support.h"

namespace sg::test {

inline Handle handle_of(std::uint64_t n) {
    Handle handle{};
    store_le<std::uint64_t>(handle.data(), n);
    return handle;
}

inline StoreOp told(StoreVerb verb, std::uint64_t n, const StoreEntry& entry) {
    StoreOp op = operation(verb, fresh_key(), entry);
    op.handle = handle_of(n);
    return op;
}

inline StoreOp an_end(std::uint64_t n) {
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

inline void start_feed(Bench& bench) {
    assert_holds(bench.run(an_end(0)));
}

inline void assert_heard(Follower& follower, std::vector<FeedNote> wanted) {
    assert_true(follower.catch_up());
    std::vector<FeedNote> heard = follower.take();
    const auto order = [](const FeedNote& a, const FeedNote& b) { return a.handle < b.handle; };
    std::ranges::stable_sort(heard, order);  // several servers have several feeds
    std::ranges::stable_sort(wanted, order);
    assert_int_equal(heard.size(), wanted.size());
    assert_true(heard == wanted);
}

// Ends one session again and again: so always the same server tells it, and nothing else changes.
class Teller {
  public:
    explicit Teller(Bench& bench) : Teller(bench.connect(), fresh_key()) {}
    Teller(Store& store, const StoreKey& key) : store_(store), key_(key) {}

    const StoreKey& key() const { return key_; }

    void tell(std::uint64_t n) {
        StoreOp op = an_end(n);
        op.key = key_;
        store_.run({&op, 1}, kStart);
        assert_holds(op);
    }

  private:
    Store& store_;
    StoreKey key_;
};

}  // namespace sg::test
