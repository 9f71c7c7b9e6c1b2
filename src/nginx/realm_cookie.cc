#include "nginx/realm_cookie.h"

#include <new>

#include "core/web/csrf.h"
#include "nginx/conf.h"
#include "nginx/conf_text.h"

namespace sg::ngx {
namespace {

constexpr std::string_view kDefaultName = "__Host-id";

bool parse_on_off(std::string_view value, bool& flag) noexcept {
    flag = value == "on";
    return flag || value == "off";
}

bool parse_same_site(std::string_view value, SameSite& same_site) noexcept {
    if (value == "lax") {
        same_site = SameSite::lax;
    } else if (value == "strict") {
        same_site = SameSite::strict;
    } else if (value == "none") {
        same_site = SameSite::none;
    } else {
        return false;
    }
    return true;
}

bool parse_secure(std::string_view value, RealmConf& realm) noexcept {
    if (value == "on") {
        realm.secure = SecureMode::on;
    } else if (value == "off") {
        realm.secure = SecureMode::off;
    } else if (value == "assumed") {
        realm.secure = SecureMode::assumed;
    } else {
        return false;
    }
    realm.cookie.secure = realm.secure != SecureMode::off;
    return true;
}

bool add_former(ngx_conf_t* cf, RealmConf& realm, std::string_view value) noexcept {
    if (realm.formerly == nullptr) {
        realm.formerly = ngx_array_create(cf->pool, 2, sizeof(CookieVariant));
    }
    void* const place = realm.formerly != nullptr ? ngx_array_push(realm.formerly) : nullptr;
    if (place == nullptr) {
        return false;
    }
    auto* const variant = new (place) CookieVariant{};
    const std::size_t at = value.find('@');
    variant->path = value.substr(0, at);
    variant->domain = at == std::string_view::npos ? std::string_view{} : value.substr(at + 1);
    return true;
}

bool parse_cookie_word(ngx_conf_t* cf, RealmConf& realm, const ngx_str_t& word) noexcept {
    CookieAttributes& cookie = realm.cookie;
    std::string_view value;
    if (value_of(word, "path=", value)) {
        cookie.path = value;
        return true;
    }
    if (value_of(word, "domain=", value)) {
        cookie.domain = value;
        return !value.empty();
    }
    if (value_of(word, "samesite=", value)) {
        return parse_same_site(value, cookie.same_site);
    }
    if (value_of(word, "secure=", value)) {
        return parse_secure(value, realm);
    }
    if (value_of(word, "httponly=", value)) {
        return parse_on_off(value, cookie.http_only);
    }
    if (view(word) == "partitioned") {
        cookie.partitioned = true;
        return true;
    }
    return value_of(word, "formerly=", value) && add_former(cf, realm, value);
}

// What browsers would never have accepted under this name need not be expired: a typing error.
bool formers_are_possible(ngx_conf_t* cf, const RealmConf& realm) noexcept {
    const std::size_t count = realm.formerly != nullptr ? realm.formerly->nelts : 0;
    for (std::size_t i = 0; i < count; ++i) {
        const auto& former = static_cast<const CookieVariant*>(realm.formerly->elts)[i];
        CookieAttributes cookie = realm.cookie;
        cookie.path = former.path;
        cookie.domain = former.domain;
        if (const char* const problem = cookie_error(cookie)) {
            const ngx_str_t path = str(former.path);
            const ngx_str_t domain = str(former.domain);
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid \"formerly=%V%s%V\": %s", &path,
                               former.domain.empty() ? "" : "@", &domain, problem);
            return false;
        }
    }
    return true;
}

// "name=; Path=/; ...; Max-Age=0; Expires=..."
ngx_int_t write_expiry(ngx_conf_t* cf, const RealmConf& realm, CookieVariant& variant) noexcept {
    CookieAttributes cookie = realm.cookie;
    cookie.path = variant.path;
    cookie.domain = variant.domain;
    std::array<char, 2048> text;
    std::size_t used = cookie.name.copy(text.data(), cookie.name.size());
    text[used++] = '=';
    const std::size_t attributes = format_attributes(cookie, std::span<char>(text).subspan(used));
    used += attributes;
    if (attributes == 0 || used + kExpireAttributes.size() > text.size()) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "the cookie's attributes are too long");
        return NGX_ERROR;
    }
    used += kExpireAttributes.copy(text.data() + used, kExpireAttributes.size());
    variant.expiry = str(copy(cf->pool, {text.data(), used}));
    return variant.expiry.data != nullptr ? NGX_OK : NGX_ERROR;
}

