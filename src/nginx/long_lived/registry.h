// The worker's list of requests that act as a session, the one looked at longest ago first. One
// timer walks it, while there are any: so every request is looked at within a second, however long
// it lasts, and a short one only comes and goes.
#pragma once

#include "nginx/ngx.h"

#include "nginx/request_ctx.h"

namespace sg::ngx {

// From here on the request is looked at (watch.h) until its pool goes.
void watch(RequestCtx& ctx) noexcept;

[[gnu::always_inline]] inline bool is_watched(const Watched& watched) noexcept {
    return watched.place.next != nullptr;
}

inline void stop_watching(Watched& watched) noexcept {
    if (is_watched(watched)) {
        ngx_queue_remove(&watched.place);
        watched.place.next = nullptr;
    }
}

}  // namespace sg::ngx
