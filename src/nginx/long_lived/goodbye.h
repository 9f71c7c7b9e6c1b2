// The end of a connection whose session has ended, such that the client notices.
#pragma once

#include "nginx/ngx.h"

#include "core/verdict.h"
#include "nginx/request_ctx.h"

namespace sg::ngx {

struct LongLived;

// From the header filter, for a 101: a WebSocket's frames are followed from its first one on, so
// that a close frame never lands inside another.
[[gnu::cold]] void follow_frames(ngx_http_request_t* r, RequestCtx& ctx) noexcept;
void stop_following(LongLived& all) noexcept;

// Ends the request now, whatever state it is in, and its connection (HTTP/2: its stream) with it: a
// WebSocket with close code 1008 where no frame is half sent, everything else so that what the
// client has got is known to be incomplete. The request may be gone afterwards.
void cut_off(ngx_http_request_t* r, RequestCtx& ctx, Status why) noexcept;

}  // namespace sg::ngx
