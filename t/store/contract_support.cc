#include "store/contract_support.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <numeric>

namespace sg::test {
namespace {

const char* name_of(StoreVerb verb) {
    constexpr const char* kNames[] = {"get", "create", "change", "end", "touch"};
    return kNames[static_cast<std::size_t>(verb)];
}

const char* name_of(StoreAnswer answer) {
    constexpr const char* kNames[] = {"unknown", "absent", "found"};
    return kNames[static_cast<std::size_t>(answer)];
}

// Any bytes, the same in every run.
ByteView record_bytes(std::size_t size) {
    static const auto bytes = [] {
        std::array<std::uint8_t, 64 * 1024> made;
        for (std::size_t i = 0; i < made.size(); ++i) {
            made[i] = static_cast<std::uint8_t>(scramble(i) >> 32);
        }
        std::ranges::copy(kUser, made.begin() + 16);
        return made;
    }();
    return ByteView(bytes).first(size);
}

struct Running {
    Backend* backend;
    CaseBody body;
    std::unique_ptr<Bench> bench;
};

int set_up(void** state) {
    auto& running = *static_cast<Running*>(*state);
    running.bench = std::make_unique<Bench>(*running.backend);
    return 0;
}

void run_case(void** state) {
    auto& running = *static_cast<Running*>(*state);
    running.body(*running.bench);
}

int tear_down(void** state) {
    static_cast<Running*>(*state)->bench.reset();
    return 0;
}

bool has(const Backend& backend, Needs needs) {
    return needs == Needs::nothing ||
           (needs == Needs::processes ? backend.spans_processes() : backend.shows_feed());
}

// cmocka keeps pointers to names and states.
const char* keep_name(const std::string& store, const char* behaviour) {
    static std::deque<std::string> names;
    return names.emplace_back(store + ": " + behaviour).c_str();
}

}  // namespace

void add_contract(std::vector<CMUnitTest>& tests, Backend& backend) {
    static std::deque<Running> all;
    for (const auto cases : {rule_cases(), format_cases(), batch_cases(), together_cases(),
                             feed_cases(), feed_gap_cases()}) {
        for (const Case& one : cases) {
            if (!has(backend, one.needs)) {
                continue;
            }
            Running& running =
                all.emplace_back(Running{.backend = &backend, .body = one.body, .bench = {}});
            tests.push_back({.name = keep_name(backend.name(), one.behaviour),
                             .test_func = run_case,
                             .setup_func = set_up,
                             .teardown_func = tear_down,
                             .initial_state = &running});
        }
    }
}

void add_test(std::vector<CMUnitTest>& tests, const std::string& store, const char* behaviour,
              CMUnitTestFunction body, void* state) {
    tests.push_back({.name = keep_name(store, behaviour),
                     .test_func = body,
                     .setup_func = nullptr,
                     .teardown_func = nullptr,
                     .initial_state = state});
}

int run_all(const char* group, const std::vector<CMUnitTest>& tests) {
#if defined(__SANITIZE_THREAD__)
    cmocka_set_test_filter("*: threads *");  // in the others there is one
#endif
    return _cmocka_run_group_tests(group, tests.data(), tests.size(), nullptr, nullptr);
}

SealKeys seal_keys(std::initializer_list<std::uint8_t> ids) {
    SealKeys keys;
    for (const std::uint8_t id : ids) {
        SealKeys::Key& key = keys.keys[keys.count++];
        key.id = id;
        for (std::size_t i = 0; i < key.master.size(); ++i) {
            key.master[i] = static_cast<std::uint8_t>(scramble(id * 64 + i));
        }
    }
    return keys;
}

StoreKey fresh_key() {
    static std::atomic<std::uint64_t> last{0};
    const std::uint64_t next = ++last;
    StoreKey key;
    store_le(key.data(), scramble(next));
    store_le(key.data() + 8, scramble(~next));
    return key;
}

StoreEntry session_entry(std::uint32_t counter, std::uint64_t node, std::size_t record_size) {
    StoreEntry entry;
    entry.kind = EntryKind::session;
    entry.version = {.counter = counter, .node = node};
    entry.expires = kStart + 8 * kHour;
    entry.token = token_of(node);
    entry.token.key_id = kOldKeyId;
    entry.last_seen = kStart - kMinute;
    entry.superseded_until = kStart + 10 * kSecond;
    entry.successor = token_of(counter + 1000).handle;
    entry.record = record_bytes(record_size);
    return entry;
}

StoreEntry ended_entry(Departure why) {
    StoreEntry entry;
    entry.kind = EntryKind::ended;
    entry.version = {.counter = 1, .node = 7};
    entry.expires = kStart + 8 * kHour + 5 * kMinute;
    entry.why = why;
    return entry;
}

StoreEntry activity_entry(TimeMs last_seen) {
    StoreEntry entry;
    entry.kind = EntryKind::activity;
    entry.version = {.counter = 1, .node = 7};
    entry.expires = kStart + 8 * kHour;
    entry.last_seen = last_seen;
    return entry;
}

StoreOp operation(StoreVerb verb, const StoreKey& key, const StoreEntry& entry) {
    StoreOp op;
    op.verb = verb;
    op.key_id = kOldKeyId;
    op.key = key;
    op.entry = entry;
    assert_true(op.bytes.assign(entry.record));
    op.entry.record = op.bytes.view();
    return op;
}

Store& Bench::connect(const SealKeys& keys) {
    auto store = backend_.connect(keys, *health_);
    if (store == nullptr) {
        fail_msg("%s: no connection", backend_.name().c_str());
    }
    return *stores_.emplace_back(std::move(store));
}

std::uint64_t Bench::faults(StoreFault fault) const {
    return health_->faults[static_cast<std::size_t>(fault)].load();
}

std::uint64_t Bench::all_faults() const {
    return std::accumulate(health_->faults.begin(), health_->faults.end(), std::uint64_t{0});
}

StoreOp Bench::run(Store& store, StoreOp op, TimeMs now) {
    store.run({&op, 1}, now);
    return op;
}

StoreOp Bench::get(const StoreKey& key, TimeMs now) {
    return run(operation(StoreVerb::get, key), now);
}

StoreOp Bench::create(const StoreKey& key, const StoreEntry& entry, TimeMs now) {
    return run(operation(StoreVerb::create, key, entry), now);
}

StoreOp Bench::change(const StoreKey& key, const StoreEntry& entry, TimeMs now) {
    return run(operation(StoreVerb::change, key, entry), now);
}

StoreOp Bench::end(const StoreKey& key, Departure why, TimeMs now) {
    return run(operation(StoreVerb::end, key, ended_entry(why)), now);
}

StoreOp Bench::touch(const StoreKey& key, TimeMs last_seen, TimeMs now) {
    return run(operation(StoreVerb::touch, key, activity_entry(last_seen)), now);
}

void assert_answer(const StoreOp& op, StoreAnswer wanted, bool lost) {
    if (op.answer != wanted || op.lost != lost) {
        fail_msg("%s: %s%s, wanted %s%s", name_of(op.verb), name_of(op.answer),
                 op.lost ? " but lost" : "", name_of(wanted), lost ? " but lost" : "");
    }
}

void assert_absent(const StoreOp& op) {
    assert_answer(op, StoreAnswer::absent);
}

void assert_unknown(const StoreOp& op) {
    assert_answer(op, StoreAnswer::unknown);
}

void assert_holds(const StoreOp& op) {
    assert_answer(op, StoreAnswer::found);
}

const char* difference(const StoreEntry& got, const StoreEntry& wanted) {
    if (got.kind != wanted.kind) {
        return "kind";
    }
    if (got.kind == EntryKind::ended) {
        return got.why != wanted.why ? "why" : nullptr;
    }
    if (got.version != wanted.version) {
        return "version";
    }
    if (!same_token(got.token, wanted.token)) {
        return "token";
    }
    if (got.expires != wanted.expires) {
        return "expires";
    }
    if (got.superseded_until != wanted.superseded_until || got.successor != wanted.successor) {
        return "successor";
    }
    return std::ranges::equal(got.record, wanted.record) ? nullptr : "record";
}

void assert_found(const StoreOp& op, const StoreEntry& wanted) {
    assert_holds(op);
    if (const char* what = difference(op.seen, wanted)) {
        fail_msg("%s: another %s than was written", name_of(op.verb), what);
    }
    if (op.seen.kind == EntryKind::session && op.seen.last_seen != wanted.last_seen) {
        fail_msg("%s: last seen %+lld ms from what was wanted", name_of(op.verb),
                 static_cast<long long>(op.seen.last_seen - wanted.last_seen));
    }
}

void assert_lost_to(const StoreOp& op, const StoreEntry& winner) {
    assert_answer(op, StoreAnswer::found, true);
    if (const char* what = difference(op.seen, winner)) {
        fail_msg("%s: another %s than the winner's", name_of(op.verb), what);
    }
}

void assert_ended(const StoreOp& op, Departure why) {
    assert_holds(op);
    assert_int_equal(op.seen.kind, EntryKind::ended);
    assert_int_equal(op.seen.why, why);
}

}  // namespace sg::test
