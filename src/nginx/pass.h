// A pass: one request's entry into one location. PREACCESS finds out who it is (so that limit_req
// and friends can use the variables), ACCESS decides whether it may; subrequests, which skip
// ACCESS, are decided in PREACCESS by their own location.
#pragma once

#include "nginx/ngx.h"

#include "core/enforce.h"

namespace sg::ngx {

struct RealmConf;

ngx_int_t preaccess_handler(ngx_http_request_t* r) noexcept;

ngx_int_t access_handler(ngx_http_request_t* r) noexcept;

// The user of this session has just been seen: in the zone, and now and then in the store.
void note_activity(const RealmConf& realm, const Session& session, TimeMs now) noexcept;

}  // namespace sg::ngx
