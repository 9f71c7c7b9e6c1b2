#include "nginx/tier/tidying.h"

#include "nginx/worker.h"

namespace sg::ngx {
namespace {

constexpr ngx_msec_t kInterval = 60'000;
constexpr std::size_t kAtOnce = 10'000;  // expired entries

}  // namespace

Tidying::~Tidying() {
    if (minute_.timer_set) {
        ngx_del_timer(&minute_);
    }
}

void Tidying::start(StoreLane& lane, ngx_log_t* log) noexcept {
    lane_ = &lane;
    minute_.handler = minute_event;
    minute_.data = this;
    minute_.log = log;
    minute_.cancelable = 1;  // must not hold back a graceful exit
    ngx_add_timer(&minute_, kInterval);
}

void Tidying::minute_event(ngx_event_t* event) noexcept {
    auto& tidying = *static_cast<Tidying*>(event->data);
    tidying.lane_->send(tidying);
    if (!is_exiting()) {
        ngx_add_timer(event, kInterval);
    }
}

void Tidying::run(Store& store, TimeMs now) noexcept {
    store.tidy(kAtOnce, now);
}

void Tidying::done() noexcept {}

}  // namespace sg::ngx
