// The contract over the fake: what the fake does is what the real stores do, so that a test with it
// means something. And its switches.
#include "store/contract_support.h"
#include "store/fake_store.h"

using namespace sg;
using namespace sg::test;

namespace {

class FakeBackend final : public Backend {
  public:
    std::string name() const override { return "fake"; }
    bool spans_processes() const override { return false; }
    bool shows_feed() const override { return false; }

    std::unique_ptr<Store> connect(const SealKeys& keys, StoreHealth& health) override {
        return make_fake_store(memory, keys, health);
    }

    std::map<std::string, RawValue> dump() override {
        std::map<std::string, RawValue> all;
        for (const auto& [name, sealed] : memory.sealed) {
            all[text_of(name)] = {.flags = 0, .bytes = sealed};
        }
        return all;
    }

    bool write(const std::string& name, const RawValue& value) override {
        for (auto& [known, sealed] : memory.sealed) {
            if (text_of(known) == name) {
                sealed = value.bytes;
                return true;
            }
        }
        return false;
    }

    bool remove(const std::string& name) override {
        return std::erase_if(memory.sealed,
                             [&](const auto& one) { return text_of(one.first) == name; }) == 1;
    }

    FakeMemory memory;

  private:
    static std::string text_of(const FakeMemory::Name& name) {
        return std::string(name.is_activity ? "a" : "s") + std::string(as_text(name.key));
    }
};

FakeBackend backend;

// A switch that lets something through, or takes something along, would make every test that uses
// it worthless.
void a_fault_lets_nothing_through_and_is_counted(void**) {
    constexpr struct {
        FakeFault fault;
        StoreFault counted;
    } kFaults[] = {{FakeFault::unreachable, StoreFault::unreachable},
                   {FakeFault::timed_out, StoreFault::timed_out},
                   {FakeFault::breaker_open, StoreFault::breaker_open}};
    for (const auto& [fault, counted] : kFaults) {
        Bench bench(backend);
        const StoreKey key = fresh_key();
        assert_holds(bench.create(key, session_entry()));
        backend.memory.fault = fault;
        assert_unknown(bench.get(key));
        assert_unknown(bench.end(key));
        assert_int_equal(bench.faults(counted), 2);
        backend.memory.fault = FakeFault::none;
        assert_found(bench.get(key), session_entry());
    }
}

void lost_answers_are_of_writes_that_happened(void**) {
    Bench bench(backend);
    const StoreKey key = fresh_key();
    backend.memory.fault = FakeFault::lost_answers;
    assert_unknown(bench.create(key, session_entry()));
    backend.memory.fault = FakeFault::none;
    assert_found(bench.get(key), session_entry());
    assert_holds(bench.create(key, session_entry()));
}

void a_full_store_still_ends(void**) {
    Bench bench(backend);
    const StoreKey key = fresh_key();
    assert_holds(bench.create(key, session_entry()));
    backend.memory.fault = FakeFault::full;
    assert_unknown(bench.change(key, session_entry(2)));
    assert_int_equal(bench.faults(StoreFault::full), 1);
    assert_holds(bench.end(key));
    backend.memory.fault = FakeFault::none;
    assert_ended(bench.get(key));
}

void the_hook_runs_before_the_batch(void**) {
    Bench bench(backend);
    const StoreKey key = fresh_key();
    Store& other = bench.connect();
    bool entered = false;
    backend.memory.before_batch = [&](std::span<StoreOp>) {
        if (!entered) {
            entered = true;
            assert_holds(bench.run(other, operation(StoreVerb::end, key, ended_entry())));
        }
    };
    const StoreOp op = bench.create(key, session_entry());
    backend.memory.before_batch = nullptr;
    assert_lost_to(op, ended_entry());
}

}  // namespace

int main() {
    std::vector<CMUnitTest> tests;
    add_contract(tests, backend);
    add_test(tests, "fake", "a fault lets nothing through and is counted",
             a_fault_lets_nothing_through_and_is_counted, nullptr);
    add_test(tests, "fake", "lost answers are of writes that happened",
             lost_answers_are_of_writes_that_happened, nullptr);
    add_test(tests, "fake", "a full store still ends", a_full_store_still_ends, nullptr);
    add_test(tests, "fake", "the hook runs before the batch", the_hook_runs_before_the_batch,
             nullptr);
    return run_all("fake", tests);
}
