#pragma once

#include "nginx/ngx.h"

namespace sg::ngx {

// session_long_lived [activity=none|client_bytes] [cut=on|off]
char* session_long_lived(ngx_conf_t* cf, ngx_command_t* cmd, void* conf) noexcept;

}  // namespace sg::ngx
