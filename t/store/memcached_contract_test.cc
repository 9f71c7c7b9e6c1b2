// The contract over real memcached servers: one, three of different weights, three with two
// replicas, and Unix-domain sockets. And what is memcached's own: when it forgets, and replicas.
#include <array>
#include <cstdlib>
#include <filesystem>

#include "store/contract_support.h"
#include "store/memcached_server.h"
#include "store/memcached_store.h"

using namespace sg;
using namespace sg::test;

namespace {

// Far beyond what a loaded machine needs: here nothing is meant to time out.
constexpr TimeMs kPatience = 5 * kSecond;

class MemcachedBackend final : public Backend {
  public:
    MemcachedBackend(std::string name, std::vector<std::uint16_t> weights, std::size_t replicas,
                     const std::string& socket_folder = {})
        : name_(std::move(name)) {
        for (const std::uint16_t weight : weights) {
            const std::string socket =
                socket_folder.empty()
                    ? std::string()
                    : socket_folder + "/" + std::to_string(servers_.size()) + ".sock";
            Memcached& server = *servers_.emplace_back(std::make_unique<Memcached>(socket));
            conf_.servers[conf_.count++] = {
                .host = socket.empty() ? std::string_view("127.0.0.1") : server.socket_path(),
                .port = server.port(),
                .weight = weight};
        }
        conf_.replicas = replicas;
        conf_.connect_timeout = kPatience;
        conf_.timeout = kPatience;
        conf_.longest_absolute = kLongestLife;
    }

    std::string name() const override { return name_; }

    std::unique_ptr<Store> connect(const SealKeys& keys, StoreHealth& health) override {
        return make_memcached_store(conf_, keys, health);
    }

    // The name of an entry here: the number of its server before its name there.
    std::map<std::string, RawValue> dump() override {
        std::map<std::string, RawValue> all;
        for (std::size_t i = 0; i < servers_.size(); ++i) {
            for (auto& [name, value] : servers_[i]->dump()) {
                all[static_cast<char>('0' + i) + name] = std::move(value);
            }
        }
        return all;
    }

    bool write(const std::string& name, const RawValue& value) override {
        return server_of(name).write(name.substr(1), value);
    }

    bool remove(const std::string& name) override { return server_of(name).remove(name.substr(1)); }

    Memcached& server_of(const std::string& name) {
        return *servers_[static_cast<std::size_t>(name[0] - '0')];
    }

    // What has come since `before`.
    std::vector<std::string> names_since(const std::map<std::string, RawValue>& before) {
        std::vector<std::string> names;
        for (const auto& [name, value] : dump()) {
            if (!before.contains(name)) {
                names.push_back(name);
            }
        }
        return names;
    }

    const MemcachedConf& conf() const { return conf_; }

