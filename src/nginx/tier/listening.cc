#include "nginx/tier/listening.h"

#include <algorithm>

#include "core/second_tier.h"
#include "nginx/clock.h"
#include "nginx/conf.h"
#include "nginx/worker.h"

namespace sg::ngx {
namespace {

constexpr ngx_msec_t kInterval = 100;

// A copy is believed for `revalidate` after the feed was last heard: twice in that time at least.
ngx_msec_t interval(const RealmConf& realm) noexcept {
    return std::min(kInterval, static_cast<ngx_msec_t>(realm.core.revalidate / 2));
}

}  // namespace

Listening::~Listening() {
    if (timer_.timer_set) {
        ngx_del_timer(&timer_);
    }
}

void Listening::start(StoreLane& lane, RealmConf& realm, ngx_log_t* log) noexcept {
    lane_ = &lane;
    realm_ = &realm;
    timer_.handler = timer_event;
    timer_.data = this;
    timer_.log = log;
    timer_.cancelable = 1;  // must not hold back a graceful exit
    ngx_add_timer(&timer_, interval(realm));
}

void Listening::timer_event(ngx_event_t* event) noexcept {
    auto& listening = *static_cast<Listening*>(event->data);
    if (is_exiting()) {
        return;
    }
    listening.set_out();
    ngx_add_timer(event, interval(*listening.realm_));
}

// The places are in shared memory: another worker goes on where this one stopped.
void Listening::set_out() noexcept {
    if (is_out_) {
        return;
    }
    is_out_ = true;
    heard_ = FeedHeard::unknown;
    count_ = 0;
    for (std::size_t i = 0; i < places_.size(); ++i) {
        const ZoneRoot::SharedPlace& shared = realm_->shared->places[i];
        places_[i] = {shared.epoch.load(), shared.next.load(), shared.chain.load()};
    }
    lane_->send(*this);
}

void Listening::run(Store& store, TimeMs now) noexcept {
    sent_ = now;
    heard_ = store.listen(places_, notes_, count_, now);
}

void Listening::done() noexcept {
    is_out_ = false;
    const TimeMs now = now_ms();
    for (std::size_t i = 0; i < count_; ++i) {
        hear_of(realm_->core, notes_[i], now);
    }
    for (std::size_t i = 0; i < places_.size(); ++i) {
        realm_->shared->places[i].epoch.store(places_[i].epoch);
        realm_->shared->places[i].next.store(places_[i].next);
        realm_->shared->places[i].chain.store(places_[i].chain);
    }
    FeedState& feed = realm_->shared->feed;
    switch (heard_) {
        case FeedHeard::whole:
            feed.followed(sent_);
            break;
        case FeedHeard::gap:
            count_event(*realm_, Event::feed_gap, now);
            feed.missed(now);
            break;
        case FeedHeard::more:
            set_out();
            break;
        case FeedHeard::unknown:
            break;
    }
}

}  // namespace sg::ngx
