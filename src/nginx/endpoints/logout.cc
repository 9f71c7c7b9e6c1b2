#include "nginx/endpoints/logout.h"

#include "core/lifecycle.h"
#include "core/web/return_url.h"
#include "nginx/clock.h"
#include "nginx/conf.h"
#include "nginx/conf_text.h"
#include "nginx/fetch_metadata.h"
#include "nginx/request_ctx.h"
#include "nginx/response_headers.h"
#include "nginx/tier/withhold.h"

namespace sg::ngx {
namespace {

constexpr std::string_view kDefaultClear = "\"cache\"";

// The store has let the request in, where the zone has no room for the session; or nobody knows.
bool may_be_stores_only(const Pass* pass, const Token& token) noexcept {
    return pass != nullptr && same_token(token, pass->token) &&
           (pass->status == Status::valid || pass->status == Status::store_unavailable);
}

// Every session a cookie of this request opens, be it one or (cookie tossing) several.
void end_presented_sessions(const RealmConf& realm, const Presented& presented,
                            const Pass* pass) noexcept {
    for (std::size_t i = 0; i < presented.candidates.count; ++i) {
        const auto token = parse_token(presented.candidates.values[i]);
        if (token && holds_session(realm.core, *token, now_ms())) {
            end_session(realm.core, token->handle, Departure::ended, now_ms());
        } else if (token && may_be_stores_only(pass, *token)) {
            end_unknown(realm.core, *token, Departure::ended, now_ms());
        }
    }
}

ngx_int_t method_not_allowed(ngx_http_request_t* r) noexcept {
    if (add_response_header(r, "Allow", "POST") != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    return NGX_HTTP_NOT_ALLOWED;
}

ngx_int_t say_goodbye(ngx_http_request_t* r, RequestCtx& ctx, const LocationConf& conf) noexcept {
    if (owe_cookie(r, ctx, *conf.realm, OwedCookie::Kind::expire_variants) != NGX_OK ||
        (conf.clear_site_data.len > 0 &&
         add_response_header(r, "Clear-Site-Data", view(conf.clear_site_data)) != NGX_OK)) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (conf.logout_return.len > 0) {
        return add_response_header(r, "Location", view(conf.logout_return)) == NGX_OK
                   ? NGX_HTTP_SEE_OTHER
                   : NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    r->headers_out.status = NGX_HTTP_NO_CONTENT;
    r->header_only = 1;
    return ngx_http_send_header(r);
}

// A link or an image on another site must not log anybody out: POST, or a same-origin navigation.
// (POST from another site has been refused in the access phase; see session_csrf.)
ngx_int_t logout_handler(ngx_http_request_t* r) noexcept {
    const LocationConf& conf = *location_conf(r);
    const bool get = r->method == NGX_HTTP_GET && is_own_document_navigation(r);
    if (r->method != NGX_HTTP_POST && !get) {
        return method_not_allowed(r);
    }
    const ngx_int_t rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }
    RequestCtx* const ctx = find_request_ctx(r);
    const Pass* const pass = ctx != nullptr ? current_pass(r, *ctx) : nullptr;
    if (pass == nullptr) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (pass->refused) {
        return NGX_HTTP_FORBIDDEN;  // cross-site, let in by another condition of `satisfy any`
    }
    if (const Presented* const presented = find_presented(*ctx, *conf.realm)) {
        const WriteScope writes(r, *ctx);
        end_presented_sessions(*conf.realm, *presented, current_pass(r, *ctx));
    }
    return say_goodbye(r, *ctx, conf);
}

// "cache,storage" -> "\"cache\", \"storage\"" (Clear-Site-Data, W3C)
bool write_clear(ngx_conf_t* cf, std::string_view list, LocationConf& conf) noexcept {
    const std::span<char> text = characters(cf->pool, 64);
    std::size_t used = 0;
    while (!list.empty() && !text.empty()) {
        const std::size_t comma = list.find(',');
        const std::string_view kind = list.substr(0, comma);
        if ((kind != "cache" && kind != "storage" && kind != "cookies") ||
            used + kind.size() + 4 > 64) {
            return false;
        }
        if (used > 0) {
            text[used++] = ',';
            text[used++] = ' ';
        }
        text[used++] = '"';
        used += kind.copy(text.data() + used, kind.size());
        text[used++] = '"';
        list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
    }
    conf.clear_site_data = str({text.data(), used});
    return used > 0;
}

}  // namespace

char* session_logout(ngx_conf_t* cf, ngx_command_t*, void* data) noexcept {
    auto& conf = *static_cast<LocationConf*>(data);
    if (conf.is_logout) {
        return is_duplicate();
    }
    if (conf.is_info || conf.status_from != nullptr) {
        return const_cast<char*>("is incompatible with \"session_info\" and \"session_status\"");
    }
    conf.is_logout = 1;
    conf.clear_site_data = str(kDefaultClear);
    bool cleared = false;
    for (const ngx_str_t& word : words(cf).subspan(1)) {
        std::string_view value;
        const bool is_return = value_of(word, "return=", value);
        if (is_return && conf.logout_return.len == 0 && is_own_origin_path(value)) {
            conf.logout_return = str(value);
        } else if (!is_return && !cleared && value_of(word, "clear=", value) &&
                   write_clear(cf, value, conf)) {
            cleared = true;
        } else {
            return invalid_parameter(cf, word);
        }
    }
    return install_handler(cf, conf, logout_handler);
}

}  // namespace sg::ngx
