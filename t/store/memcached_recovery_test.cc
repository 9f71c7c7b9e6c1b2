// What memcached servers that were away bring back, and what they are believed: the canary, writes
// that one replica missed, servers that are full, many that hang at once.
#include <array>
#include <chrono>
#include <vector>

#include "store/contract_support.h"
#include "store/fault_server.h"
#include "store/memcached_server.h"
#include "store/memcached_store.h"

using namespace sg;
using namespace sg::test;

namespace {

constexpr TimeMs kTimeout = 100;
constexpr TimeMs kReseeding = 30 * kSecond;
constexpr TimeMs kOverThePause = 10 * kSecond;  // a breaker's pause is over by then

class Place final : public Backend {
  public:
    std::string name() const override { return "memcached"; }
    std::unique_ptr<Store> connect(const SealKeys& keys, StoreHealth& health) override {
        return make_memcached_store(conf, keys, health);
    }
    std::map<std::string, RawValue> dump() override { return real[0]->dump(); }
    bool write(const std::string& name, const RawValue& value) override {
        return real[0]->write(name, value);
    }
    bool remove(const std::string& name) override { return real[0]->remove(name); }

    void add(std::uint16_t port) {
        conf.servers[conf.count++] = {.host = "127.0.0.1", .port = port, .weight = 1};
    }

