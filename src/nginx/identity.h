// `identity Header=$variable`: who the user is, told to upstreams by the proxy alone.
#pragma once

#include "nginx/ngx.h"

#include <string_view>

namespace sg::ngx {

struct MainConf;
struct Pass;
struct RealmConf;

// Parses one `identity` line; several add up.
char* parse_identity_headers(ngx_conf_t* cf, RealmConf& realm) noexcept;

// Collects the names of all realms once the configuration is read.
ngx_int_t collect_identity_names(ngx_conf_t* cf, MainConf& conf) noexcept;

// True for any spelling of an identity header of any realm: case is ignored, and every byte that is
// neither letter nor digit is taken for "-", because CGI-style upstreams cannot tell them apart
// (X-User, X_User, x.user all become HTTP_X_USER somewhere).
bool is_identity_name(const MainConf& conf, std::string_view name) noexcept;

// Puts the headers of an admitted request into its headers_in.headers (a fresh list).
ngx_int_t set_identity(ngx_http_request_t* r, const RealmConf& realm) noexcept;

}  // namespace sg::ngx
