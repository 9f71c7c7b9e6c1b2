#include "nginx/long_lived/registry.h"

#include "nginx/long_lived/watch.h"

namespace sg::ngx {
namespace {

// A request is looked at when it was not for kPause; how many at a time is bounded, so that ten
// thousand connections do not hold up the rest. All together: in kPause + 4 * kInterval at most.
constexpr ngx_msec_t kInterval = 100;
constexpr ngx_msec_t kPause = 300;
constexpr std::size_t kShare = 3;  // of all, in one interval
constexpr std::size_t kLeast = 16;

// Process-wide by nature: one event loop, one thread. Constant-initialised.
constinit ngx_queue_t requests{&requests, &requests};
constinit std::size_t count = 0;

ngx_event_t timer;

RequestCtx& ctx_at(ngx_queue_t* place) noexcept {
    return *ngx_queue_data(place, RequestCtx, watched.place);
}

void look(ngx_event_t* event) noexcept {
    for (std::size_t left = count / kShare + kLeast; left > 0 && count > 0; --left) {
        RequestCtx& ctx = ctx_at(ngx_queue_head(&requests));
        if (ngx_current_msec - ctx.watched.looked_at < kPause) {
            break;  // so have the others been
        }
        ngx_queue_remove(&ctx.watched.place);
        ngx_queue_insert_tail(&requests, &ctx.watched.place);
        ctx.watched.looked_at = ngx_current_msec;
        look_at(ctx);  // any request may be gone now
    }
    if (count > 0) {
        ngx_add_timer(event, kInterval);
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
    ++count;
    if (!timer.timer_set) {
        start_timer();
    }
}

void stop_watching(Watched& watched) noexcept {
    if (!is_watched(watched)) {
        return;
    }
    ngx_queue_remove(&watched.place);
    watched.place.next = nullptr;
    --count;
}

}  // namespace sg::ngx
