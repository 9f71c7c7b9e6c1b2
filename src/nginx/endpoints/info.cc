#include "nginx/endpoints/info.h"

#include "json/session_json.h"
#include "nginx/clock.h"
#include "nginx/conf.h"
#include "nginx/conf_text.h"
#include "nginx/refusal.h"
#include "nginx/request_ctx.h"
#include "nginx/response_headers.h"

namespace sg::ngx {
namespace {

ngx_int_t send_json(ngx_http_request_t* r, std::string_view body) noexcept {
    ngx_str_t type = ngx_string("application/json");
    ngx_http_complex_value_t value;
    ngx_memzero(&value, sizeof value);
    value.value = str(body);
    return ngx_http_send_response(r, NGX_HTTP_OK, &type, &value);
}

// After the touch of this very request, so that a POST sees what it has gained.
TimeMs last_seen_now(const RealmConf& realm, const Session& session) noexcept {
    SessionView view;
    std::array<std::uint8_t, kTypicalRecordBytes> record;
    const FindResult found = look_up(realm.core, session.slot.token.handle, view, record);
    const bool there = found == FindResult::found || found == FindResult::too_small;
    return there && view.superseded_until == 0 ? view.last_seen : session.ages.last_seen;
}

ngx_int_t describe(ngx_http_request_t* r, const RealmConf& realm, const Session& session) noexcept {
    const TimeMs now = now_ms();
    Ages ages = session.ages;
    ages.last_seen = last_seen_now(realm, session);
    const SessionInfo info{
        .user = session.record.user,
        .roles = session.record.roles,
        .level = static_cast<unsigned>(session.record.level),
        .idle_left_s = idle_left(ages, session.timeouts, now) / kSecond,
        .absolute_left_s = absolute_left(ages, session.timeouts, now) / kSecond,
        .auth_age_s = age(session.record.authenticated, now) / kSecond,
    };
    const std::span<char> text = characters(r->pool, session_json_room(info));
    if (text.empty()) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    const std::size_t size = write_session_json(info, text);
    return size > 0 ? send_json(r, {text.data(), size}) : NGX_HTTP_INTERNAL_SERVER_ERROR;
}

ngx_int_t info_handler(ngx_http_request_t* r) noexcept {
    if ((r->method & (NGX_HTTP_GET | NGX_HTTP_HEAD | NGX_HTTP_POST)) == 0) {
        return add_response_header(r, "Allow", "GET, HEAD, POST") == NGX_OK
                   ? NGX_HTTP_NOT_ALLOWED
                   : NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    RequestCtx* const ctx = find_request_ctx(r);
    const Pass* const pass = ctx != nullptr ? current_pass(r, *ctx) : nullptr;
    if (pass == nullptr || forbid_storing(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (!pass->admitted) {
        if (r == r->main) {
            ctx->refusal = pass->status;
            ctx->refusal_code = http_status(pass->status);
        }
        return send_problem(r, pass->status, http_status(pass->status));
    }
    return describe(r, *pass->conf->realm, pass->session);
}

}  // namespace

char* session_info(ngx_conf_t* cf, ngx_command_t*, void* data) noexcept {
    auto& conf = *static_cast<LocationConf*>(data);
    if (conf.is_info) {
        return is_duplicate();
    }
    if (conf.is_logout || conf.status_from != nullptr) {
        return const_cast<char*>("is incompatible with \"session_logout\" and \"session_status\"");
    }
    conf.is_info = 1;
    return install_handler(cf, conf, info_handler);
}

}  // namespace sg::ngx
