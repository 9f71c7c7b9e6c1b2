// What memcached and the network can do to a store: an outage is never "no such session", nobody
// waits longer than the timeouts allow, and with two replicas one server's fault is nobody's.
#include <chrono>

#include "store/contract_support.h"
#include "store/fault_server.h"
#include "store/memcached_server.h"
#include "store/memcached_store.h"

using namespace sg;
using namespace sg::test;

namespace {

constexpr TimeMs kTimeout = 100;
// A few exchanges that each run into both timeouts, and what a loaded machine takes.
constexpr TimeMs kLongestBatch = 8 * kTimeout + 700;
constexpr TimeMs kOverThePause = 10 * kSecond;  // a breaker's pause is over by then

// Servers of a test; cmocka leaves a failing one by longjmp.
struct Place {
    MemcachedConf conf;
    std::vector<std::unique_ptr<FaultServer>> faulty;
    std::vector<std::unique_ptr<Memcached>> real;

    void add(std::uint16_t port) {
        conf.servers[conf.count++] = {.host = "127.0.0.1", .port = port, .weight = 1};
    }
};

class PlaceBackend final : public Backend {
  public:
    std::string name() const override { return "memcached"; }

    std::unique_ptr<Store> connect(const SealKeys& keys, StoreHealth& health) override {
        return make_memcached_store(place->conf, keys, health);
    }

    std::map<std::string, RawValue> dump() override { return {}; }
    bool write(const std::string&, const RawValue&) override { return false; }
    bool remove(const std::string&) override { return false; }

    std::unique_ptr<Place> place;
};

PlaceBackend backend;
std::unique_ptr<Bench> bench;

void new_place(std::size_t faulty, std::size_t real, std::size_t replicas) {
    bench.reset();
    backend.place = std::make_unique<Place>();
    Place& place = *backend.place;
    for (std::size_t i = 0; i < faulty; ++i) {
        place.add(place.faulty.emplace_back(std::make_unique<FaultServer>())->port());
    }
    for (std::size_t i = 0; i < real; ++i) {
        place.add(place.real.emplace_back(std::make_unique<Memcached>())->port());
    }
    place.conf.replicas = replicas;
    place.conf.connect_timeout = kTimeout;
    place.conf.timeout = kTimeout;
    place.conf.longest_absolute = kLongestLife;
    bench = std::make_unique<Bench>(backend);
}

FaultServer& faulty(std::size_t i = 0) {
    return *backend.place->faulty[i];
}

Memcached& real(std::size_t i = 0) {
    return *backend.place->real[i];
}

template <class Action>
TimeMs time_of(Action action) {
    const auto start = std::chrono::steady_clock::now();
    action();
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                                 start)
        .count();
}

constexpr struct {
    const char* name;
    Fault fault;
} kFaults[] = {
    {"a slow server", Fault::slow},
    {"a server that hangs", Fault::hang},
    {"a server that hangs up", Fault::close},
    {"a server that hangs up in a reply", Fault::cut},
    {"a reply without an end", Fault::never_ends},
    {"a reply byte by byte", Fault::drip},
    {"garbage", Fault::garbage},
    {"another entry's value", Fault::other_value},
    {"another entry", Fault::other_entry},
    {"a server's error", Fault::server_error},
    {"a reply to another request", Fault::other_reply},  // last: libmemcached may abort
};

Fault fault_of(void** state) {
    return kFaults[*static_cast<const std::size_t*>(*state)].fault;
}

bool is_of_reads_only(Fault fault) {
    return fault == Fault::other_value || fault == Fault::other_entry;
}

bool is_only_slow(void** state) {
    return fault_of(state) == Fault::drip;
}

// Whatever it does: no session is taken for absent, none is invented, and all is well afterwards.
void known_sessions_are_unknown_then_found_again(void** state) {
    new_place(1, 0, 1);
    const StoreKey keys[] = {fresh_key(), fresh_key(), fresh_key()};
    for (std::uint32_t i = 0; i < 3; ++i) {
        assert_holds(bench->create(keys[i], session_entry(i + 1)));
    }
    faulty().behave(fault_of(state), 5 * kTimeout);
    for (std::uint32_t i = 0; i < 4; ++i) {
        TimeMs took = 0;
        StoreOp op;
        took = time_of([&] { op = bench->get(keys[i % 3], kStart + i * kOverThePause); });
        assert_in_range(took, 0, kLongestBatch);
        // What drips in may be in time, and is then right.
        const bool in_time = is_only_slow(state) && op.answer == StoreAnswer::found;
        if (in_time) {
            assert_found(op, session_entry(i % 3 + 1));
        } else {
            assert_unknown(op);
            assert_true(bench->all_faults() > 0);
        }
    }
    faulty().behave(Fault::none);
    const TimeMs later = kStart + 10 * kOverThePause;
    bench->get(keys[0], later);  // the breaker's probe, or a connection on its way out
    for (std::uint32_t i = 0; i < 3; ++i) {
        assert_found(bench->get(keys[i], later + kOverThePause), session_entry(i + 1));
    }
}

