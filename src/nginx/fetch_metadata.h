// What the browser says about a request: Fetch metadata, Origin, Accept. Read only where a decision
// needs it (refusals, unsafe methods, WebSocket handshakes), never on the way of a plain page view.
#pragma once

#include "nginx/ngx.h"

#include "core/web/csrf.h"
#include "nginx/conf.h"

namespace sg::ngx {

// RFC 9110 section 9.2.1
inline bool is_safe_method(const ngx_http_request_t* r) noexcept {
    return (r->method & (NGX_HTTP_GET | NGX_HTTP_HEAD | NGX_HTTP_OPTIONS | NGX_HTTP_TRACE)) != 0;
}

bool is_websocket_handshake(ngx_http_request_t* r) noexcept;

// TLS to nginx, or the operator's word for it (`secure=assumed`).
bool is_https(const ngx_http_request_t* r, const RealmConf& realm) noexcept;

// A browser loading a page: Sec-Fetch-Mode navigate; without Fetch metadata, Accept names
// text/html.
bool is_navigation(ngx_http_request_t* r) noexcept;

// A navigation of the top-level page by Fetch metadata, or is_navigation where there is none.
bool is_document_navigation(ngx_http_request_t* r) noexcept;

// Same-origin navigation to a document, told by Fetch metadata; absent metadata is no.
bool is_own_document_navigation(ngx_http_request_t* r) noexcept;

// Whether the browser will certainly take a Set-Cookie of this response: a page or a script's
// request; no subrequest, no HEAD, no handshake, no prefetch that may be thrown away.
bool may_carry_new_token(ngx_http_request_t* r) noexcept;

CsrfVerdict csrf_verdict(ngx_http_request_t* r, const RealmConf& realm) noexcept;

}  // namespace sg::ngx
