// Take-out: before anything else looks at a request, the session cookies of all realms and clients'
// own copies of identity headers leave it, in every server and whatever the location says.
#pragma once

#include "nginx/ngx.h"

#include "nginx/request_ctx.h"

namespace sg::ngx {

// Idempotent; returns the request's context, nullptr when memory is out or no realm is configured.
// Called in POST_READ, and again wherever no context is found: requests that nginx refuses before
// any phase (497, 495, 494 ...) can still reach an upstream or a log through error_page.
RequestCtx* take_out(ngx_http_request_t* r) noexcept;

// POST_READ: internal redirects start behind it, so no context can have been lost there.
ngx_int_t post_read_handler(ngx_http_request_t* r) noexcept;

// SERVER_REWRITE, REWRITE and LOG.
ngx_int_t take_out_handler(ngx_http_request_t* r) noexcept;

}  // namespace sg::ngx