// A write that got no answer may have happened; it must not be said to have. Repeating it works.
void writes_are_unknown_and_can_be_repeated(void** state) {
    new_place(1, 0, 1);
    const StoreKey key = fresh_key();
    const StoreKey ended = fresh_key();
    assert_holds(bench->create(ended, session_entry()));
    faulty().behave(fault_of(state), 5 * kTimeout);
    if (!is_only_slow(state)) {
        assert_unknown(bench->create(key, session_entry()));
        assert_unknown(bench->end(ended, Departure::ended, kStart + kOverThePause));
    }
    faulty().behave(Fault::none);
    const TimeMs later = kStart + 10 * kOverThePause;
    bench->get(key, later);
    assert_holds(bench->create(key, session_entry(), later + kOverThePause));
    assert_holds(bench->end(ended, Departure::ended, later + kOverThePause));
    assert_found(bench->get(key, later + kOverThePause), session_entry());
    assert_ended(bench->get(ended, later + kOverThePause));
}

// A timeout for every operation of a batch would hold a thread for seconds.
void a_large_batch_takes_no_longer_than_a_small_one(void** state) {
    new_place(1, 0, 1);
    assert_holds(bench->create(fresh_key(), session_entry()));
    faulty().behave(fault_of(state), 5 * kTimeout);
    std::vector<StoreOp> batch;
    for (int i = 0; i < 40; ++i) {
        const StoreKey key = fresh_key();
        batch.push_back(operation(StoreVerb::get, key));
        batch.push_back(operation(StoreVerb::create, fresh_key(), session_entry()));
        batch.push_back(operation(StoreVerb::touch, key, activity_entry(kStart)));
        batch.push_back(operation(StoreVerb::end, fresh_key(), ended_entry()));
    }
    const TimeMs took = time_of([&] { bench->store().run(batch, kStart); });
    assert_in_range(took, 0, kLongestBatch);
}

// With two replicas: known and unknown sessions alike, as if nothing were.
void two_replicas_hide_it(void** state) {
    new_place(1, 1, 2);
    const StoreKey key = fresh_key();
    assert_holds(bench->create(key, session_entry()));
    faulty().behave(fault_of(state), 5 * kTimeout);
    for (int i = 0; i < 5; ++i) {
        const TimeMs now = kStart + i * kOverThePause;
        assert_found(bench->get(key, now), session_entry());
        assert_absent(bench->get(fresh_key(), now));
    }
}

// A hung server costs a few timeouts, not one for every batch; and is asked again after a while.
void the_breaker_opens_and_lets_a_probe_through(void**) {
    new_place(1, 0, 1);
    const StoreKey key = fresh_key();
    assert_holds(bench->create(key, session_entry()));
    faulty().behave(Fault::hang);
    for (std::uint32_t i = 0; i < Breaker::kFailuresToOpen; ++i) {
        assert_unknown(bench->get(key));
    }
    const int requests = faulty().requests();
    StoreOp op;
    const TimeMs took = time_of([&] {
        for (int i = 0; i < 20; ++i) {
            op = bench->get(key);
            assert_unknown(op);
        }
    });
    assert_int_equal(faulty().requests(), requests);
    assert_in_range(took, 0, kTimeout);
    assert_true(bench->faults(StoreFault::breaker_open) >= 20);

    // All connections obey the one breaker.
    Store& other = bench->connect();
    assert_unknown(bench->run(other, operation(StoreVerb::get, key)));
    assert_int_equal(faulty().requests(), requests);

    faulty().behave(Fault::none);
    assert_found(bench->get(key, kStart + kOverThePause), session_entry());
    assert_found(bench->get(key, kStart + kOverThePause), session_entry());
}

// --------------------------------------------------------------------- real servers

void a_killed_server_is_unknown(void**) {
    new_place(0, 1, 1);
    const StoreKey key = fresh_key();
    assert_holds(bench->create(key, session_entry()));
    real().kill();
    for (int i = 0; i < 6; ++i) {
        assert_unknown(bench->get(key, kStart + i * kOverThePause));
        assert_unknown(bench->get(fresh_key(), kStart + i * kOverThePause));
    }
    assert_true(bench->all_faults() > 0);
}