ngx_int_t write_texts(ngx_conf_t* cf, RealmConf& realm) noexcept {
    std::array<char, 2048> text;
    CookieAttributes first = realm.cookie;
    if (first.same_site == SameSite::strict) {
        first.same_site = SameSite::lax;
        realm.core.lax_first = true;
    }
    const std::size_t first_suffix = format_attributes(first, text);
    realm.first_cookie_suffix = str(copy(cf->pool, {text.data(), first_suffix}));
    const std::size_t suffix = format_attributes(realm.cookie, text);
    realm.cookie_suffix = str(copy(cf->pool, {text.data(), suffix}));
    const std::size_t name = realm.cookie.name.copy(text.data(), realm.cookie.name.size());
    text[name] = '=';
    realm.cookie_prefix = str(copy(cf->pool, {text.data(), name + 1}));
    realm.cookie_variants = ngx_array_create(cf->pool, 2, sizeof(CookieVariant));
    if (suffix == 0 || first_suffix == 0 || realm.first_cookie_suffix.data == nullptr ||
        realm.cookie_suffix.data == nullptr || realm.cookie_prefix.data == nullptr ||
        realm.cookie_variants == nullptr) {
        return NGX_ERROR;
    }
    const std::size_t former = realm.formerly != nullptr ? realm.formerly->nelts : 0;
    for (std::size_t i = 0; i <= former; ++i) {
        void* const place = ngx_array_push(realm.cookie_variants);
        if (place == nullptr) {
            return NGX_ERROR;
        }
        auto* const variant = new (place) CookieVariant{};
        if (i == 0) {
            variant->path = realm.cookie.path;
            variant->domain = realm.cookie.domain;
        } else {
            *variant = static_cast<CookieVariant*>(realm.formerly->elts)[i - 1];
        }
        if (write_expiry(cf, realm, *variant) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    return NGX_OK;
}

}  // namespace

char* parse_realm_cookie(ngx_conf_t* cf, RealmConf& realm) noexcept {
    const std::span<ngx_str_t> word = words(cf);
    realm.cookie.name = view(word[1]);
    for (const ngx_str_t& each : word.subspan(2)) {
        if (!parse_cookie_word(cf, realm, each)) {
            return invalid_parameter(cf, each);
        }
    }
    const char* const problem = cookie_error(realm.cookie);
    if (problem != nullptr) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "cookie \"%V\": %s", &word[1], problem);
        return kConfError;
    }
    if (!formers_are_possible(cf, realm)) {
        return kConfError;
    }
    const char* warning = nullptr;
    for (std::size_t i = 0; (warning = cookie_warning(realm.cookie, i)) != nullptr; ++i) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0, "cookie \"%V\": %s", &word[1], warning);
    }
    return NGX_CONF_OK;
}

ngx_int_t finish_realm_cookie(ngx_conf_t* cf, RealmConf& realm) noexcept {
    if (realm.cookie.name.empty()) {
        realm.cookie.name = kDefaultName;
    }
    return write_texts(cf, realm);
}

char* check_cookie_clash(ngx_conf_t* cf, const MainConf& main, const RealmConf& realm) noexcept {
    for (const RealmConf* const other : main.all_realms()) {
        if (other != &realm && other->cookie.name == realm.cookie.name) {
            const ngx_str_t name = str(realm.cookie.name);
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "realms \"%V\" and \"%V\" both use the cookie \"%V\"", &other->name,
                               &realm.name, &name);
            return kConfError;
        }
    }
    return NGX_CONF_OK;
}

char* parse_realm_origins(ngx_conf_t* cf, RealmConf& realm) noexcept {
    realm.origins = ngx_array_create(cf->pool, 2, sizeof(std::string_view));
    if (realm.origins == nullptr) {
        return kConfError;
    }
    for (const ngx_str_t& word : words(cf).subspan(1)) {
        if (!is_origin(view(word))) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid origin \"%V\": \"https://host[:port]\" without a path",
                               &word);
            return kConfError;
        }
        void* const place = ngx_array_push(realm.origins);
        if (place == nullptr) {
            return kConfError;
        }
        new (place) std::string_view(view(word));
    }
    return NGX_CONF_OK;
}

}  // namespace sg::ngx
