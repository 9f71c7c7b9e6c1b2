// What belongs to one worker process: its random pool, its share of the sweep.
#pragma once

#include "nginx/ngx.h"

#include "core/random_pool.h"

namespace sg::ngx {

// init_process: after the fork.
ngx_int_t start_worker(ngx_cycle_t* cycle) noexcept;

// exit_process: nginx has joined its threads.
void stop_worker(ngx_cycle_t* cycle) noexcept;

// The process has been told to go: no timer may keep it.
bool is_exiting() noexcept;

// RAND_bytes in batches; never shared between processes.
RandomPool& worker_random() noexcept;

// kWorkBytes of scratch for one call into core/lifecycle.h: a worker does one thing at a time, and
// so large a piece would leave holes in its heap.
ByteSpan worker_scratch() noexcept;

// For messages that belong to no realm: true at most once a minute in this worker.
bool minute_has_passed_here() noexcept;

}  // namespace sg::ngx
