// A store in memory: what tests use where a real one would only be in the way. Seals like the real
// ones, and can be switched to fail like them, at once and without any waiting.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/random_pool.h"
#include "core/seal.h"
#include "store/health.h"
#include "store/store.h"

namespace sg::test {

enum class FakeFault : std::uint8_t {
    none,
    unreachable,   // nothing gets through
    timed_out,     // nothing gets through
    breaker_open,  // not even asked
    full,          // reads and ends work; creations and changes do not
    lost_answers,  // everything is carried out, and every answer lost: the worst for a writer
};

// What the connections of a fake share: its entries and its switches. Any thread.
struct FakeMemory {
    struct Name {
        StoreKey key{};
        bool is_activity = false;
        auto operator<=>(const Name&) const = default;
    };

    std::mutex mutex;  // held for a whole operation: operations are atomic, batches are not
    std::map<Name, std::string> sealed;
    std::vector<FeedNote> told;  // the feed: numbers from 1, its epoch is 1

    std::atomic<FakeFault> fault{FakeFault::none};
    std::atomic<std::uint64_t> batches{0};
    std::atomic<std::uint64_t> operations{0};

    // Called in the thread of the batch before it is looked at: to hold it in flight, or to let
    // another writer go first. Set while nothing runs.
    std::function<void(std::span<StoreOp>)> before_batch;
};

// nullptr when OpenSSL fails. `memory` and `health` outlive the store.
std::unique_ptr<Store> make_fake_store(FakeMemory& memory, const SealKeys& keys,
                                       StoreHealth& health);

}  // namespace sg::test
