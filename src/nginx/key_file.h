// Reads `key_file` at configuration time, as the user who starts nginx.
#pragma once

#include "nginx/ngx.h"

namespace sg::ngx {

struct RealmConf;

// Opens, checks the opened file itself (a regular file nobody but its owner may access, so that no
// rename can slip another one in), parses into realm.key_file. Messages never contain key material.
ngx_int_t read_key_file(ngx_conf_t* cf, ngx_str_t path, RealmConf& realm) noexcept;

}  // namespace sg::ngx
