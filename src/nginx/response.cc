#include "nginx/response.h"

#include "core/lifecycle.h"
#include "nginx/clock.h"
#include "nginx/control_command.h"
#include "nginx/response_headers.h"
#include "nginx/str.h"
#include "nginx/takeout.h"
#include "nginx/worker.h"

namespace sg::ngx {
namespace {

ngx_http_output_header_filter_pt
    next_header_filter;  // constant-initialised; set by postconfiguration

// A subrequest's control header is removed; a fragment may not log anybody in.
void warn_of_subrequest(ngx_http_request_t* r) noexcept {
    if (minute_has_passed_here()) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "session guard: X-Accel-Session of a subrequest removed");
    }
}

// NGX_OK, or the status that replaces the upstream's answer.
ngx_int_t handle_control(ngx_http_request_t* r, RequestCtx* ctx) noexcept {
    if (r->upstream == nullptr || find_control(r->upstream).count == 0) {
        return NGX_OK;
    }
    remove_response_header(r, kControlHeader);
    if (r != r->main) {
        warn_of_subrequest(r);
        return NGX_OK;
    }
    if (ctx == nullptr) {
        return NGX_OK;
    }
    const ngx_int_t rc = read_control(r, *ctx);
    if (rc != NGX_OK) {
        forget_response(r);
    }
    return rc;
}

// One user's page must not be served to another: not from proxy_cache, not from proxy_store.
void keep_out_of_cache(ngx_http_request_t* r, const RequestCtx& ctx) noexcept {
    if (r->upstream == nullptr) {
        return;
    }
    const Pass* const owner = upstream_owner(r, ctx);
    if (owner == nullptr || !owner->admitted || owner->conf->cache) {
        return;
    }
#if (NGX_HTTP_CACHE)
    r->upstream->cacheable = 0;
#endif
    r->upstream->store = 0;
}

ngx_int_t set_cookie(ngx_http_request_t* r, const OwedCookie& owed) noexcept {
    const std::string_view prefix = view(owed.realm->cookie_prefix);
    const std::string_view suffix = view(owed.realm->cookie_suffix);
    const std::span<char> text = characters(r->pool, prefix.size() + kTokenChars + suffix.size());
    if (text.empty()) {
        return NGX_ERROR;
    }
    prefix.copy(text.data(), prefix.size());
    format_token(owed.token, text.subspan(prefix.size()).first<kTokenChars>());
    suffix.copy(text.data() + prefix.size() + kTokenChars, suffix.size());
    return add_response_header(r, "Set-Cookie", {text.data(), text.size()});
}

