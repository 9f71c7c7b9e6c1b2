#include "nginx/long_lived/registry.h"

#include "nginx/long_lived/watch.h"

namespace sg::ngx {
namespace {

// A request is looked at when it was not for kPause. So many at a time that ten thousand
// connections do not hold up the rest: these get their turn in between.
constexpr ngx_msec_t kInterval = 100;
constexpr ngx_msec_t kPause = 500;
constexpr int kMostAtATime = 256;
constexpr ngx_msec_t kShortInterval = 1;

// Process-wide by nature: one event loop, one thread. Constant-initialised.
constinit ngx_queue_t requests{&requests, &requests};

ngx_event_t timer;

RequestCtx& ctx_at(ngx_queue_t* place) noexcept {
    return *ngx_queue_data(place, RequestCtx, watched.place);
}

// Whether a request was due, and has been looked at.
bool look_at_first() noexcept {
    if (ngx_queue_empty(&requests)) {
        return false;
    }
    RequestCtx& ctx = ctx_at(ngx_queue_head(&requests));
    if (ngx_current_msec - ctx.watched.looked_at < kPause) {
        return false;  // the others were looked at later
    }
    ngx_queue_remove(&ctx.watched.place);
    ngx_queue_insert_tail(&requests, &ctx.watched.place);
    ctx.watched.looked_at = ngx_current_msec;
    look_at(ctx);  // any request may be gone now
    return true;
}

void look(ngx_event_t* event) noexcept {
    int left = kMostAtATime;
    while (left > 0 && look_at_first()) {
        --left;
    }
    if (!ngx_queue_empty(&requests)) {
        ngx_add_timer(event, left > 0 ? kInterval : kShortInterval);
    }
}

[[gnu::noinline, gnu::cold]] void start_timer() noexcept {
    timer.handler = look;
    timer.data = &timer;  // something: debug logs look into it
    timer.log = ngx_cycle->log;
    timer.cancelable = 1;  // must not hold back a graceful exit
    ngx_add_timer(&timer, kInterval);
}

}  // namespace

void watch(RequestCtx& ctx) noexcept {
    Watched& watched = ctx.watched;
    if (is_watched(watched)) {
        return;
    }
    watched.looked_at = ngx_current_msec;
    ngx_queue_insert_tail(&requests, &watched.place);
    if (!timer.timer_set) {
        start_timer();
    }
}

}  // namespace sg::ngx
