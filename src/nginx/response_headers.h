// Response headers of one request.
#pragma once

#include "nginx/ngx.h"

#include <string_view>

namespace sg::ngx {

// Appends a header that no known-header pointer refers to: filters further down that rewrite
// "their" header (expires, add_header) leave it alone. The views must live as long as the request.
ngx_int_t add_response_header(ngx_http_request_t* r, std::string_view name,
                              std::string_view value) noexcept;

// Takes every header of this (lower-case) name out of headers_out; returns how many there were.
ngx_uint_t remove_response_header(ngx_http_request_t* r, std::string_view lowcase_name) noexcept;

// Cache-Control: no-store and no Expires, whatever the upstream or the `expires` directive says. An
// add_header adds its line beside ours; no-store still wins (RFC 9111 section 5.2.2.5).
ngx_int_t forbid_storing(ngx_http_request_t* r) noexcept;

// Forgets the upstream's answer, before another one (an error) is made: what nginx's static
// ngx_http_clean_header (ngx_http_special_response.c) does.
void forget_response(ngx_http_request_t* r) noexcept;

// Takes out the Set-Cookie headers that begin with "name="; returns how many. After the header has
// been serialised this only keeps them from $sent_http_set_cookie, and so from logs.
ngx_uint_t remove_set_cookies(ngx_http_request_t* r, std::string_view prefix) noexcept;

}  // namespace sg::ngx