ngx_int_t expire_cookie(ngx_http_request_t* r, const OwedCookie& owed) noexcept {
    const auto* const variants =
        static_cast<const CookieVariant*>(owed.realm->cookie_variants->elts);
    const ngx_uint_t count =
        owed.kind == OwedCookie::Kind::expire_variants ? owed.realm->cookie_variants->nelts : 1;
    for (ngx_uint_t i = 0; i < count; ++i) {
        if (add_response_header(r, "Set-Cookie", view(variants[i].expiry)) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    return NGX_OK;
}

// Pays one cookie, once. A session that was ended while this response was under way gets none: the
// browser must not be handed back what logout took away.
ngx_int_t pay_cookie(ngx_http_request_t* r, OwedCookie& owed, bool& paid) noexcept {
    const bool set = owed.kind == OwedCookie::Kind::set;
    if (owed.kind == OwedCookie::Kind::nothing || (set && !is_live(owed.realm->core, owed.token))) {
        return NGX_OK;
    }
    paid = true;
    const ngx_int_t rc = set ? set_cookie(r, owed) : expire_cookie(r, owed);
    owed.kind = OwedCookie::Kind::nothing;
    return rc;
}

ngx_int_t pay_cookies(ngx_http_request_t* r, const RequestCtx& ctx, bool& paid) noexcept {
    for (OwedCookie* owed = ctx.owed; owed != nullptr; owed = owed->next) {
        if (pay_cookie(r, *owed, paid) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    return NGX_OK;
}

bool answers_refusal(const ngx_http_request_t* r, const RequestCtx& ctx) noexcept {
    return ctx.refusal_code != 0 && (r->headers_out.status == ctx.refusal_code ||
                                     static_cast<ngx_uint_t>(r->err_status) == ctx.refusal_code);
}

ngx_int_t name_refusal(ngx_http_request_t* r, const RequestCtx& ctx) noexcept {
    if (ctx.refusal == Status::store_unavailable &&
        add_response_header(r, "Retry-After", "1") != NGX_OK) {
        return NGX_ERROR;
    }
    return add_response_header(r, "Session-Status", status_name(ctx.refusal));
}

ngx_int_t complete_main_response(ngx_http_request_t* r, RequestCtx& ctx) noexcept {
    bool cookies = false;
    if (pay_cookies(r, ctx, cookies) != NGX_OK) {
        return NGX_ERROR;
    }
    const bool refusal = answers_refusal(r, ctx);
    if (refusal && name_refusal(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }
    // error_page may have given the refusal another status: stored, it would outlive the login.
    return refusal || ctx.turned_away || cookies ? forbid_storing(r) : NGX_OK;
}

// An application must not set a cookie of ours by itself: what it sets is no session, and would
// push the user's own out of the browser.
void drop_upstreams_session_cookies(ngx_http_request_t* r) noexcept {
    if (r->upstream == nullptr) {
        return;
    }
    for (const RealmConf* const realm : main_conf(r)->all_realms()) {
        if (remove_set_cookies(r, view(realm->cookie_prefix)) > 0 && minute_has_passed_here()) {
            ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                          "session guard: realm \"%V\": an upstream's Set-Cookie for the session "
                          "cookie removed",
                          &realm->name);
        }
    }
}

// `return` and `rewrite ... redirect` answer in the rewrite phase, before any access check: said
// once a location, since the operator probably believes otherwise.
void warn_of_bypass(ngx_http_request_t* r, const RequestCtx& ctx) noexcept {
    LocationConf* const conf = location_conf(r);
    if ((ctx.newest != nullptr && ctx.newest->conf == conf) || conf->realm == nullptr ||
        conf->warned_bypass || conf->mode != static_cast<ngx_uint_t>(SessionMode::required) ||
        r->headers_out.status >= NGX_HTTP_BAD_REQUEST || r->err_status >= NGX_HTTP_BAD_REQUEST ||
        (conf->core->auto_redirect && r->uri.len + 1 == conf->core->name.len)) {
        return;
    }
    const Pass* const pass = current_pass(r, ctx);
    if (pass == nullptr || pass->conf != conf) {
        conf->warned_bypass = 1;
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "session guard: location \"%V\" answered before the session was checked "
                      "(return, rewrite); see \"What is not enforced\" in the README",
                      &conf->core->name);
    }
}

ngx_int_t header_filter(ngx_http_request_t* r) noexcept {
    RequestCtx* const ctx = r == r->main ? take_out(r) : find_request_ctx(r);
    const ngx_int_t rc = handle_control(r, ctx);
    if (rc != NGX_OK) {
        return rc;
    }
    if (ctx == nullptr) {
        return next_header_filter(r);
    }
    keep_out_of_cache(r, *ctx);
    drop_upstreams_session_cookies(r);
    if (r != r->main) {
        return next_header_filter(r);
    }
    warn_of_bypass(r, *ctx);
    if (complete_main_response(r, *ctx) != NGX_OK) {
        return NGX_ERROR;
    }
    const ngx_int_t sent = next_header_filter(r);
    for (const OwedCookie* owed = ctx->owed; owed != nullptr; owed = owed->next) {
        remove_set_cookies(r, view(owed->realm->cookie_prefix));
    }
    return sent;
}

}  // namespace

ngx_int_t install_header_filter(ngx_conf_t*) noexcept {
    next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = header_filter;
    return NGX_OK;
}

}  // namespace sg::ngx
