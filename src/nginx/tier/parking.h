// A request whose session this node does not know, or has not heard of for a while, waits in
// PREACCESS for the store's answer: for a moment, with its own timer, and without holding anything
// that a client who gives up would have to wait for.
#pragma once

#include "nginx/ngx.h"

#include "core/second_tier.h"
#include "nginx/request_ctx.h"

namespace sg::ngx {

// Asks about pass.token. NGX_AGAIN: the phase handler returns it and is called again when the
// answer is there; NGX_DECLINED: nobody could be asked, the answer is unknown; NGX_ERROR.
ngx_int_t park(ngx_http_request_t* r, Pass& pass) noexcept;

// The pass of this request that was parked and has not been decided yet; nullptr: none.
Pass* parked_pass(ngx_http_request_t* r, const RequestCtx& ctx) noexcept;
bool is_waiting(const Pass& pass) noexcept;

// What came of it, once, when is_waiting is over. With no_room the outcome has been written into
// the pass already.
Lesson take_lesson(Pass& pass) noexcept;

// What a session gets while the store cannot be asked: true while the copy here may be believed.
bool within_grace(const Pass& pass, TimeMs now) noexcept;

}  // namespace sg::ngx
