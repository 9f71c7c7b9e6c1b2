// Whether a request that lasts may go on: its session, looked at again and again.
#pragma once

#include "nginx/ngx.h"

#include "nginx/request_ctx.h"

namespace sg::ngx {

// Looks at the sessions this request acts as, and cuts it off if one of them is not good any more.
// The request may be gone afterwards.
void look_at(RequestCtx& ctx) noexcept;

}  // namespace sg::ngx
