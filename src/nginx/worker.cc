#include "nginx/worker.h"

#include <openssl/rand.h>
#include <time.h>

#include <algorithm>
#include <array>

#include "core/lifecycle.h"
#include "core/zone/shard_lock.h"
#include "nginx/clock.h"
#include "nginx/conf.h"
#include "nginx/handover.h"
#include "nginx/long_lived/long_lived.h"
#include "nginx/pass.h"
#include "nginx/str.h"
#include "nginx/tier/store_conf.h"

namespace sg::ngx {
namespace {

constexpr ngx_msec_t kSweepInterval = 1000;
constexpr long kSweepBudgetNs = 500'000;   // of a worker's time a second; the promise is 1 ms
constexpr std::size_t kSweepRounds = 60;   // seconds for one round through all zones, if large
constexpr std::size_t kSweepLeast = 4096;  // cells a second
constexpr std::size_t kSweepStep = 256;    // cells between two looks at the clock

bool random_bytes(ByteSpan out) noexcept {
    return !test_random_fails() && RAND_bytes(out.data(), static_cast<int>(out.size())) == 1;
}

// Process-wide by nature: one event loop, one thread. Constant-initialised.
constinit RandomPool random_pool{random_bytes};
constinit std::array<std::uint8_t, kWorkBytes> scratch{};
constinit TimeMs last_message = 0;
constinit std::size_t sweep_realm = 0;
constinit std::size_t sweep_shard = 0;
constinit std::size_t sweep_done = 0;  // cells of this shard looked at in this round

ngx_event_t sweep_event;

long elapsed_ns(const timespec& since) noexcept {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - since.tv_sec) * 1'000'000'000L + (now.tv_nsec - since.tv_nsec);
}

void report_repairs(RealmConf& realm, ngx_log_t* log) noexcept {
    const std::uint64_t repairs = realm.table->stats().repairs;
    auto& tally = realm.shared->tallies[static_cast<std::size_t>(Event::zone_repaired)];
    std::uint64_t known = tally.count.load(std::memory_order_relaxed);
    if (repairs > known && tally.count.compare_exchange_strong(known, repairs)) {
        ngx_log_error(
            NGX_LOG_ERR, log, 0,
            "session guard: realm \"%V\": zone repaired after a killed worker (%uL so far)",
            &realm.name, repairs);
    }
}

void sweep_step(RealmConf& realm) noexcept {
    const Table& table = *realm.table;
    if (sweep_shard >= table.shard_count()) {
        sweep_shard = 0;
    }
    {
        LockedShard shard = table.lock_shard(sweep_shard);
        table.sweep_shard(shard,
                          {.idle = realm.core.timeouts.idle,
                           .absolute = realm.core.timeouts.absolute,
                           .evict = realm.core.has_store},
                          now_ms(), kSweepStep);
    }
    sweep_done += kSweepStep;
    if (sweep_done >= table.cells_per_shard()) {
        sweep_done = 0;
        ++sweep_shard;
    }
}

std::size_t cells_of_all(std::span<RealmConf*> realms) noexcept {
    std::size_t cells = 0;
    for (const RealmConf* const realm : realms) {
        cells += realm->table->shard_count() * realm->table->cells_per_shard();
    }
    return cells;
}

// A small bounded part of all zones a second; expired sessions are refused anyway, this only gives
// their room back.
void sweep(ngx_event_t* event) noexcept {
    auto* const conf = static_cast<MainConf*>(event->data);
    timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    const std::span<RealmConf*> realms = conf->all_realms();
    const std::size_t cells = std::max(kSweepLeast, cells_of_all(realms) / kSweepRounds);
    for (std::size_t done = 0; done < cells && elapsed_ns(start) < kSweepBudgetNs;
         done += kSweepStep) {
        sweep_realm = sweep_realm < realms.size() ? sweep_realm : 0;
        RealmConf& realm = *realms[sweep_realm];
        sweep_step(realm);
        if (sweep_shard >= realm.table->shard_count()) {
            report_repairs(realm, event->log);
            sweep_shard = 0;
            ++sweep_realm;
        }
    }
    if (!is_exiting()) {
        ngx_add_timer(event, kSweepInterval);
    }
}

// The phase engine exists only now; see is_clone in request_ctx.cc.
void find_preaccess_index(ngx_cycle_t* cycle, MainConf& conf) noexcept {
    const auto* const core = static_cast<const ngx_http_core_main_conf_t*>(
        ngx_http_cycle_get_module_main_conf(cycle, ngx_http_core_module));
    if (core == nullptr) {
        return;
    }
    for (ngx_uint_t i = 0; core->phase_engine.handlers[i].checker != nullptr; ++i) {
        if (core->phase_engine.handlers[i].handler == preaccess_handler) {
            conf.preaccess_index = i;
        }
    }
}

}  // namespace

ngx_int_t start_worker(ngx_cycle_t* cycle) noexcept {
    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE) {
        return NGX_OK;
    }
    auto* const conf = static_cast<MainConf*>(
        ngx_http_cycle_get_module_main_conf(cycle, ngx_http_session_guard_module));
    if (conf == nullptr || !conf->in_use) {
        return NGX_OK;
    }
    find_preaccess_index(cycle, *conf);
    if (start_stores(*conf, cycle->log) != NGX_OK) {
        return NGX_ERROR;
    }
    start_handover(*conf, cycle->log);
    for (const RealmConf* const realm : conf->all_realms()) {
        forget_predecessor(*realm);
    }
    if (ngx_worker != 0) {
        return NGX_OK;
    }
    sweep_event.handler = sweep;
    sweep_event.data = conf;
    sweep_event.log = cycle->log;
    sweep_event.cancelable = 1;  // must not hold back a graceful exit
    ngx_add_timer(&sweep_event, kSweepInterval);
    return NGX_OK;
}

void stop_worker(ngx_cycle_t* cycle) noexcept {
    const auto* const conf = static_cast<const MainConf*>(
        ngx_http_cycle_get_module_main_conf(cycle, ngx_http_session_guard_module));
    if (conf != nullptr && conf->in_use) {
        stop_stores(*conf);
    }
}

bool is_exiting() noexcept {
    return ngx_exiting != 0 || ngx_quit != 0 || ngx_terminate != 0;
}

RandomPool& worker_random() noexcept {
    return random_pool;
}

ByteSpan worker_scratch() noexcept {
    return scratch;
}

bool minute_has_passed_here() noexcept {
    const TimeMs now = now_ms();
    const bool due = last_message == 0 || now - last_message >= kMinute || now < last_message;
    if (due) {
        last_message = now;
    }
    return due;
}

}  // namespace sg::ngx
