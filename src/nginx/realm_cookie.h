// The realm's `cookie` and `origin` directives.
#pragma once

#include "nginx/ngx.h"

namespace sg::ngx {

struct MainConf;
struct RealmConf;

// cookie name [path=] [domain=] [samesite=] [secure=] [httponly=] [formerly=path[@domain]]...
char* parse_realm_cookie(ngx_conf_t* cf, RealmConf& realm) noexcept;

// Checks, warns, and writes the texts that responses will carry; also for the default cookie.
ngx_int_t finish_realm_cookie(ngx_conf_t* cf, RealmConf& realm) noexcept;

// Two realms under one cookie name could not tell their tokens apart.
char* check_cookie_clash(ngx_conf_t* cf, const MainConf& main, const RealmConf& realm) noexcept;

// origin https://host[:port] ...
char* parse_realm_origins(ngx_conf_t* cf, RealmConf& realm) noexcept;

}  // namespace sg::ngx
