// session_info: JSON about the caller's session, for pages that show who is logged in and for how
// long.
#pragma once

#include "nginx/ngx.h"

namespace sg::ngx {

char* session_info(ngx_conf_t* cf, ngx_command_t* cmd, void* conf) noexcept;

}  // namespace sg::ngx
