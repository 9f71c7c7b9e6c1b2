#include "nginx/response.h"

#include "core/lifecycle.h"
#include "core/rotation.h"
#include "nginx/clock.h"
#include "nginx/control_command.h"
#include "nginx/long_lived/goodbye.h"
#include "nginx/response_headers.h"
#include "nginx/str.h"
#include "nginx/takeout.h"
#include "nginx/tier/withhold.h"
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

// Honoured until the header filters have run (ngx_http_upstream.c).
void never_store(ngx_http_upstream_t* upstream) noexcept {
#if (NGX_HTTP_CACHE)
    upstream->cacheable = 0;
#endif
    upstream->store = 0;
}

// NGX_OK, or the status that replaces the upstream's answer.
ngx_int_t handle_control(ngx_http_request_t* r, RequestCtx* ctx) noexcept {
    if (r->upstream == nullptr || find_control(r->upstream).count == 0) {
        return NGX_OK;
    }
    remove_response_header(r, kControlHeader);
    if (r != r->main) {
        warn_of_subrequest(r);
        never_store(r->upstream);  // it names a user
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
    if (owner != nullptr && owner->admitted && !owner->conf->cache) {
        never_store(r->upstream);
    }
}

ngx_int_t set_cookie(ngx_http_request_t* r, const OwedCookie& owed) noexcept {
    const std::string_view prefix = view(owed.realm->cookie_prefix);
    const bool is_first = owed.kind == OwedCookie::Kind::set_first;
    const std::string_view suffix =
        view(is_first ? owed.realm->first_cookie_suffix : owed.realm->cookie_suffix);
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

// A newer login or token has taken the place of what came with the request: the browser's cookie is
// another by now, and not ours to expire.
bool was_replaced(const RequestCtx& ctx, const RealmConf& realm) noexcept {
    const Presented* const presented = find_presented(ctx, realm);
    const std::size_t count = presented != nullptr ? presented->candidates.count : 0;
    for (std::size_t i = 0; i < count; ++i) {
        const auto token = parse_token(presented->candidates.values[i]);
        if (token && is_replaced(realm.core, *token, now_ms())) {
            return true;
        }
    }
    return false;
}

// Pays one cookie. A session that was ended while this response was under way gets none: the
// browser must not be handed back what logout took away.
ngx_int_t pay_cookie(ngx_http_request_t* r, const RequestCtx& ctx, const OwedCookie& owed,
                     bool& paid) noexcept {
    const bool set = owed.kind == OwedCookie::Kind::set || owed.kind == OwedCookie::Kind::set_first;
    const bool late = set ? !is_live(owed.realm->core, owed.token, now_ms())
                          : owed.kind == OwedCookie::Kind::expire && was_replaced(ctx, *owed.realm);
    if (owed.kind == OwedCookie::Kind::nothing || late) {
        return NGX_OK;
    }
    paid = true;
    remove_set_cookies(r, view(owed.realm->cookie_prefix));  // of a header that was given up
    return set ? set_cookie(r, owed) : expire_cookie(r, owed);
}

bool owes_cookie(const RequestCtx& ctx, const RealmConf& realm) noexcept {
    for (const OwedCookie* owed = ctx.owed; owed != nullptr; owed = owed->next) {
        if (owed->realm == &realm && owed->kind != OwedCookie::Kind::nothing) {
            return true;
        }
    }
    return false;
}

// What is due is looked up now: the session may have ended, or changed its handle, and another
// response may have been quicker. It is not noted until it comes back: a lost response does no
// harm.
[[gnu::noinline, gnu::cold]] ngx_int_t owe_rotated(ngx_http_request_t* r,
                                                   RequestCtx& ctx) noexcept {
    RealmConf& realm = *ctx.rotating->conf->realm;
    if (ctx.refusal_code != 0 || owes_cookie(ctx, realm)) {
        return NGX_OK;
    }
    const auto token = token_to_hand_out(realm.core, ctx.rotating->token, now_ms());
    if (!token) {
        return NGX_OK;
    }
    if (owes_second_cookie(ctx.rotating->session.record)) {
        note_second_cookie(realm.core, *token, now_ms(), worker_scratch());
    }
    return owe_cookie(r, ctx, realm, OwedCookie::Kind::set, *token);
}

ngx_int_t pay_cookies(ngx_http_request_t* r, const RequestCtx& ctx, bool& paid) noexcept {
    for (const OwedCookie* owed = ctx.owed; owed != nullptr; owed = owed->next) {
        if (pay_cookie(r, ctx, *owed, paid) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    return NGX_OK;
}

bool answers_refusal(ngx_http_request_t* r, const RequestCtx& ctx) noexcept {
    if (ctx.refusal_code == 0 || (r->headers_out.status != ctx.refusal_code &&
                                  static_cast<ngx_uint_t>(r->err_status) != ctx.refusal_code)) {
        return false;
    }
    // Under `satisfy any` another condition may have let the request in: then it is the upstream's
    // own status.
    const Pass* const pass = current_pass(r, ctx);
    return pass == nullptr || !pass->refused || upstream_owner(r, ctx) != pass;
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
    if (ctx.rotating != nullptr && owe_rotated(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }
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

// What has been sent is paid, and is nobody else's business: $sent_http_set_cookie forgets it too,
// if something (add_header, map) has looked at it in between.
[[gnu::noinline]] void hide_cookies(ngx_http_request_t* r, const RequestCtx& ctx) noexcept {
    for (OwedCookie* owed = ctx.owed; owed != nullptr; owed = owed->next) {
        remove_set_cookies(r, view(owed->realm->cookie_prefix));
        owed->kind = OwedCookie::Kind::nothing;
    }
    ngx_http_variable_value_t& seen = r->variables[main_conf(r)->sent_cookie_index];
    seen.valid = 0;
    seen.not_found = 0;
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
    if (ctx->writes != nullptr) {
        // It calls again when there is nothing left to wait for.
        const ngx_int_t waiting = withhold(r, *ctx, header_filter);
        if (waiting != NGX_DECLINED) {
            return waiting;
        }
    }
    warn_of_bypass(r, *ctx);
    if (r->headers_out.status == NGX_HTTP_SWITCHING_PROTOCOLS) [[unlikely]] {
        follow_frames(r, *ctx);
    }
    if (complete_main_response(r, *ctx) != NGX_OK) {
        return NGX_ERROR;
    }
    const ngx_int_t sent = next_header_filter(r);
    // Not sent yet: a filter keeps the header until it has seen the body (xslt, image_filter), or
    // gave it up for another answer (412, 416), which then owes the same cookies.
    if (r->header_sent && ctx->owed != nullptr) {
        hide_cookies(r, *ctx);
    }
    return sent;
}

}  // namespace

ngx_int_t log_handler(ngx_http_request_t* r) noexcept {
    const ngx_int_t rc = take_out_handler(r);
    const RequestCtx* const ctx = r == r->main ? find_request_ctx(r) : nullptr;
    if (ctx != nullptr && ctx->owed != nullptr) {
        hide_cookies(r, *ctx);
    }
    return rc;
}

ngx_int_t install_header_filter(ngx_conf_t* cf) noexcept {
    auto* const conf = static_cast<MainConf*>(
        ngx_http_conf_get_module_main_conf(cf, ngx_http_session_guard_module));
    ngx_str_t name = ngx_string("sent_http_set_cookie");
    conf->sent_cookie_index = ngx_http_get_variable_index(cf, &name);
    if (conf->sent_cookie_index == NGX_ERROR) {
        return NGX_ERROR;
    }
    next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = header_filter;
    return NGX_OK;
}

}  // namespace sg::ngx
