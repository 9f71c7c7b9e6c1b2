// What is kept of a request once it has turned out to last: made when it is first looked at, or
// when its connection becomes a WebSocket; in its pool, and undone by the pool's cleanup.
#pragma once

#include "nginx/ngx.h"

#include "core/second_tier.h"
#include "core/web/websocket.h"
#include "nginx/request_ctx.h"
#include "nginx/tier/store_lane.h"

namespace sg::ngx {

struct LongLived {
    RequestCtx* ctx = nullptr;
    ngx_http_request_t* r = nullptr;  // the main one
    RealmConf* counted = nullptr;     // as one of this realm's connections

    off_t heard = 0;  // bytes of the client, when last looked at

    // The store is asked (question.cc) about one of its passes.
    bool asks = false;
    Watcher watcher;
    const Pass* pass = nullptr;
    Token token;
    bool is_successor = false;
    std::size_t next_key = 0;  // of a successor: the key to look under when it is not there
    ngx_msec_t asked_at = 0;
    ngx_msec_t pause_until = 0;  // nobody knew: not before that time again
    TimeMs confirmed = 0;        // when the store last said that the session is good

    // A WebSocket's bytes to the client (goodbye.cc).
    FrameBorder border;
    ngx_send_pt send = nullptr;  // the connection's own
    bool is_stuck = false;       // the last bytes are half with the TLS library
};

// What there is, or a new one; nullptr: out of memory.
LongLived* long_lived(ngx_http_request_t* r, RequestCtx& ctx) noexcept;

// Bytes that have come from the client so far, as far as nginx counts them: of the request and its
// body, and behind an upgrade those that were passed on.
off_t heard_of_client(const ngx_http_request_t* r) noexcept;

// The realm's connections that last, in all workers; and what a worker finds of its predecessor.
std::uint64_t count_long_lived(const RealmConf& realm) noexcept;
void forget_predecessor(const RealmConf& realm) noexcept;

}  // namespace sg::ngx
