#include "nginx/identity.h"

#include <algorithm>

#include "nginx/conf.h"
#include "nginx/conf_text.h"
#include "nginx/request_headers.h"

namespace sg::ngx {
namespace {

char normalised(char c) noexcept {
    if (c >= 'A' && c <= 'Z') {
        return static_cast<char>(c - 'A' + 'a');
    }
    const bool kept = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    return kept ? c : '-';
}

std::uint64_t length_bit(std::size_t length) noexcept {
    return std::uint64_t{1} << std::min<std::size_t>(length, 63);
}

// Headers nginx itself reads or sets for upstreams (ngx_http_headers_in in ngx_http_request.c), and
// those that say something about the connection: overriding them would break more than it
// identifies.
bool is_reserved(const ngx_str_t& name) noexcept {
    for (const ngx_http_header_t* header = ngx_http_headers_in; header->name.len != 0; ++header) {
        if (equal_ignoring_case(view(header->name), view(name))) {
            return true;
        }
    }
    constexpr std::array<std::string_view, 12> kAlso{"Cookie",           "Authorization",
                                                     "Forwarded",        "X-Forwarded-For",
                                                     "X-Forwarded-Host", "Via",
                                                     "X-Real-IP",        "X-Forwarded-Proto",
                                                     "X-Forwarded-Port", "TE",
                                                     "Trailer",          "Proxy-Authorization"};
    if (std::any_of(kAlso.begin(), kAlso.end(), [&name](std::string_view other) {
            return equal_ignoring_case(other, view(name));
        })) {
        return true;
    }
    return equal_ignoring_case(view(name).substr(0, 8), "X-Accel-");
}

bool is_header_name(std::string_view name) noexcept {
    // Letters, digits and "-" only: anything else would not survive underscores_in_headers.
    return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
        const char n = normalised(c);
        return n != '-' || c == '-';
    });
}

ngx_int_t compile_value(ngx_conf_t* cf, std::string_view text, IdentityHeader& header) noexcept {
    ngx_str_t source = str(copy(cf->pool, text));
    ngx_http_compile_complex_value_t compile;
    ngx_memzero(&compile, sizeof compile);
    compile.cf = cf;
    compile.value = &source;
    compile.complex_value = &header.value;
    return ngx_http_compile_complex_value(&compile);
}

char* add_header(ngx_conf_t* cf, RealmConf& realm, const ngx_str_t& word) noexcept {
    const std::string_view text = view(word);
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos || equals + 1 == text.size()) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\": Header=$variable",
                           &word);
        return kConfError;
    }
    const ngx_str_t name = str(text.substr(0, equals));
    if (!is_header_name(view(name))) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid identity header \"%V\": letters, digits and \"-\"", &name);
        return kConfError;
    }
    if (is_reserved(name)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "identity cannot set \"%V\": nginx keeps this header itself", &name);
        return kConfError;
    }
    for (const IdentityHeader& other : realm.identity_headers()) {
        if (equal_ignoring_case(view(other.name), view(name))) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "duplicate identity header \"%V\"", &name);
            return kConfError;
        }
    }
    auto* const header = static_cast<IdentityHeader*>(ngx_array_push(realm.identity));
    if (header == nullptr) {
        return kConfError;
    }
    ngx_memzero(header, sizeof *header);
    header->name = name;
    header->lowcase = str(copy(cf->pool, view(name)));
    if (header->lowcase.data == nullptr ||
        compile_value(cf, text.substr(equals + 1), *header) != NGX_OK) {
        return kConfError;
    }
    header->hash = ngx_hash_strlow(header->lowcase.data, header->name.data, header->name.len);
    return NGX_CONF_OK;
}

}  // namespace

char* parse_identity_headers(ngx_conf_t* cf, RealmConf& realm) noexcept {
    if (realm.identity == nullptr) {
        realm.identity = ngx_array_create(cf->pool, 4, sizeof(IdentityHeader));
    }
    if (realm.identity == nullptr) {
        return kConfError;
    }
    for (const ngx_str_t& word : words(cf).subspan(1)) {
        if (char* const error = add_header(cf, realm, word)) {
            return error;
        }
    }
    return NGX_CONF_OK;
}

ngx_int_t collect_identity_names(ngx_conf_t* cf, MainConf& conf) noexcept {
    for (RealmConf* const realm : conf.all_realms()) {
        for (const IdentityHeader& header : realm->identity_headers()) {
            auto* const name = static_cast<ngx_str_t*>(ngx_array_push(&conf.identity_names));
            const std::span<char> text = characters(cf->pool, header.name.len);
            if (name == nullptr || text.empty()) {
                return NGX_ERROR;
            }
            const std::string_view from = view(header.name);
            std::transform(from.begin(), from.end(), text.begin(), normalised);
            *name = str({text.data(), text.size()});
            conf.identity_lengths |= length_bit(text.size());
        }
    }
    return NGX_OK;
}

bool is_identity_name(const MainConf& conf, std::string_view name) noexcept {
    if ((conf.identity_lengths & length_bit(name.size())) == 0) {
        return false;
    }
    const std::span<const ngx_str_t> all{static_cast<const ngx_str_t*>(conf.identity_names.elts),
                                         conf.identity_names.nelts};
    return std::any_of(all.begin(), all.end(), [name](const ngx_str_t& each) {
        const std::string_view known = view(each);
        return std::equal(known.begin(), known.end(), name.begin(), name.end(),
                          [](char a, char b) { return a == normalised(b); });
    });
}

ngx_int_t set_identity(ngx_http_request_t* r, const RealmConf& realm) noexcept {
    const std::span<IdentityHeader> headers = realm.identity_headers();
    if (headers.empty()) {
        return NGX_OK;
    }
    auto* const added = static_cast<ngx_table_elt_t*>(
        ngx_pcalloc(r->pool, headers.size() * sizeof(ngx_table_elt_t)));
    if (added == nullptr) {
        return NGX_ERROR;
    }
    std::size_t count = 0;
    for (IdentityHeader& header : headers) {
        ngx_str_t value;
        if (ngx_http_complex_value(r, &header.value, &value) != NGX_OK) {
            return NGX_ERROR;
        }
        if (!is_field_value(view(value))) {
            ngx_log_error(
                NGX_LOG_ERR, r->connection->log, 0,
                "session guard: identity header \"%V\" left out: control characters in its "
                "value",
                &header.name);
            continue;
        }
        ngx_table_elt_t& element = added[count++];
        element.hash = header.hash;
        element.key = header.name;
        element.lowcase_key = header.lowcase.data;
        element.value = value;
    }
    return rebuild_request_headers(r, [](const ngx_table_elt_t&) { return false; }, {added, count});
}

}  // namespace sg::ngx
