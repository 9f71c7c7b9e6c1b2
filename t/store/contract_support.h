// What the contract's cases are written with: entries, operations, one case's connections, and
// comparisons that say what differs.
#pragma once

#include <chrono>
#include <span>
#include <string_view>

#include "store/contract.h"
#include "unit/zone_support.h"

namespace sg::test {

// The wall clock when the program started: memcached's times are of this world. Cases move on from
// here by argument, never by sleeping.
inline const TimeMs kStart = std::chrono::duration_cast<std::chrono::milliseconds>(
                                 std::chrono::system_clock::now().time_since_epoch())
                                 .count();
inline constexpr TimeMs kDay = 24 * kHour;
inline constexpr TimeMs kLongestLife = 60 * kDay;  // the stores are configured for

inline constexpr std::string_view kUser = "alice@example.org";  // stands in every longer record

inline constexpr std::uint8_t kOldKeyId = 0x17;
inline constexpr std::uint8_t kNewKeyId = 0xe4;

SealKeys seal_keys(std::initializer_list<std::uint8_t> ids);

StoreKey fresh_key();

// A session in one of its states, every field filled. The record's bytes are static.
StoreEntry session_entry(std::uint32_t counter = 1, std::uint64_t node = 7,
                         std::size_t record_size = 120);
StoreEntry ended_entry(Departure why = Departure::ended);
StoreEntry activity_entry(TimeMs last_seen);

// The operation owns a copy of the record.
StoreOp operation(StoreVerb verb, const StoreKey& key, const StoreEntry& entry = {});

// One case: its health and its connections, which a failing test cannot leave open.
class Bench {
  public:
    explicit Bench(Backend& backend) : backend_(backend) {}

    Backend& backend() { return backend_; }
    Store& store() { return stores_.empty() ? connect() : *stores_.front(); }
    Store& connect() { return connect(seal_keys({kOldKeyId, kNewKeyId})); }
    Store& connect(const SealKeys& keys);
    void disconnect() { stores_.clear(); }

    StoreHealth& health() { return *health_; }
    std::uint64_t faults(StoreFault fault) const;
    std::uint64_t all_faults() const;

    // One operation as a batch of its own, on store() unless said otherwise.
    StoreOp run(StoreOp op, TimeMs now = kStart) { return run(store(), std::move(op), now); }
    StoreOp run(Store& store, StoreOp op, TimeMs now = kStart);

    StoreOp get(const StoreKey& key, TimeMs now = kStart);
    StoreOp create(const StoreKey& key, const StoreEntry& entry, TimeMs now = kStart);
    StoreOp change(const StoreKey& key, const StoreEntry& entry, TimeMs now = kStart);
    StoreOp end(const StoreKey& key, Departure why = Departure::ended, TimeMs now = kStart);
    StoreOp touch(const StoreKey& key, TimeMs last_seen, TimeMs now = kStart);

  private:
    Backend& backend_;
    std::unique_ptr<StoreHealth> health_ = std::make_unique<StoreHealth>();
    std::vector<std::unique_ptr<Store>> stores_;
};

using CaseBody = void (*)(Bench&);
enum class Needs : std::uint8_t {
    nothing,
    processes,  // whose connections meet
    raw_feed,   // a feed that can be reached behind the store's back
};
struct Case {
    const char* behaviour;
    CaseBody body;
    Needs needs = Needs::nothing;
};

// The cases, by subject: one file each.
std::span<const Case> rule_cases();      // contract.cc: one session's life
std::span<const Case> format_cases();    // contract_format.cc: keys, damage, strangers
std::span<const Case> batch_cases();     // contract_batches.cc: many operations in one batch
std::span<const Case> feed_cases();      // contract_feed.cc: what other nodes are told
std::span<const Case> feed_gap_cases();  // contract_feed_gaps.cc: what they must not overlook
std::span<const Case> together_cases();  // contract_together.cc: many connections at once

void assert_answer(const StoreOp& op, StoreAnswer wanted, bool lost = false);
void assert_absent(const StoreOp& op);
void assert_unknown(const StoreOp& op);
void assert_holds(const StoreOp& op);  // found and not lost

// What differs, else nullptr. All that an entry of its kind has.
const char* difference(const StoreEntry& got, const StoreEntry& wanted);

// Found, and everything as it was written.
void assert_found(const StoreOp& op, const StoreEntry& wanted);
// Found, but another state has won: this one.
void assert_lost_to(const StoreOp& op, const StoreEntry& winner);
void assert_ended(const StoreOp& op, Departure why = Departure::ended);

}  // namespace sg::test
