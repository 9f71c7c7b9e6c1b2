// What is to be done about an operation once its replicas have been read: its answer as far as it
// is known, and what has to be written where. Pure: memcached_store.cc reads, obeys and reads
// again until nothing is left to write. So every write is acknowledged by what is there afterwards,
// whoever wrote it, and a write that lost a race is considered anew.
#pragma once

#include <cstdint>
#include <span>

#include "store/health.h"
#include "store/store.h"

namespace sg {

enum class MemcachedHolds : std::uint8_t {
    unknown,  // not asked, or no answer
    nothing,  // nothing is there; or it has expired
    live,     // a session; or an activity
    ended,    // a tombstone
    damaged,  // there is something, and it cannot be read
};

// What one server has told about one key.
struct MemcachedReplica {
    MemcachedHolds state = MemcachedHolds::unknown;
    MemcachedHolds activity = MemcachedHolds::unknown;
    bool certain = false;         // where nothing is: that means there is no such session
    Version version;              // of a live state
    TimeMs last_seen = 0;         // of a live activity
    std::uint64_t state_cas = 0;  // 0: nothing is in the way
    std::uint64_t activity_cas = 0;
};

// One bit for each replica.
using ReplicaSet = std::uint16_t;
static_assert(kMaxServers <= 8 * sizeof(ReplicaSet));

struct MemcachedDecision {
    StoreAnswer answer = StoreAnswer::unknown;
    bool lost = false;
    bool writes_own = false;    // the operation's entry, else the winning one
    ReplicaSet states = 0;      // where it is to be written
    ReplicaSet activities = 0;  // where the last activity is to be written

    bool has_writes() const noexcept { return (states | activities) != 0; }
};

// What all replicas of a key say together.
struct MemcachedMerged {
    bool exists = false;   // the winning state is op.seen
    TimeMs last_seen = 0;  // the latest activity
};

MemcachedDecision decide(const StoreOp& op, const MemcachedMerged& merged,
                         std::span<const MemcachedReplica> replicas) noexcept;

// The replicas that do not have `entry` (a session or tombstone) or anything that beats it, and
// should: those that could not be asked are not among them.
ReplicaSet replicas_behind(const StoreEntry& entry,
                           std::span<const MemcachedReplica> replicas) noexcept;

}  // namespace sg
