// nginx's thread pools. An nginx built without --with-threads has none: then `store` is refused at
// nginx -t, and these stand in so that the module still builds.
#pragma once

#include "nginx/ngx.h"

#if (NGX_THREADS)

namespace sg::ngx {
inline constexpr bool kHasThreads = true;
}

#else

struct ngx_thread_task_s {
    void* ctx;
    void (*handler)(void* data, ngx_log_t* log);
    ngx_event_t event;
};

inline ngx_thread_pool_t* ngx_thread_pool_add(ngx_conf_t*, ngx_str_t*) noexcept {
    return nullptr;
}
inline ngx_int_t ngx_thread_task_post(ngx_thread_pool_t*, ngx_thread_task_t*) noexcept {
    return NGX_ERROR;
}

namespace sg::ngx {
inline constexpr bool kHasThreads = false;
}

#endif