    MemcachedConf conf;
    std::vector<std::unique_ptr<Memcached>> real;
    std::vector<std::unique_ptr<FaultServer>> faulty;
};

// cmocka leaves a failing test by longjmp.
std::unique_ptr<Place> place;
std::unique_ptr<Bench> bench;

void new_place(std::size_t real, std::size_t faulty, std::size_t replicas, TimeMs reseeding = 0) {
    bench.reset();
    place = std::make_unique<Place>();
    for (std::size_t i = 0; i < real; ++i) {
        place->add(place->real.emplace_back(std::make_unique<Memcached>())->port());
    }
    for (std::size_t i = 0; i < faulty; ++i) {
        place->add(place->faulty.emplace_back(std::make_unique<FaultServer>())->port());
    }
    place->conf.replicas = replicas;
    place->conf.connect_timeout = kTimeout;
    place->conf.timeout = kTimeout;
    place->conf.longest_absolute = kLongestLife;
    place->conf.reseeding = reseeding;
    bench = std::make_unique<Bench>(*place);
}

std::string canary() {
    for (const auto& [name, value] : place->dump()) {
        if (name.starts_with("sg:c:")) {
            return name;
        }
    }
    return {};
}

// Believed at once, an empty server says to everybody who is logged in that they are not.
void a_server_that_came_up_empty_is_not_believed_for_a_while(void**) {
    new_place(1, 0, 1, kReseeding);
    TimeMs now = kStart;
    for (int restarts = 0; restarts < 2; ++restarts) {
        assert_unknown(bench->get(fresh_key(), now));
        assert_unknown(bench->change(fresh_key(), session_entry(2), now + 1));
        assert_holds(bench->create(fresh_key(), session_entry(), now + 1));
        assert_unknown(bench->get(fresh_key(), now + kReseeding - kSecond));
        assert_absent(bench->get(fresh_key(), now + kReseeding + kSecond));
        assert_holds(bench->change(fresh_key(), session_entry(2), now + kReseeding + kSecond));
        place->real[0]->kill();
        place->real[0]->start();
        now += 2 * kReseeding;
    }
}

// One that expires would look like a server that came up empty.
void the_canary_stays(void**) {
    new_place(1, 0, 1, kReseeding);
    bench->get(fresh_key());
    assert_int_equal(place->real[0]->expiry(canary()), -1);
}

// It vouches for what is not there; what is there needs no voucher.
void without_a_canary_only_what_is_found_is_believed(void**) {
    new_place(1, 0, 1, kReseeding);
    const StoreKey key = fresh_key();
    assert_holds(bench->create(key, session_entry()));
    const TimeMs later = kStart + 2 * kReseeding;
    for (const bool removed : {true, false}) {
        const std::string name = canary();
        assert_true(removed ? place->real[0]->remove(name) : place->write(name, {0, "rubbish"}));
        std::vector<StoreOp> batch;
        batch.push_back(operation(StoreVerb::get, key));
        batch.push_back(operation(StoreVerb::get, fresh_key()));
        bench->store().run(batch, later);
        assert_found(batch[0], session_entry());
        assert_unknown(batch[1]);
        assert_unknown(bench->get(fresh_key(), later + kReseeding / 2));
        assert_absent(bench->get(fresh_key(), later + 2 * kReseeding));
    }
}

// Of a node whose clock is an hour ahead: nobody would be "absent" for an hour.
void a_canary_of_the_future_is_replaced(void**) {
    new_place(1, 0, 1, kReseeding);
    bench->get(fresh_key(), kStart + kHour);
    assert_unknown(bench->get(fresh_key(), kStart));
    assert_absent(bench->get(fresh_key(), kStart + kReseeding + kSecond));
}

// Its writes were lost to one server; then that one is the only one left.
void what_a_replica_missed_is_not_absent_there(void**) {
    for (const std::size_t which : {0u, 1u}) {
        new_place(2, 0, 2);
        bench->get(fresh_key());
        place->real[which]->kill();
        const StoreKey key = fresh_key();
        TimeMs now = kStart + kOverThePause;
        assert_holds(bench->create(key, session_entry(), now));
        place->real[1 - which]->kill();
        place->real[which]->start();
        now += kOverThePause;
        assert_unknown(bench->get(key, now));
        assert_absent(bench->get(fresh_key(), now));
    }
}

void what_a_replica_missed_is_written_there_when_it_is_back(void**) {
    for (const std::size_t which : {0u, 1u}) {
        new_place(2, 0, 2);
        bench->get(fresh_key());
        place->real[which]->kill();
        TimeMs now = kStart + kOverThePause;
        std::vector<StoreKey> keys;
        std::vector<StoreOp> batch;
        for (int i = 0; i < 40; ++i) {
            const auto verb = i % 2 == 0 ? StoreVerb::create : StoreVerb::end;
            keys.push_back(fresh_key());
            batch.push_back(
                operation(verb, keys.back(), i % 2 == 0 ? session_entry() : ended_entry()));
        }
        bench->store().run(batch, now);
        place->real[which]->start();
        now += kOverThePause;
        for (int i = 0; i < 4; ++i) {  // some with each batch
            bench->get(fresh_key(), now);
        }
        place->real[1 - which]->kill();
        now += kOverThePause;
        for (std::size_t i = 0; i < keys.size(); ++i) {
            assert_holds(batch[i]);
            const StoreOp op = bench->get(keys[i], now);
            i % 2 == 0 ? assert_found(op, session_entry()) : assert_ended(op);
        }
    }
}

// One timeout for all of them together, or at least not one for each.
void servers_that_hang_cost_one_timeout_together(void**) {
    new_place(0, kMaxServers, 2);
    std::vector<StoreKey> keys;
    for (int i = 0; i < 64; ++i) {
        keys.push_back(fresh_key());
        assert_holds(bench->create(keys.back(), session_entry()));
    }
    for (const std::size_t hanging : {std::size_t{1}, std::size_t{3}}) {
        for (std::size_t i = 0; i < hanging; ++i) {
            place->faulty[i]->behave(Fault::hang);
        }
        std::vector<StoreOp> batch;
        for (const StoreKey& key : keys) {  // they take a round for reading and one for writing
            batch.push_back(operation(StoreVerb::change, key,
                                      session_entry(1 + static_cast<std::uint32_t>(hanging))));
        }
        const auto start = std::chrono::steady_clock::now();
        bench->store().run(batch, kStart + static_cast<TimeMs>(hanging) * kMinute);
        const auto took = std::chrono::steady_clock::now() - start;
        assert_true(took < std::chrono::milliseconds(10 * kTimeout));  // a bound, not a speed
        for (const StoreOp& op : batch) {
            assert_true(op.answer != StoreAnswer::absent);
        }
    }
}

// More than the network takes, to a server that has stopped reading.
void megabytes_to_a_stopped_server_do_not_hold_the_thread(void**) {
    new_place(1, 0, 1);
    bench->get(fresh_key());
    std::vector<StoreOp> batch;
    for (int i = 0; i < 256; ++i) {
        batch.push_back(operation(StoreVerb::create, fresh_key(), session_entry(1, 7, 32 * 1024)));
    }
    place->real[0]->stop();
    const auto start = std::chrono::steady_clock::now();
    bench->store().run(batch, kStart);
    const auto took = std::chrono::steady_clock::now() - start;
    place->real[0]->go_on();
    assert_true(took < std::chrono::milliseconds(10 * kTimeout));
    for (const StoreOp& op : batch) {
        assert_unknown(op);
    }
    assert_holds(bench->create(fresh_key(), session_entry(), kStart + kOverThePause));
}

// One node that follows the feed of all servers.
struct Follower {
    FeedHeard listen(TimeMs now) {
        std::array<FeedNote, 64> room;
        std::size_t count = 0;
        const FeedHeard heard = bench->store().listen(places, room, count, now);
        notes.insert(notes.end(), room.begin(), room.begin() + static_cast<long>(count));
        return heard;
    }
    // Until it has found its place.
    void begin(TimeMs now) {
        for (int i = 0; i < 4; ++i) {
            listen(now);
        }
        notes.clear();
        assert_int_equal(listen(now), FeedHeard::whole);
    }

