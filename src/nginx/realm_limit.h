// limit_sessions n [role=name] [evict=oldest|idlest|deny], in session_realm.
#pragma once

#include "nginx/ngx.h"

namespace sg::ngx {

struct RealmConf;

// Adds one line of it. kConfError: logged; other texts end the directive.
char* parse_session_limit(ngx_conf_t* cf, RealmConf& realm) noexcept;

}  // namespace sg::ngx
