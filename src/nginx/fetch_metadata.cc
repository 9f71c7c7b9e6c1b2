#include "nginx/fetch_metadata.h"

#include "nginx/request_headers.h"

namespace sg::ngx {
namespace {

bool header_is(ngx_http_request_t* r, std::string_view name, std::string_view expected,
               bool& present) noexcept {
    ngx_uint_t found = 0;
    const std::string_view value = request_header(r, name, found);
    present = found > 0;
    return found == 1 && value == expected;
}

bool accepts_html(ngx_http_request_t* r) noexcept {
    ngx_uint_t found = 0;
    const std::string_view accept = request_header(r, "accept", found);
    return found > 0 && accept.find("text/html") != std::string_view::npos;
}

}  // namespace

// Several Upgrade lines are more than nginx's one pointer tells; an upstream may heed any of them.
bool is_websocket_handshake(ngx_http_request_t* r) noexcept {
    if (r->headers_in.upgrade == nullptr) {
        return false;
    }
    ngx_uint_t found = 0;
    request_header(r, "upgrade", found);
    ngx_str_t& value = r->headers_in.upgrade->value;
    char word[] = "websocket";
    // ngx_strcasestrn wants the word's length less one.
    return found > 1 || ngx_strcasestrn(value.data, word, sizeof word - 2) != nullptr;
}

bool is_https(const ngx_http_request_t* r, const RealmConf& realm) noexcept {
#if (NGX_HTTP_SSL)
    if (r->connection->ssl != nullptr) {
        return true;
    }
#endif
    return realm.secure == SecureMode::assumed;
}

bool is_navigation(ngx_http_request_t* r) noexcept {
    bool present = false;
    const bool navigates = header_is(r, "sec-fetch-mode", "navigate", present);
    return present ? navigates : accepts_html(r);
}

bool is_document_navigation(ngx_http_request_t* r) noexcept {
    bool has_destination = false;
    const bool document = header_is(r, "sec-fetch-dest", "document", has_destination);
    return is_navigation(r) && (document || !has_destination);
}

bool is_own_document_navigation(ngx_http_request_t* r) noexcept {
    bool present = false;
    return header_is(r, "sec-fetch-site", "same-origin", present) &&
           header_is(r, "sec-fetch-mode", "navigate", present) &&
           header_is(r, "sec-fetch-dest", "document", present);
}

bool may_carry_new_token(ngx_http_request_t* r) noexcept {
    if (r != r->main || r->method == NGX_HTTP_HEAD || r->http_version < NGX_HTTP_VERSION_10 ||
        r->headers_in.upgrade != nullptr) {
        return false;
    }
    ngx_uint_t found = 0;
    for (const std::string_view name : {"sec-purpose", "purpose", "x-moz"}) {
        if (request_header(r, name, found).find("prefetch") != std::string_view::npos) {
            return false;
        }
    }
    const std::string_view destination = request_header(r, "sec-fetch-dest", found);
    return found == 0 || destination == "document" || destination == "iframe" ||
           destination == "frame" || destination == "empty";
}

CsrfVerdict csrf_verdict(ngx_http_request_t* r, const RealmConf& realm) noexcept {
    CsrfRequest request;
    request.safe_method = is_safe_method(r);
    request.websocket_handshake = is_websocket_handshake(r);
    if (request.safe_method && !request.websocket_handshake) {
        return CsrfVerdict::pass;
    }
    request.https = is_https(r, realm);
    ngx_uint_t found = 0;
    request.host = request_header(r, "host", found);
    if (found == 0 && r->host_start != nullptr && r->host_end > r->host_start) {
        // HTTP/3 has only :authority, and nginx makes no Host header of it.
        request.host = {reinterpret_cast<const char*>(r->host_start),
                        static_cast<std::size_t>(r->host_end - r->host_start)};
    } else if (found > 1) {
        request.host = "?";
    }
    request.sec_fetch_site = request_header(r, "sec-fetch-site", found);
    request.has_sec_fetch_site = found > 0;
    if (found > 1) {
        request.sec_fetch_site = "?";  // several lines never match
    }
    request.origin = request_header(r, "origin", found);
    request.has_origin = found > 0;
    if (found > 1) {
        request.origin = "?";
    }
    request.referer = request_header(r, "referer", found);
    request.has_referer = found > 0;
    if (found > 1) {
        request.referer = "?";
    }
    return check_csrf(request, realm.own_origins());
}

}  // namespace sg::ngx
