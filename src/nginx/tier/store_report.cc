#include "nginx/tier/store_report.h"

#include <array>
#include <string_view>

#include "nginx/clock.h"
#include "nginx/conf.h"

namespace sg::ngx {
namespace {

// By StoreFault. Empty: the faults before it have been logged.
constexpr std::array<std::string_view, static_cast<std::size_t>(StoreFault::count_)> kFaultTexts{
    "it could not be reached",
    "it did not answer in time",
    "it gave an answer that is none",
    "an entry was written by a newer module",
    "an entry does not open: another key, or damaged",
    "an entry belongs to another session: mixed-up answers",
    "",
    "it is full",
};

}  // namespace

void report_failed_write(RealmConf& realm, ngx_log_t* log) noexcept {
    if (count_event(realm, Event::store_write_failed, now_ms())) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "session guard: realm \"%V\": a write to the store failed and is tried again "
                      "(%uL so far)",
                      &realm.name, event_count(realm, Event::store_write_failed));
    }
}

void report_dropped(RealmConf& realm, ngx_log_t* log) noexcept {
    if (count_event(realm, Event::store_write_dropped, now_ms())) {
        ngx_log_error(NGX_LOG_ALERT, log, 0,
                      "session guard: realm \"%V\": too many operations wait for the store, more "
                      "are dropped (%uL so far)",
                      &realm.name, event_count(realm, Event::store_write_dropped));
    }
}

void report_faults(RealmConf& realm, ngx_log_t* log) noexcept {
    for (std::size_t i = 0; i < kFaultTexts.size(); ++i) {
        const std::uint64_t count = realm.shared->store.faults[i].load(std::memory_order_relaxed);
        ZoneRoot::Tally& logged = realm.shared->faults_logged[i];
        if (count == logged.count.load(std::memory_order_relaxed) || kFaultTexts[i].empty() ||
            !logged.is_due(now_ms())) {
            continue;
        }
        logged.count.store(count, std::memory_order_relaxed);
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "session guard: realm \"%V\": store: %s (%uL times so far)", &realm.name,
                      kFaultTexts[i].data(), count);
    }
}

}  // namespace sg::ngx
