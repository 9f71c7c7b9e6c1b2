#include "nginx/refusal.h"

#include "core/web/return_url.h"
#include "nginx/fetch_metadata.h"
#include "nginx/response_headers.h"
#include "nginx/str.h"

namespace sg::ngx {
namespace {

// The same condition as in ngx_http_special_response_handler (ngx_http_special_response.c).
bool error_page_answers(ngx_http_request_t* r, ngx_uint_t code) noexcept {
    const auto* const core = static_cast<const ngx_http_core_loc_conf_t*>(
        ngx_http_get_module_loc_conf(r, ngx_http_core_module));
    if (r->error_page || core->error_pages == nullptr || r->uri_changes == 0) {
        return false;
    }
    const auto* const pages = static_cast<const ngx_http_err_page_t*>(core->error_pages->elts);
    for (ngx_uint_t i = 0; i < core->error_pages->nelts; ++i) {
        if (static_cast<ngx_uint_t>(pages[i].status) == code) {
            return true;
        }
    }
    return false;
}

bool satisfy_any(ngx_http_request_t* r) noexcept {
    const auto* const core = static_cast<const ngx_http_core_loc_conf_t*>(
        ngx_http_get_module_loc_conf(r, ngx_http_core_module));
    return core->satisfy == NGX_HTTP_SATISFY_ANY;
}

ngx_int_t send_text(ngx_http_request_t* r, ngx_uint_t code, std::string_view type,
                    std::string_view body) noexcept {
    ngx_str_t content_type = str(type);
    ngx_http_complex_value_t value;
    ngx_memzero(&value, sizeof value);
    value.value = str(body);
    return ngx_http_send_response(r, code, &content_type, &value);
}

// For a browser that wanted a page, where no session_login says where to go.
ngx_int_t send_page(ngx_http_request_t* r, Status status, ngx_uint_t code) noexcept {
    constexpr std::string_view kPage =
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta "
        "charset=\"utf-8\"><title>%s</title></head>\n"
        "<body><h1>%s</h1><p>Please log in again to go on.</p></body></html>\n";
    const std::string_view title = status_title(status);
    const std::span<char> text = characters(r->pool, kPage.size() + 2 * title.size());
    if (text.empty()) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    auto* const begin = reinterpret_cast<u_char*>(text.data());
    const u_char* const end =
        ngx_snprintf(begin, text.size(), kPage.data(), title.data(), title.data());
    return send_text(r, code, "text/html; charset=utf-8",
                     {text.data(), static_cast<std::size_t>(end - begin)});
}

// session_login?return=...&reason=..., with an own-origin path only: the request line may be a
// protocol-relative "//evil.example/".
std::string_view login_location(ngx_http_request_t* r, const ngx_str_t& login,
                                Status status) noexcept {
    std::string_view target = view(r->unparsed_uri);
    if (r->method != NGX_HTTP_GET || !is_own_origin_path(target)) {
        target = "/";
    }
    const std::string_view reason = status_name(status);
    const std::string_view base = view(login);
    const std::span<char> text =
        characters(r->pool, base.size() + 3 * target.size() + reason.size() + 24);
    if (text.empty()) {
        return {};
    }
    std::size_t used = base.copy(text.data(), base.size());
    const auto put = [&](std::string_view piece) {
        used += piece.copy(text.data() + used, piece.size());
    };
    put(base.find('?') == std::string_view::npos ? "?return=" : "&return=");
    used += percent_encode(target, text.subspan(used));
    put("&reason=");
    put(reason);
    return {text.data(), used};
}

// Sent as it is (not as headers_out.location): nginx would make it absolute with its own idea of
// host and port, which is wrong behind another proxy. nginx's own body for 303 follows.
ngx_int_t redirect_to_login(ngx_http_request_t* r, const ngx_str_t& login, Status status) noexcept {
    const std::string_view location = login_location(r, login, status);
    if (location.data() == nullptr || add_response_header(r, "Location", location) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    return NGX_HTTP_SEE_OTHER;
}

enum class Answer : std::uint8_t { login, page, problem };

Answer choose_answer(ngx_http_request_t* r, const LocationConf& conf, ngx_uint_t code) noexcept {
    const bool get = (r->method & (NGX_HTTP_GET | NGX_HTTP_HEAD)) != 0;
    if (code != NGX_HTTP_UNAUTHORIZED || !get || !is_navigation(r)) {
        return Answer::problem;
    }
    return conf.login.data != nullptr ? Answer::login : Answer::page;
}

ngx_int_t send_answer(ngx_http_request_t* r, const LocationConf& conf, Answer answer, Status status,
                      ngx_uint_t code) noexcept {
    switch (answer) {
        case Answer::login:
            return redirect_to_login(r, conf.login, status);
        case Answer::page:
            return send_page(r, status, code);
        case Answer::problem:
            break;
    }
    return send_problem(r, status, code);
}

// Only here, and at logout, the browser is told to drop its cookie: a late answer to an old XHR
// must not delete the cookie of a newer login.
ngx_int_t owe_expiry(ngx_http_request_t* r, RequestCtx& ctx, const Pass& pass,
                     Status status) noexcept {
    RealmConf& realm = *pass.conf->realm;
    if (!may_expire_cookie(status) || find_presented(ctx, realm) == nullptr ||
        !is_document_navigation(r)) {
        return NGX_OK;
    }
    // Two sessions at once come from a cookie set under other attributes: all variants go, or the
    // user would stay locked out.
    const auto kind =
        status == Status::ambiguous ? OwedCookie::Kind::expire_variants : OwedCookie::Kind::expire;
    return owe_cookie(r, ctx, realm, kind);
}

}  // namespace

ngx_int_t send_problem(ngx_http_request_t* r, Status status, ngx_uint_t code) noexcept {
    const std::string_view title = status_title(status);
    const std::string_view reason = status_name(status);
    constexpr std::string_view kBody =
        "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%ui,\"reason\":\"%s\"}\n";
    const std::span<char> text = characters(r->pool, kBody.size() + title.size() + reason.size());
    if (text.empty()) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    auto* const begin = reinterpret_cast<u_char*>(text.data());
    const u_char* const end =
        ngx_snprintf(begin, text.size(), kBody.data(), title.data(), code, reason.data());
    return send_text(r, code, "application/problem+json",
                     {text.data(), static_cast<std::size_t>(end - begin)});
}

ngx_int_t refuse(ngx_http_request_t* r, RequestCtx& ctx, Pass& pass, Status status) noexcept {
    pass.status = status;
    pass.refused = true;
    const ngx_uint_t code = http_status(status);
    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0, "session guard: realm \"%V\": refused, %s",
                  &pass.conf->realm->name, status_name(status).data());
    if (r != r->main) {
        return static_cast<ngx_int_t>(code);
    }
    ctx.refusal = status;
    ctx.refusal_code = code;
    if (satisfy_any(r)) {
        return static_cast<ngx_int_t>(code);
    }
    ctx.turned_away = true;
    if (owe_expiry(r, ctx, pass, status) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    const Answer kind = choose_answer(r, *pass.conf, code);
    if (kind == Answer::login) {
        ctx.refusal_code = NGX_HTTP_SEE_OTHER;
    }
    if (error_page_answers(r, ctx.refusal_code)) {
        return static_cast<ngx_int_t>(ctx.refusal_code);
    }
    // This location is an error page itself (error_page 404 /guarded): nginx keeps the error's
    // status.
    if (kind != Answer::login && r->err_status != 0) {
        ctx.refusal_code = r->err_status;
    }
    ngx_http_finalize_request(r, send_answer(r, *pass.conf, kind, status, code));
    return NGX_DONE;
}

}  // namespace sg::ngx
