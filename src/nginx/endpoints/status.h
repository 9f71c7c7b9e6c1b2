// session_status: JSON about all realms: zone, events, store. For operators; the module itself
// checks who asks.
#pragma once

#include "nginx/ngx.h"

namespace sg::ngx {

// session_status [from=unix:,127.0.0.0/8,::1]
char* session_status(ngx_conf_t* cf, ngx_command_t* cmd, void* conf) noexcept;

}  // namespace sg::ngx