  private:
    std::string name_;
    std::vector<std::unique_ptr<Memcached>> servers_;
    MemcachedConf conf_;
};

MemcachedBackend& backend_of(void** state) {
    return *static_cast<MemcachedBackend*>(*state);
}

// Everybody logged in would fill the server; or be logged out before their time.
void the_server_forgets_no_entry_early_and_every_entry_some_time(void** state) {
    MemcachedBackend& backend = backend_of(state);
    for (const TimeMs life : {kMinute, 8 * kHour, 30 * kDay, 31 * kDay, kLongestLife}) {
        Bench bench(backend);
        const auto before = backend.dump();
        const StoreKey key = fresh_key();
        StoreEntry entry = session_entry();
        entry.expires = kStart + life;
        assert_holds(bench.create(key, entry));
        StoreEntry seen = activity_entry(kStart);
        seen.expires = entry.expires;
        assert_holds(bench.run(operation(StoreVerb::touch, key, seen)));
        const auto names = backend.names_since(before);
        assert_in_range(names.size(), 2, 2 * backend.conf().replicas);
        for (const std::string& name : names) {
            const long long expiry = backend.server_of(name).expiry(name.substr(1));
            assert_in_range(expiry, (kStart + life) / kSecond,
                            (kStart + life + 2 * kHour) / kSecond);
        }
    }
}

// Few places on one server, or one server only: what weights and placement are for.
void weights_share_out_the_sessions(void** state) {
    MemcachedBackend& backend = backend_of(state);
    Bench bench(backend);
    const auto before = backend.dump();
    constexpr std::size_t kSessions = 400;
    std::vector<StoreOp> batch;
    for (std::size_t i = 0; i < kSessions; ++i) {
        batch.push_back(operation(StoreVerb::create, fresh_key(), session_entry()));
    }
    bench.store().run(batch, kStart);
    std::array<std::size_t, 3> count{};
    for (const std::string& name : backend.names_since(before)) {
        ++count[static_cast<std::size_t>(name[0] - '0')];
    }
    // Weights 1, 2, 1: within five standard deviations of the expected number.
    assert_in_range(count[0], 57, 143);
    assert_in_range(count[1], 150, 250);
    assert_in_range(count[2], 57, 143);
}

struct Replicated {
    StoreKey key = fresh_key();
    std::vector<std::string> names;
};

Replicated replicated_session(Bench& bench, MemcachedBackend& backend) {
    Replicated session;
    const auto before = backend.dump();
    assert_holds(bench.create(session.key, session_entry()));
    session.names = backend.names_since(before);
    return session;
}

// Two copies on one server are none.
void replicas_lie_on_distinct_servers(void** state) {
    MemcachedBackend& backend = backend_of(state);
    Bench bench(backend);
    for (int i = 0; i < 50; ++i) {
        const Replicated session = replicated_session(bench, backend);
        assert_int_equal(session.names.size(), 2);
        assert_true(session.names[0][0] != session.names[1][0]);
        assert_true(session.names[0].substr(1) == session.names[1].substr(1));
    }
}

// One replica has lost it, or holds nonsense: the other one's answer counts, and is written back.
void a_lost_or_damaged_replica_is_repaired_by_a_read(void** state) {
    MemcachedBackend& backend = backend_of(state);
    for (const bool lost : {true, false}) {
        for (const std::size_t which : {0u, 1u}) {
            Bench bench(backend);
            const Replicated session = replicated_session(bench, backend);
            const std::string& name = session.names[which];
            if (lost) {
                assert_true(backend.server_of(name).remove(name.substr(1)));
            } else {
                assert_true(backend.write(name, {.flags = 0, .bytes = "nonsense"}));
            }
            assert_found(bench.get(session.key), session_entry());
            if (lost) {
                assert_true(backend.dump().contains(name));
            } else {
                assert_true(bench.all_faults() > 0);
            }
            assert_found(bench.get(session.key), session_entry());
        }
    }
}

// The replica that missed a logout must not let the session in again, whichever it is.
void ended_beats_live_between_replicas(void** state) {
    MemcachedBackend& backend = backend_of(state);
    for (const std::size_t which : {0u, 1u}) {
        Bench bench(backend);
        const Replicated session = replicated_session(bench, backend);
        const RawValue live = backend.dump()[session.names[which]];
        assert_holds(bench.end(session.key));
        assert_true(backend.write(session.names[which], live));
        assert_ended(bench.get(session.key));
        assert_ended(bench.get(session.key));
        assert_lost_to(bench.change(session.key, session_entry(50, 50)), ended_entry());
    }
}

void the_newer_version_wins_between_replicas(void** state) {
    MemcachedBackend& backend = backend_of(state);
    for (const std::size_t which : {0u, 1u}) {
        Bench bench(backend);
        const Replicated session = replicated_session(bench, backend);
        const RawValue old = backend.dump()[session.names[which]];
        assert_holds(bench.change(session.key, session_entry(2)));
        assert_true(backend.write(session.names[which], old));
        assert_found(bench.get(session.key), session_entry(2));
        assert_lost_to(bench.change(session.key, session_entry(1, 3)), session_entry(2));
    }
}

}  // namespace

int main() {
    std::string folder = std::filesystem::temp_directory_path() / "memcached_contract.XXXXXX";
    if (mkdtemp(folder.data()) == nullptr) {
        return 1;
    }
    int failed = 0;
    {
        MemcachedBackend one("memcached", {1}, 1);
        MemcachedBackend three("memcached, 3 servers", {1, 2, 1}, 1);
        MemcachedBackend replicated("memcached, 2 replicas on 3 servers", {1, 2, 1}, 2);
        MemcachedBackend sockets("memcached, 2 Unix sockets", {1, 1}, 1, folder);
        std::vector<CMUnitTest> tests;
        for (MemcachedBackend* backend : {&one, &three, &replicated, &sockets}) {
            add_contract(tests, *backend);
            add_test(tests, backend->name(),
                     "the server forgets no entry early and every entry some time",
                     the_server_forgets_no_entry_early_and_every_entry_some_time, backend);
        }
        add_test(tests, three.name(), "weights share out the sessions",
                 weights_share_out_the_sessions, &three);
        add_test(tests, replicated.name(), "replicas lie on distinct servers",
                 replicas_lie_on_distinct_servers, &replicated);
        add_test(tests, replicated.name(), "a lost or damaged replica is repaired by a read",
                 a_lost_or_damaged_replica_is_repaired_by_a_read, &replicated);
        add_test(tests, replicated.name(), "ended beats live between replicas",
                 ended_beats_live_between_replicas, &replicated);
        add_test(tests, replicated.name(), "the newer version wins between replicas",
                 the_newer_version_wins_between_replicas, &replicated);
        failed = run_all("memcached", tests);
    }
    std::filesystem::remove_all(folder);
    return failed;
}
