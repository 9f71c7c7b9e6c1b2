// X-Accel-Session: the upstream's word about the session, believed only under the policy of the
// location that created the upstream.
#pragma once

#include "nginx/ngx.h"

#include "nginx/request_ctx.h"

namespace sg::ngx {

inline constexpr std::string_view kControlHeader = "x-accel-session";

// The control headers in an upstream's own list: proxy_hide_header cannot hide them there, and they
// survive X-Accel-Redirect and error_page.
struct ControlLines {
    ngx_uint_t count = 0;
    std::string_view first;
};
ControlLines find_control(const ngx_http_upstream_t* upstream) noexcept;

// Executes the control header of the main request's present upstream, once. NGX_OK, or the HTTP
// status to answer instead (502 malformed, 503 no room or no random bytes, 403 login over plain
// http): nothing has been created then.
ngx_int_t read_control(ngx_http_request_t* r, RequestCtx& ctx) noexcept;

}  // namespace sg::ngx
