// The header filter, at the very top of the chain (HTTP_INIT_FILTER): reads and removes the control
// header, adds our cookies, keeps responses of admitted requests out of caches.
#pragma once

#include "nginx/ngx.h"

namespace sg::ngx {

ngx_int_t install_header_filter(ngx_conf_t* cf) noexcept;

}  // namespace sg::ngx
