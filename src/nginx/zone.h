// The realm's shared memory: nginx's slab header at the start (kept intact, nginx's master writes
// its mutex there), then one small root with counters, then one allocation with the whole table.
#pragma once

#include "nginx/ngx.h"

#include <array>
#include <atomic>
#include <cstdint>

#include "core/feed_state.h"
#include "core/time_ms.h"
#include "store/health.h"

namespace sg::ngx {

struct RealmConf;

// Things that are counted and, where somebody must act, logged at most once a minute.
enum class Event : std::uint8_t {
    zone_full,        // a login was refused because the zone is full
    random_failed,    // a login was refused for want of random bytes
    control_ignored,  // X-Accel-Session from where it is not allowed
    control_malformed,
    csrf_unattested,  // unsafe request without Sec-Fetch-Site and Origin, let pass
    record_damaged,   // a record this build cannot read
    zone_repaired,    // a writer was killed while it held a shard
    insecure,         // a session cookie came over plain http
    store_write_failed,
    store_unknown,        // the store gave no answer in time
    store_write_dropped,  // too many were waiting
    store_change_again,   // another node had changed the session: made once more
    reuse_detected,       // a token came back that had been rotated away: the session was ended
    feed_gap,    // what other nodes ended may have been missed: copies are asked about again
    limited,     // a login was refused: as many sessions as limit_sessions allows
    over_limit,  // a session was ended: a login made it one too many
    cut_ended,   // a connection that lasted was cut off: its session was logged out
    cut_regenerated,
    cut_expired_idle,
    cut_expired_absolute,
    cut_otherwise,  // the store does not know the session, or has not answered for too long
    count
};

// How long the batches of one lane took, threads' wait included in none of it.
struct StoreTimes {
    // Upper bounds in ms; one more bucket for what took longer.
    static constexpr std::array<std::uint32_t, 10> kBounds{1,  2,   5,   10,  20,
                                                           50, 100, 200, 500, 1000};

    void add(std::size_t operations, std::int64_t microseconds) noexcept;

    std::atomic<std::uint64_t> batches;
    std::atomic<std::uint64_t> operations;
    std::atomic<std::uint64_t> microseconds;
    std::array<std::atomic<std::uint64_t>, kBounds.size() + 1> buckets;
};

inline constexpr std::uint64_t kZoneMagic = 0x3164726175674753;  // "SGguard1"

struct ZoneRoot {
    std::uint64_t magic;  // kZoneMagic plus the size of this: a module of another layout may come
                          // with a reload
    std::uint64_t table_bytes;
    std::uint64_t node;  // random: names this zone in what it writes to a store
    void* table;         // same address in master and workers: the mapping is inherited over fork
    struct Tally {
        std::atomic<std::uint64_t> count;
        std::atomic<TimeMs> last_logged;

        // True when it has not been logged by any worker for a minute; then it has been now.
        bool is_due(TimeMs now) noexcept;
    };
    std::array<Tally, static_cast<std::size_t>(Event::count)> tallies;
    StoreHealth store;
    FeedState feed;
    struct SharedPlace {  // a FeedPlace
        std::atomic<std::uint64_t> epoch;
        std::atomic<std::uint64_t> next;
        std::atomic<std::uint64_t> chain;
    };
    std::array<SharedPlace, kMaxServers> places;
    std::array<std::atomic<TimeMs>, kMaxServers> reseeded;  // servers, by the time they came up
    StoreTimes look_ups;
    StoreTimes writes;
    std::array<std::atomic<std::uint32_t>, 256> long_lived;  // connections, by worker
    std::array<Tally, static_cast<std::size_t>(StoreFault::count_)> faults_logged;  // of `store`'s
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

// Parses nothing; adds the zone "session_guard:NAME" of `size` bytes to the cycle.
ngx_int_t add_zone(ngx_conf_t* cf, RealmConf& realm, ssize_t size) noexcept;

// Counts; true when this event has not been logged by any worker for a minute.
bool count_event(RealmConf& realm, Event event, TimeMs now) noexcept;
std::uint64_t event_count(const RealmConf& realm, Event event) noexcept;

// The smallest zone nginx -t accepts.
std::size_t minimum_zone_bytes() noexcept;

}  // namespace sg::ngx
