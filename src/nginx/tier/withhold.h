// An answer that says "logged in" or "logged out" is sent when the store has acknowledged it, or
// its time is up. A header filter cannot wait by itself: this one returns NGX_AGAIN, keeps the
// body, and goes on from an event. Position at the top of both filter chains (HTTP_INIT_FILTER) is
// what makes that safe; the pattern and its traps: docs/architecture.md.
#pragma once

#include "nginx/ngx.h"

#include "nginx/request_ctx.h"
#include "nginx/tier/store_queue.h"

namespace sg::ngx {

// While one lives, writes to a store are on behalf of this request's main response, which waits for
// them. Not nested.
class WriteScope {
  public:
    // `command`: the control header they are made for, if one is; outlives the scope.
    WriteScope(ngx_http_request_t* r, RequestCtx& ctx, std::string_view command = {}) noexcept;
    ~WriteScope();
    WriteScope(const WriteScope&) = delete;
    WriteScope& operator=(const WriteScope&) = delete;

    // A watcher for one more write of the request being served; nullptr: nobody waits.
    static Watcher* new_watcher() noexcept;
    static std::string_view command() noexcept;
};

// In the header filter of a main request with ctx.writes. NGX_DECLINED: nothing to wait for (any
// more). Otherwise what the filter must return; it is called again later.
ngx_int_t withhold(ngx_http_request_t* r, RequestCtx& ctx,
                   ngx_http_output_header_filter_pt header_filter) noexcept;

// Where some realm has a store.
ngx_int_t install_body_filter(const MainConf& conf) noexcept;

}  // namespace sg::ngx