// libmemcached puts a server aside for whole seconds after one refused connection.
void a_restarted_server_is_used_at_once(void**) {
    new_place(0, 1, 1);
    const StoreKey key = fresh_key();
    assert_holds(bench->create(key, session_entry()));
    real().kill();
    assert_unknown(bench->get(key));
    real().start();
    assert_holds(bench->create(key, session_entry(), kStart + kOverThePause));
    assert_found(bench->get(key, kStart + kOverThePause), session_entry());
}

// The old connection is dead, the server is well: nobody need notice.
void a_lost_connection_is_retried_at_once(void**) {
    new_place(0, 1, 1);
    const StoreKey key = fresh_key();
    assert_holds(bench->create(key, session_entry()));
    real().kill();
    real().start();
    assert_holds(bench->create(key, session_entry()));
    assert_found(bench->get(key), session_entry());
}

void a_stopped_server_is_unknown_in_time_and_found_again(void**) {
    new_place(0, 1, 1);
    const StoreKey key = fresh_key();
    assert_holds(bench->create(key, session_entry()));
    real().stop();
    StoreOp op;
    const TimeMs took = time_of([&] { op = bench->get(key); });
    real().go_on();
    assert_unknown(op);
    assert_in_range(took, 0, kLongestBatch);
    assert_found(bench->get(key, kStart + kOverThePause), session_entry());
}

// Each of the two in turn.
void of_two_replicas_one_may_be_killed(void**) {
    for (const std::size_t which : {0u, 1u}) {
        new_place(0, 2, 2);
        const StoreKey key = fresh_key();
        assert_holds(bench->create(key, session_entry()));
        real(which).kill();
        assert_found(bench->get(key), session_entry());
        assert_absent(bench->get(fresh_key()));
        assert_holds(bench->change(key, session_entry(2)));
        assert_holds(bench->touch(key, kStart));
        StoreEntry touched = session_entry(2);
        touched.last_seen = kStart;
        assert_found(bench->get(key), touched);

        real(which).start();
        assert_found(bench->get(key, kStart + kOverThePause), touched);
        assert_holds(bench->end(key, Departure::ended, kStart + kOverThePause));
        assert_ended(bench->get(key, kStart + kOverThePause));
    }
}

// It slept through the logout, and comes back with the session.
void a_replica_that_missed_the_end_brings_nothing_back(void**) {
    for (const std::size_t which : {0u, 1u}) {
        new_place(0, 2, 2);
        const StoreKey key = fresh_key();
        assert_holds(bench->create(key, session_entry()));
        real(which).stop();
        bench->end(key);
        real(which).go_on();
        assert_ended(bench->get(key, kStart + kOverThePause));
        assert_ended(bench->get(key, kStart + 2 * kOverThePause));
        assert_lost_to(bench->change(key, session_entry(9), kStart + 2 * kOverThePause),
                       ended_entry());
    }
}

}  // namespace

int main() {
    static constexpr std::size_t kIndex[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    static_assert(std::size(kIndex) == std::size(kFaults));
    std::vector<CMUnitTest> tests;
    constexpr struct {
        const char* behaviour;
        CMUnitTestFunction body;
    } kTests[] = {
        {"the breaker opens and lets a probe through", the_breaker_opens_and_lets_a_probe_through},
        {"a killed server is unknown", a_killed_server_is_unknown},
        {"a restarted server is used at once", a_restarted_server_is_used_at_once},
        {"a lost connection is retried at once", a_lost_connection_is_retried_at_once},
        {"a stopped server is unknown in time and found again",
         a_stopped_server_is_unknown_in_time_and_found_again},
        {"of two replicas one may be killed", of_two_replicas_one_may_be_killed},
        {"a replica that missed the end brings nothing back",
         a_replica_that_missed_the_end_brings_nothing_back},
    };
    for (const auto& [behaviour, body] : kTests) {
        add_test(tests, "memcached", behaviour, body, nullptr);
    }
    for (const std::size_t& i : kIndex) {
        const std::string name = std::string("memcached, ") + kFaults[i].name;
        auto* const state = const_cast<std::size_t*>(&i);
        add_test(tests, name, "known sessions are unknown, then found again",
                 known_sessions_are_unknown_then_found_again, state);
        if (!is_of_reads_only(kFaults[i].fault)) {
            add_test(tests, name, "writes are unknown and can be repeated",
                     writes_are_unknown_and_can_be_repeated, state);
        }
        add_test(tests, name, "a large batch takes no longer than a small one",
                 a_large_batch_takes_no_longer_than_a_small_one, state);
        add_test(tests, name, "two replicas hide it", two_replicas_hide_it, state);
    }
    const int failed = run_all("memcached faults", tests);
    bench.reset();
    backend.place.reset();
    return failed;
}
