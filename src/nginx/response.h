// The header filter, at the very top of the chain (HTTP_INIT_FILTER): reads and removes the control
// header, adds our cookies, keeps responses of admitted requests out of caches.
#pragma once

#include "nginx/ngx.h"

namespace sg::ngx {

ngx_int_t install_header_filter(ngx_conf_t* cf) noexcept;

// Log phase, first: what is logged is what upstreams saw, and no cookie that was set.
ngx_int_t log_handler(ngx_http_request_t* r) noexcept;

}  // namespace sg::ngx
