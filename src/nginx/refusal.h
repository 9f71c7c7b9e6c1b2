// How a request is turned away: one verdict, one reason, one switch.
#pragma once

#include "nginx/ngx.h"

#include "nginx/request_ctx.h"

namespace sg::ngx {

// Records the refusal and answers it: a page navigation goes to session_login, everything else gets
// problem details (RFC 9457) or, where error_page names the status, the operator's page. Returns
// what a PREACCESS or ACCESS handler has to return.
ngx_int_t refuse(ngx_http_request_t* r, RequestCtx& ctx, Pass& pass, Status status) noexcept;

// Problem details for `status` as a complete response; for content handlers. `code` is the HTTP
// status.
ngx_int_t send_problem(ngx_http_request_t* r, Status status, ngx_uint_t code) noexcept;

}  // namespace sg::ngx
