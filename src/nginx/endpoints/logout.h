// session_logout [return=uri] [clear=cache,storage,cookies]: ends the caller's session.
#pragma once

#include "nginx/ngx.h"

namespace sg::ngx {

char* session_logout(ngx_conf_t* cf, ngx_command_t* cmd, void* conf) noexcept;

}  // namespace sg::ngx
