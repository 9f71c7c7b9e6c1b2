// Request headers as upstreams, variables and logs will see them. nginx keeps pointers into the
// list and subrequests share it, so elements are never moved and the list is never pushed to: a
// change builds a fresh list for this request and re-points Cookie.
#pragma once

#include "nginx/ngx.h"

#include <cstring>
#include <span>
#include <string_view>

#include "nginx/str.h"

namespace sg::ngx {

// Calls visit(ngx_table_elt_t&) for every request header, in order.
template <typename Visit>
void for_each_request_header(ngx_http_request_t* r, Visit visit) noexcept {
    for (ngx_list_part_t* part = &r->headers_in.headers.part; part != nullptr; part = part->next) {
        auto* const elements = static_cast<ngx_table_elt_t*>(part->elts);
        for (ngx_uint_t i = 0; i < part->nelts; ++i) {
            visit(elements[i]);
        }
    }
}

// An empty list in the request's pool with room for `room` headers.
bool start_header_list(ngx_http_request_t* r, std::size_t room, ngx_list_t& list) noexcept;

// Makes `list` the request's headers; headers_in.cookie(s) points to the Cookie headers in it.
ngx_int_t use_header_list(ngx_http_request_t* r, const ngx_list_t& list) noexcept;

std::size_t count_request_headers(ngx_http_request_t* r) noexcept;

// A fresh list: the present headers but those `drop` says yes to, then `added`.
template <typename Drop>
ngx_int_t rebuild_request_headers(ngx_http_request_t* r, Drop drop,
                                  std::span<const ngx_table_elt_t> added) noexcept {
    ngx_list_t list;
    if (!start_header_list(r, count_request_headers(r) + added.size() + 1, list)) {
        return NGX_ERROR;
    }
    auto* const elements = static_cast<ngx_table_elt_t*>(list.part.elts);
    for_each_request_header(r, [&](const ngx_table_elt_t& header) {
        if (!drop(header)) {
            elements[list.part.nelts++] = header;
        }
    });
    for (const ngx_table_elt_t& header : added) {
        elements[list.part.nelts++] = header;
    }
    return use_header_list(r, list);
}

// The usual case of a take-out: one Cookie header, now empty, the last of all (browsers send it
// last, nginx's HTTP/2 builds it last). It is cut off: nginx's pointers to the other elements stay
// right and nothing is copied; a later push by nginx starts a new part. False: not that case.
bool drop_last_header_if_empty_cookie(ngx_http_request_t* r) noexcept;

inline bool is_cookie(const ngx_table_elt_t& header) noexcept {
    if (header.key.len != 6) {
        return false;
    }
    // Compared as words, in lower case: asked of every header of every request.
    std::uint32_t first = 0;
    std::uint16_t last = 0;
    std::memcpy(&first, header.key.data, 4);
    std::memcpy(&last, header.key.data + 4, 2);
    return (first | 0x20202020u) == 0x6b6f6f63u && (last | 0x2020u) == 0x6569u;
}

// The value of the header with this lower-case name. `found` counts its lines; the first one's
// value is returned.
std::string_view request_header(ngx_http_request_t* r, std::string_view lowcase_name,
                                ngx_uint_t& found) noexcept;

// No control characters (RFC 9110 section 5.5; tab is not needed and not let through either).
bool is_field_value(std::string_view value) noexcept;

}  // namespace sg::ngx
