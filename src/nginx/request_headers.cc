#include "nginx/request_headers.h"

#include <algorithm>

namespace sg::ngx {

bool start_header_list(ngx_http_request_t* r, std::size_t room, ngx_list_t& list) noexcept {
    return ngx_list_init(&list, r->pool, room, sizeof(ngx_table_elt_t)) == NGX_OK;
}

namespace {

// nginx 1.23.0 turned the array of Cookie headers into a linked list.
#if (nginx_version >= 1023000)

ngx_int_t point_to_cookies(ngx_http_request_t* r) noexcept {
    ngx_table_elt_t** tail = &r->headers_in.cookie;
    for_each_request_header(r, [&tail](ngx_table_elt_t& header) {
        if (is_cookie(header)) {
            *tail = &header;
            tail = &header.next;
        }
    });
    *tail = nullptr;
    return NGX_OK;
}

bool has_one_cookie_header(const ngx_http_request_t* r) noexcept {
    return r->headers_in.cookie != nullptr && r->headers_in.cookie->next == nullptr;
}

void forget_cookies(ngx_http_request_t* r) noexcept {
    r->headers_in.cookie = nullptr;
}

#else

ngx_int_t point_to_cookies(ngx_http_request_t* r) noexcept {
    ngx_array_t cookies;
    if (ngx_array_init(&cookies, r->pool, 1, sizeof(ngx_table_elt_t*)) != NGX_OK) {
        return NGX_ERROR;
    }
    bool complete = true;
    for_each_request_header(r, [&](ngx_table_elt_t& header) {
        if (is_cookie(header)) {
            auto** const place = static_cast<ngx_table_elt_t**>(ngx_array_push(&cookies));
            complete = complete && place != nullptr;
            if (place != nullptr) {
                *place = &header;
            }
        }
    });
    r->headers_in.cookies = cookies;
    return complete ? NGX_OK : NGX_ERROR;
}

bool has_one_cookie_header(const ngx_http_request_t* r) noexcept {
    return r->headers_in.cookies.nelts == 1;
}

void forget_cookies(ngx_http_request_t* r) noexcept {
    r->headers_in.cookies.nelts = 0;
}

#endif

}  // namespace

ngx_int_t use_header_list(ngx_http_request_t* r, const ngx_list_t& list) noexcept {
    r->headers_in.headers = list;
    r->headers_in.headers.last = &r->headers_in.headers.part;
    return point_to_cookies(r);
}

bool drop_last_header_if_empty_cookie(ngx_http_request_t* r) noexcept {
    ngx_list_t& list = r->headers_in.headers;
    ngx_list_part_t& part = *list.last;
    if (part.nelts < 2 || !has_one_cookie_header(r)) {
        return false;
    }
    const auto* const last = static_cast<const ngx_table_elt_t*>(part.elts) + part.nelts - 1;
    if (!is_cookie(*last) || last->value.len != 0) {
        return false;
    }
    --part.nelts;
    list.nalloc = part.nelts;
    forget_cookies(r);
    return true;
}

std::size_t count_request_headers(ngx_http_request_t* r) noexcept {
    std::size_t count = 0;
    for (const ngx_list_part_t* part = &r->headers_in.headers.part; part != nullptr;
         part = part->next) {
        count += part->nelts;
    }
    return count;
}

std::string_view request_header(ngx_http_request_t* r, std::string_view lowcase_name,
                                ngx_uint_t& found) noexcept {
    std::string_view value;
    found = 0;
    for_each_request_header(r, [&](const ngx_table_elt_t& header) {
        if (header.key.len == lowcase_name.size() &&
            equal_ignoring_case(view(header.key), lowcase_name)) {
            value = found == 0 ? view(header.value) : value;
            ++found;
        }
    });
    return value;
}

bool is_field_value(std::string_view value) noexcept {
    return std::all_of(value.begin(), value.end(), [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte >= 0x20 && byte != 0x7f;
    });
}

}  // namespace sg::ngx
