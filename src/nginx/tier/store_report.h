// What the error log hears of a store: each kind of trouble at most once a minute on this node.
#pragma once

#include "nginx/ngx.h"

namespace sg::ngx {

struct RealmConf;

// A write that is tried again; one that is not, because too many wait already.
void report_failed_write(RealmConf& realm, ngx_log_t* log) noexcept;
void report_dropped(RealmConf& realm, ngx_log_t* log) noexcept;

// The faults that threads have counted since they were last looked at.
void report_faults(RealmConf& realm, ngx_log_t* log) noexcept;

}  // namespace sg::ngx
