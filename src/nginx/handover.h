// A worker's part in the handover between zones of two sizes: see core/handover.h.
#pragma once

#include "nginx/ngx.h"

namespace sg::ngx {

struct MainConf;

// init_process: from now on this worker looks into the old zones too; worker 0 empties them when
// the processes that know nothing younger are gone.
void start_handover(MainConf& conf, ngx_log_t* log) noexcept;

}  // namespace sg::ngx