    std::array<FeedPlace, kMaxServers> places{};
    std::vector<FeedNote> notes;
};

StoreOp an_end(std::uint8_t name) {
    StoreOp op = operation(StoreVerb::end, fresh_key(), ended_entry());
    op.handle[0] = name;
    return op;
}

// Would catch: a node that believes its copies while it hears only some of the servers.
void who_does_not_hear_every_server_has_not_heard_everything(void**) {
    new_place(3, 0, 2);
    Follower follower;
    follower.begin(kStart);
    place->real[2]->stop();
    assert_int_equal(follower.listen(kStart), FeedHeard::unknown);
    place->real[2]->go_on();
    assert_int_equal(follower.listen(kStart + kOverThePause), FeedHeard::whole);
}

// What it had told is lost with it. Would catch: a node that goes on as if nothing had been told.
void a_server_that_came_up_empty_is_a_gap_in_its_feed(void**) {
    new_place(2, 0, 1);
    Follower follower;
    follower.begin(kStart);
    for (std::uint8_t name = 1; name <= 8; ++name) {
        assert_holds(bench->run(an_end(name)));
    }
    place->real[0]->kill();
    place->real[0]->start();
    bool gap = false;
    for (int i = 0; i < 4; ++i) {
        gap = gap || follower.listen(kStart + kOverThePause) == FeedHeard::gap;
    }
    assert_true(gap);
    assert_int_equal(follower.listen(kStart + kOverThePause), FeedHeard::whole);
    follower.notes.clear();
    for (std::uint8_t name = 1; name <= 8; ++name) {
        assert_holds(bench->run(an_end(name), kStart + kOverThePause));
    }
    assert_int_equal(follower.listen(kStart + kOverThePause), FeedHeard::whole);
    assert_int_equal(follower.notes.size(), 8);
}

// Would catch: logouts that cannot be acknowledged, or are not heard, while one of two replicas is
// away.
void an_end_is_told_where_one_replica_is_away(void**) {
    new_place(2, 0, 2);
    Follower follower;
    follower.begin(kStart);
    place->real[0]->stop();
    for (std::uint8_t name = 1; name <= 4; ++name) {
        assert_holds(bench->run(an_end(name), kStart));
    }
    place->real[0]->go_on();
    assert_int_equal(follower.listen(kStart + kOverThePause), FeedHeard::whole);
    assert_int_equal(follower.notes.size(), 4);
}

// Not told, not acknowledged: it will be tried again. Would catch: a logout that is in the store
// and that nodes never hear of.
void an_end_that_nobody_can_be_told_of_is_not_acknowledged(void**) {
    new_place(1, 0, 1);
    Follower follower;
    follower.begin(kStart);
    StoreOp op = an_end(1);
    const StoreKey key = op.key;
    place->real[0]->stop();
    assert_unknown(bench->run(std::move(op)));
    place->real[0]->go_on();
    op = an_end(1);
    op.key = key;
    assert_holds(bench->run(std::move(op), kStart + kOverThePause));
    FeedHeard heard = FeedHeard::more;
    while (heard == FeedHeard::more) {
        heard = follower.listen(kStart + kOverThePause);
    }
    assert_int_equal(heard, FeedHeard::whole);
    assert_int_equal(follower.notes.back().handle[0], 1);
}

}  // namespace

int main() {
    std::vector<CMUnitTest> tests;
    constexpr struct {
        const char* behaviour;
        CMUnitTestFunction body;
    } kTests[] = {
        {"a server that came up empty is not believed for a while",
         a_server_that_came_up_empty_is_not_believed_for_a_while},
        {"the canary stays", the_canary_stays},
        {"without a canary only what is found is believed",
         without_a_canary_only_what_is_found_is_believed},
        {"a canary of the future is replaced", a_canary_of_the_future_is_replaced},
        {"what a replica missed is not absent there", what_a_replica_missed_is_not_absent_there},
        {"what a replica missed is written there when it is back",
         what_a_replica_missed_is_written_there_when_it_is_back},
        {"servers that hang cost one timeout together",
         servers_that_hang_cost_one_timeout_together},
        {"megabytes to a stopped server do not hold the thread",
         megabytes_to_a_stopped_server_do_not_hold_the_thread},
        {"who does not hear every server has not heard everything",
         who_does_not_hear_every_server_has_not_heard_everything},
        {"a server that came up empty is a gap in its feed",
         a_server_that_came_up_empty_is_a_gap_in_its_feed},
        {"an end is told where one replica is away", an_end_is_told_where_one_replica_is_away},
        {"an end that nobody can be told of is not acknowledged",
         an_end_that_nobody_can_be_told_of_is_not_acknowledged},
    };
    for (const auto& [behaviour, body] : kTests) {
        add_test(tests, "memcached", behaviour, body, nullptr);
    }
    const int failed = run_all("memcached recovery", tests);
    bench.reset();
    place.reset();
    return failed;
}
