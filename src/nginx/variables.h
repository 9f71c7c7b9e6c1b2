// $session_*: what the configuration may use. Not cacheable: the same request asks again after an
// internal redirect and must hear the new location's answer.
#pragma once

#include "nginx/ngx.h"

namespace sg::ngx {

// preconfiguration
ngx_int_t add_variables(ngx_conf_t* cf) noexcept;

}  // namespace sg::ngx
