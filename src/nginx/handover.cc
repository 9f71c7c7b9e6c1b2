#include "nginx/handover.h"

#include <algorithm>

#include "core/handover.h"
#include "core/rewrite.h"
#include "nginx/clock.h"
#include "nginx/conf.h"
#include "nginx/worker.h"

namespace sg::ngx {
namespace {

constexpr ngx_msec_t kWaiting = 500;      // between two looks whether the old workers are gone
constexpr ngx_msec_t kMoving = 10;        // between two steps while there is something to move
constexpr std::size_t kStepsAtOnce = 16;  // about a millisecond
constexpr std::size_t kCellsInStep = 64;

// Process-wide by nature: one event loop. Constant-initialised.
ngx_event_t handover_event;

// The tables that a session may move to from zone `index`: younger ones that somebody works with,
// oldest first, so that all who are left can see it.
std::vector<Table> younger_than(RealmConf& realm, std::size_t index) noexcept {
    std::vector<Table> younger;
    for (const OldZone& zone : realm.old_zones.all().subspan(index + 1)) {
        if (!zone.table.is_closed()) {
            younger.push_back(zone.table);
        }
    }
    younger.push_back(*realm.table);
    return younger;
}

// Expired sessions of a zone whose own workers no longer sweep.
void sweep(const RealmConf& realm, const OldZone& zone) noexcept {
    constexpr std::size_t kMostCells = 4096;
    const Table& table = zone.table;
    const auto shard = static_cast<std::size_t>(ngx_random()) % table.shard_count();
    LockedShard locked = table.lock_shard(shard);
    table.sweep_shard(locked, sweep_limits(realm.core), now_ms(),
                      std::min(kMostCells, table.cells_per_shard()));
}

// True: there is more to move at once.
bool empty_zone(RealmConf& realm, std::size_t index, ngx_log_t* log) noexcept {
    OldZone& zone = realm.old_zones.all()[index];
    if (zone.table.is_retired()) {
        return false;
    }
    if (!zone.table.is_closed() && has_users(zone)) {
        sweep(realm, zone);
        return false;
    }
    const std::vector<Table> younger = younger_than(realm, index);
    for (std::size_t i = 0; i < kStepsAtOnce; ++i) {
        switch (zone.drain.step(zone.table, younger, kCellsInStep, now_ms())) {
            case Drain::Step::more:
                break;
            case Drain::Step::waiting:
                return false;
            case Drain::Step::done:
                give_back(zone);
                ngx_log_error(NGX_LOG_NOTICE, log, 0,
                              "session guard: zone \"%V\": handed over from %uz to %uz bytes, "
                              "%uL sessions moved",
                              &realm.zone->shm.name, zone.memory.size(), realm.zone->shm.size,
                              zone.drain.moved);
                return true;
        }
    }
    return true;
}

// True: there is more to move at once.
bool empty_zones(RealmConf& realm, ngx_log_t* log) noexcept {
    bool more = false;
    for (std::size_t i = 0; i < realm.old_zones.all().size(); ++i) {
        more = empty_zone(realm, i, log) || more;
    }
    return more;
}

// The last of the old zones may have gone: then this worker looks into one table again.
void show_to_core(RealmConf& realm) noexcept {
    realm.core.older = realm.old_zones.tables();
    realm.table->set_handover(!realm.old_zones.empty());
}

void tick(ngx_event_t* event) noexcept {
    auto& conf = *static_cast<MainConf*>(event->data);
    bool more = false;
    bool left = false;
    for (RealmConf* const realm : conf.all_realms()) {
        if (ngx_worker == 0 && !is_exiting()) {
            more = empty_zones(*realm, event->log) || more;
        }
        if (realm->old_zones.drop_retired()) {
            show_to_core(*realm);
        }
        left = left || !realm->old_zones.empty();
    }
    if (left && !is_exiting()) {
        ngx_add_timer(event, more ? kMoving : kWaiting);
    }
}

}  // namespace

void start_handover(MainConf& conf, ngx_log_t* log) noexcept {
    bool any = false;
    for (RealmConf* const realm : conf.all_realms()) {
        realm->old_zones.drop_retired();
        if (!realm->old_zones.empty()) {
            show_to_core(*realm);
            any = true;
        }
    }
    if (any) {
        handover_event.handler = tick;
        handover_event.data = &conf;
        handover_event.log = log;
        handover_event.cancelable = 1;  // must not hold back a graceful exit
        ngx_add_timer(&handover_event, kMoving);
    }
}

}  // namespace sg::ngx
