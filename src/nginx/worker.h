// What belongs to one worker process: its random pool, its share of the sweep.
#pragma once

#include "nginx/ngx.h"

#include "core/random_pool.h"

namespace sg::ngx {

// init_process: after the fork.
ngx_int_t start_worker(ngx_cycle_t* cycle) noexcept;

// RAND_bytes in batches; never shared between processes.
RandomPool& worker_random() noexcept;

// For messages that belong to no realm: true at most once a minute in this worker.
bool minute_has_passed_here() noexcept;

}  // namespace sg::ngx
