#include "nginx/response_headers.h"

#include "nginx/str.h"

namespace sg::ngx {
namespace {

template <typename Visit>
void for_each_response_header(ngx_http_request_t* r, Visit visit) noexcept {
    for (ngx_list_part_t* part = &r->headers_out.headers.part; part != nullptr; part = part->next) {
        auto* const elements = static_cast<ngx_table_elt_t*>(part->elts);
        for (ngx_uint_t i = 0; i < part->nelts; ++i) {
            if (elements[i].hash != 0) {
                visit(elements[i]);
            }
        }
    }
}

bool is_named(const ngx_table_elt_t& header, std::string_view name) noexcept {
    return header.key.len == name.size() && equal_ignoring_case(view(header.key), name);
}

std::string_view without_blanks(std::string_view text) noexcept {
    const std::size_t begin = text.find_first_not_of(" \t");
    return begin == std::string_view::npos ? std::string_view() : text.substr(begin);
}

// As browsers read it (RFC 6265 section 5.2): blanks around the name do not count, and
// "=name=value" comes back as "name=value". `prefix` is "name=".
bool sets_cookie(std::string_view value, std::string_view prefix) noexcept {
    const std::string_view name = prefix.substr(0, prefix.size() - 1);
    value = without_blanks(value);
    while (value.starts_with('=')) {
        value = without_blanks(value.substr(1));
    }
    return value.starts_with(name) && without_blanks(value.substr(name.size())).starts_with('=');
}

// What `expires` (ngx_http_headers_filter_module) would rewrite are the headers these pointers
// name: they get elements that are in no list and so are never sent.
ngx_int_t divert_expires(ngx_http_request_t* r) noexcept {
    auto* const unsent =
        static_cast<ngx_table_elt_t*>(ngx_pcalloc(r->pool, 2 * sizeof(ngx_table_elt_t)));
    if (unsent == nullptr) {
        return NGX_ERROR;
    }
    r->headers_out.expires = &unsent[0];
#if (nginx_version >= 1023000)
    r->headers_out.cache_control = &unsent[1];
    return NGX_OK;
#else
    if (ngx_array_init(&r->headers_out.cache_control, r->pool, 1, sizeof(ngx_table_elt_t*)) !=
        NGX_OK) {
        return NGX_ERROR;
    }
    auto** const place =
        static_cast<ngx_table_elt_t**>(ngx_array_push(&r->headers_out.cache_control));
    *place = &unsent[1];
    return NGX_OK;
#endif
}

}  // namespace

ngx_int_t add_response_header(ngx_http_request_t* r, std::string_view name,
                              std::string_view value) noexcept {
    auto* const header = static_cast<ngx_table_elt_t*>(ngx_list_push(&r->headers_out.headers));
    if (header == nullptr) {
        return NGX_ERROR;
    }
    ngx_memzero(header, sizeof *header);
    header->hash = 1;
    header->key = str(name);
    header->value = str(value);
    return NGX_OK;
}

ngx_uint_t remove_response_header(ngx_http_request_t* r, std::string_view lowcase_name) noexcept {
    ngx_uint_t removed = 0;
    for_each_response_header(r, [&](ngx_table_elt_t& header) {
        if (is_named(header, lowcase_name)) {
            header.hash = 0;
            ++removed;
        }
    });
    return removed;
}

ngx_int_t forbid_storing(ngx_http_request_t* r) noexcept {
    remove_response_header(r, "cache-control");
    remove_response_header(r, "expires");
    if (divert_expires(r) != NGX_OK) {
        return NGX_ERROR;
    }
    return add_response_header(r, "Cache-Control", "no-store");
}

void forget_response(ngx_http_request_t* r) noexcept {
    ngx_memzero(&r->headers_out.status,
                sizeof(ngx_http_headers_out_t) - offsetof(ngx_http_headers_out_t, status));
    r->headers_out.headers.part.nelts = 0;
    r->headers_out.headers.part.next = nullptr;
    r->headers_out.headers.last = &r->headers_out.headers.part;
    r->headers_out.trailers.part.nelts = 0;
    r->headers_out.trailers.part.next = nullptr;
    r->headers_out.trailers.last = &r->headers_out.trailers.part;
    r->headers_out.content_length_n = -1;
    r->headers_out.last_modified_time = -1;
}

ngx_uint_t remove_set_cookies(ngx_http_request_t* r, std::string_view prefix) noexcept {
    ngx_uint_t removed = 0;
    for_each_response_header(r, [&](ngx_table_elt_t& header) {
        if (is_named(header, "set-cookie") && sets_cookie(view(header.value), prefix)) {
            header.hash = 0;
            ++removed;
        }
    });
    return removed;
}

}  // namespace sg::ngx
