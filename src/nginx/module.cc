// Table of contents: which function runs when. No logic here.
#include "nginx/ngx.h"

#include <algorithm>

#include "nginx/clock.h"
#include "nginx/conf.h"
#include "nginx/identity.h"
#include "nginx/pass.h"
#include "nginx/response.h"
#include "nginx/takeout.h"
#include "nginx/tier/withhold.h"
#include "nginx/variables.h"
#include "nginx/worker.h"

namespace sg::ngx {
namespace {

ngx_int_t add_handler(ngx_http_core_main_conf_t* core, ngx_http_phases phase,
                      ngx_http_handler_pt handler) noexcept {
    auto* const place =
        static_cast<ngx_http_handler_pt*>(ngx_array_push(&core->phases[phase].handlers));
    if (place == nullptr) {
        return NGX_ERROR;
    }
    *place = handler;
    return NGX_OK;
}

// The log phase runs its handlers in the order of the list, and nginx's own log module is first in
// it. A request that ends while its headers are still being read (client gone, timeout) comes
// through no other phase, and would be logged with its cookies.
ngx_int_t add_log_handler(ngx_http_core_main_conf_t* core, ngx_http_handler_pt handler) noexcept {
    ngx_array_t& handlers = core->phases[NGX_HTTP_LOG_PHASE].handlers;
    if (ngx_array_push(&handlers) == nullptr) {
        return NGX_ERROR;
    }
    auto* const first = static_cast<ngx_http_handler_pt*>(handlers.elts);
    std::copy_backward(first, first + handlers.nelts - 1, first + handlers.nelts);
    *first = handler;
    return NGX_OK;
}

// Requests that nginx refuses before any phase (497, 495, 494 ...) come to later phases only
// through an error_page of the server's own level; only for them the rewrite phases must take out
// as well.
bool has_early_error_pages(const ngx_http_core_main_conf_t* core) noexcept {
    auto** const servers = static_cast<ngx_http_core_srv_conf_t**>(core->servers.elts);
    return std::any_of(servers, servers + core->servers.nelts, [](const auto* server) {
        const auto* const level = static_cast<const ngx_http_core_loc_conf_t*>(
            server->ctx->loc_conf[ngx_http_core_module.ctx_index]);
        return level->error_pages != nullptr || level->post_action.data != nullptr;
    });
}

ngx_int_t add_take_out_handlers(ngx_http_core_main_conf_t* core) noexcept {
    if (has_early_error_pages(core) &&
        (add_handler(core, NGX_HTTP_SERVER_REWRITE_PHASE, take_out_handler) != NGX_OK ||
         add_handler(core, NGX_HTTP_REWRITE_PHASE, take_out_handler) != NGX_OK)) {
        return NGX_ERROR;
    }
    const bool added = add_handler(core, NGX_HTTP_POST_READ_PHASE, post_read_handler) == NGX_OK &&
                       add_log_handler(core, log_handler) == NGX_OK;
    return added ? NGX_OK : NGX_ERROR;
}

ngx_int_t preconfiguration(ngx_conf_t* cf) noexcept {
#if (SESSION_GUARD_TEST_CLOCK)
    map_test_file();
#endif
    return add_variables(cf);
}

ngx_int_t postconfiguration(ngx_conf_t* cf) noexcept {
    auto* const core = static_cast<ngx_http_core_main_conf_t*>(
        ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module));
    auto* const conf = static_cast<MainConf*>(
        ngx_http_conf_get_module_main_conf(cf, ngx_http_session_guard_module));
    const bool installed =
        add_take_out_handlers(core) == NGX_OK &&
        add_handler(core, NGX_HTTP_PREACCESS_PHASE, preaccess_handler) == NGX_OK &&
        add_handler(core, NGX_HTTP_ACCESS_PHASE, access_handler) == NGX_OK &&
        install_header_filter(cf) == NGX_OK && install_body_filter(*conf) == NGX_OK &&
        collect_identity_names(cf, *conf) == NGX_OK;
    return installed ? check_logins(cf) : NGX_ERROR;
}

ngx_http_module_t context = {
    preconfiguration,   postconfiguration, create_main_conf,     nullptr,
    create_server_conf, merge_server_conf, create_location_conf, merge_location_conf,
};

}  // namespace
}  // namespace sg::ngx

// C linkage and visibility come from the declaration in ngx.h.
ngx_module_t ngx_http_session_guard_module = {
    NGX_MODULE_V1,
    &sg::ngx::context,
    sg::ngx::commands,
    NGX_HTTP_MODULE,
    nullptr,                // init_master
    nullptr,                // init_module
    sg::ngx::start_worker,  // init_process
    nullptr,                // init_thread
    nullptr,                // exit_thread
    sg::ngx::stop_worker,   // exit_process
    nullptr,                // exit_master
    NGX_MODULE_V1_PADDING,
};
