// session_realm name { ... }: one application's sessions. Each directive of the block has one
// function here; the defaults stand in finish(), once.
#include "nginx/ngx.h"

#include <new>

#include "nginx/conf.h"
#include "nginx/conf_text.h"
#include "nginx/identity.h"
#include "nginx/key_file.h"
#include "nginx/realm_cookie.h"
#include "nginx/realm_limit.h"
#include "nginx/tier/store_conf.h"

namespace sg::ngx {
namespace {

constexpr std::string_view kDefaultIdle = "15m";
constexpr std::string_view kDefaultAbsolute = "8h";
constexpr std::string_view kDefaultRotate = "15m";
constexpr std::string_view kDefaultGrace = "30s";
constexpr ssize_t kDefaultZone = 16 * 1024 * 1024;
constexpr std::size_t kDefaultMaxData = 4096;
constexpr TimeMs kDefaultRevalidate = 5 * kSecond;
constexpr TimeMs kLongestRevalidate = kHour;
constexpr TimeMs kLongestTimeout = 400LL * 24 * kHour;  // what browsers cap Max-Age at

// What the block has said so far.
struct Parse {
    RealmConf* realm;
    ssize_t zone_size = 0;
    bool zone = false;
    bool key_file = false;
    bool cookie = false;
    bool origin = false;
    bool idle = false;
    bool absolute = false;
    bool rotate = false;
    bool max_data = false;
    bool store = false;
    bool thread_pool = false;
    bool revalidate = false;
    ngx_str_t pool{};
};

char* set_once(bool& flag) noexcept {
    if (flag) {
        return is_duplicate();
    }
    flag = true;
    return NGX_CONF_OK;
}

char* parse_zone(ngx_conf_t* cf, Parse& parse) noexcept {
    if (char* const twice = set_once(parse.zone)) {
        return twice;
    }
    ngx_str_t& size = words(cf)[1];
    parse.zone_size = ngx_parse_size(&size);
    if (parse.zone_size == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid zone size \"%V\"", &size);
        return kConfError;
    }
    if (static_cast<std::size_t>(parse.zone_size) < minimum_zone_bytes()) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "zone size \"%V\" is too small, at least %uz bytes", &size,
                           minimum_zone_bytes());
        return kConfError;
    }
    return NGX_CONF_OK;
}

char* parse_key_file(ngx_conf_t* cf, Parse& parse) noexcept {
    if (char* const twice = set_once(parse.key_file)) {
        return twice;
    }
    return read_key_file(cf, words(cf)[1], *parse.realm) == NGX_OK ? NGX_CONF_OK : kConfError;
}

char* parse_cookie(ngx_conf_t* cf, Parse& parse) noexcept {
    if (char* const twice = set_once(parse.cookie)) {
        return twice;
    }
    return parse_realm_cookie(cf, *parse.realm);
}

char* parse_origin(ngx_conf_t* cf, Parse& parse) noexcept {
    if (char* const twice = set_once(parse.origin)) {
        return twice;
    }
    return parse_realm_origins(cf, *parse.realm);
}

char* parse_identity(ngx_conf_t* cf, Parse& parse) noexcept {
    return parse_identity_headers(cf, *parse.realm);
}

char* parse_timeout(ngx_conf_t* cf, bool& flag, bool may_be_off, TimeMs& timeout) noexcept {
    if (char* const twice = set_once(flag)) {
        return twice;
    }
    ngx_str_t& value = words(cf)[1];
    if (may_be_off && view(value) == "off") {
        timeout = 0;
        return NGX_CONF_OK;
    }
    const ngx_int_t parsed = ngx_parse_time(&value, 0);
    if (parsed == NGX_ERROR || parsed < kSecond || parsed > kLongestTimeout) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid timeout \"%V\": a time from 1s to 400d%s",
                           &value, may_be_off ? ", or \"off\"" : "");
        return kConfError;
    }
    timeout = parsed;
    return NGX_CONF_OK;
}

char* parse_idle(ngx_conf_t* cf, Parse& parse) noexcept {
    return parse_timeout(cf, parse.idle, true, parse.realm->core.timeouts.idle);
}

char* parse_absolute(ngx_conf_t* cf, Parse& parse) noexcept {
    return parse_timeout(cf, parse.absolute, false, parse.realm->core.timeouts.absolute);
}

bool parse_rotate_time(ngx_conf_t* cf, std::string_view text, TimeMs least, TimeMs& time) noexcept {
    ngx_str_t value = str(text);
    const ngx_int_t parsed = ngx_parse_time(&value, 0);
    if (parsed == NGX_ERROR || parsed < least || parsed > kLongestTimeout) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid rotate time \"%V\": from %s to 400d",
                           &value, least > 0 ? "1s" : "0");
        return false;
    }
    time = parsed;
    return true;
}

// A token is good for the grace after the one that replaces it, and no longer than that one: or an
// honest browser could be two behind.
char* parse_rotate(ngx_conf_t* cf, Parse& parse) noexcept {
    if (char* const twice = set_once(parse.rotate)) {
        return twice;
    }
    Realm& realm = parse.realm->core;
    const std::span<ngx_str_t> word = words(cf);
    const bool is_off = view(word[1]) == "off";
    if (is_off ? word.size() > 2 : !parse_rotate_time(cf, view(word[1]), kSecond, realm.rotate)) {
        return is_off ? invalid_parameter(cf, word[2]) : kConfError;
    }
    std::string_view grace = kDefaultGrace;
    if (word.size() > 2 && !value_of(word[2], "grace=", grace)) {
        return invalid_parameter(cf, word[2]);
    }
    if (!parse_rotate_time(cf, grace, 0, realm.rotation_grace)) {
        return kConfError;
    }
    if (!is_off && realm.rotation_grace > realm.rotate) {
        const ngx_str_t text = str(grace);
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "rotate: grace \"%V\" is longer than the time \"%V\" itself", &text,
                           &word[1]);
        return kConfError;
    }
    return NGX_CONF_OK;
}

char* parse_limit(ngx_conf_t* cf, Parse& parse) noexcept {
    return parse_session_limit(cf, *parse.realm);
}

char* parse_max_data(ngx_conf_t* cf, Parse& parse) noexcept {
    if (char* const twice = set_once(parse.max_data)) {
        return twice;
    }
    const ssize_t size = ngx_parse_size(&words(cf)[1]);
    if (size == NGX_ERROR || static_cast<std::size_t>(size) > RecordLimits::kMaxDataBytes) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid max_data \"%V\": at most 32k",
                           &words(cf)[1]);
        return kConfError;
    }
    parse.realm->max_data = static_cast<std::size_t>(size);
    return NGX_CONF_OK;
}

char* parse_realm_store(ngx_conf_t* cf, Parse& parse) noexcept {
    if (char* const twice = set_once(parse.store)) {
        return twice;
    }
    return parse_store(cf, *parse.realm);
}

char* parse_thread_pool(ngx_conf_t* cf, Parse& parse) noexcept {
    if (char* const twice = set_once(parse.thread_pool)) {
        return twice;
    }
    parse.pool = words(cf)[1];
    return NGX_CONF_OK;
}

char* parse_revalidate(ngx_conf_t* cf, Parse& parse) noexcept {
    if (char* const twice = set_once(parse.revalidate)) {
        return twice;
    }
    ngx_str_t& value = words(cf)[1];
    const ngx_int_t parsed = ngx_parse_time(&value, 0);
    if (parsed == NGX_ERROR || parsed < 100 || parsed > kLongestRevalidate) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid revalidate \"%V\": a time from 100ms to 1h", &value);
        return kConfError;
    }
    parse.realm->core.revalidate = parsed;
    return NGX_CONF_OK;
}

struct RealmDirective {
    std::string_view name;
    std::size_t least;  // words after the name
    std::size_t most;
    char* (*parse)(ngx_conf_t* cf, Parse& parse) noexcept;
};

constexpr std::size_t kMany = 64;

constexpr std::array<RealmDirective, 13> kDirectives{{
    {"zone", 1, 1, parse_zone},
    {"key_file", 1, 1, parse_key_file},
    {"cookie", 1, kMany, parse_cookie},
    {"origin", 1, kMany, parse_origin},
    {"identity", 1, kMany, parse_identity},
    {"idle_timeout", 1, 1, parse_idle},
    {"absolute_timeout", 1, 1, parse_absolute},
    {"rotate", 1, 2, parse_rotate},
    {"limit_sessions", 1, 3, parse_limit},
    {"max_data", 1, 1, parse_max_data},
    {"store", 1, kMany, parse_realm_store},
    {"thread_pool", 1, 1, parse_thread_pool},
    {"revalidate", 1, 1, parse_revalidate},
}};

// ngx_conf_parse calls this for each line of the block (the way "types" and "map" do).
char* dispatch(ngx_conf_t* cf, ngx_command_t*, void* conf) noexcept {
    auto& parse = *static_cast<Parse*>(conf);
    const std::span<ngx_str_t> word = words(cf);
    if (view(word[0]) == "include") {
        return ngx_conf_include(cf, nullptr, conf);
    }
    for (const RealmDirective& directive : kDirectives) {
        if (view(word[0]) != directive.name) {
            continue;
        }
        if (word.size() - 1 < directive.least || word.size() - 1 > directive.most) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid number of arguments in \"%V\" directive", &word[0]);
            return kConfError;
        }
        char* const result = directive.parse(cf, parse);
        if (result != NGX_CONF_OK && result != kConfError) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" directive %s", &word[0], result);
            return kConfError;
        }
        return result;
    }
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "unknown directive \"%V\" in session_realm", &word[0]);
    return kConfError;
}

char* finish(ngx_conf_t* cf, Parse& parse) noexcept {
    RealmConf& realm = *parse.realm;
    Timeouts& timeouts = realm.core.timeouts;
    if (!parse.idle) {
        ngx_str_t text = str(kDefaultIdle);
        timeouts.idle = ngx_parse_time(&text, 0);
    }
    if (!parse.absolute) {
        ngx_str_t text = str(kDefaultAbsolute);
        timeouts.absolute = ngx_parse_time(&text, 0);
    }
    if (!parse.rotate && (!parse_rotate_time(cf, kDefaultRotate, kSecond, realm.core.rotate) ||
                          !parse_rotate_time(cf, kDefaultGrace, 0, realm.core.rotation_grace))) {
        return kConfError;
    }
    if (timeouts.idle >= timeouts.absolute) {
        ngx_conf_log_error(
            NGX_LOG_WARN, cf, 0,
            "realm \"%V\": idle_timeout is not shorter than absolute_timeout and never "
            "takes effect",
            &realm.name);
    }
    if (timeouts.idle == 0) {
        ngx_conf_log_error(
            NGX_LOG_WARN, cf, 0,
            "realm \"%V\": without idle_timeout an unattended session stays open until "
            "absolute_timeout",
            &realm.name);
    }
    if (!parse.max_data) {
        realm.max_data = kDefaultMaxData;
    }
    realm.generated_key = !parse.key_file;
    if (finish_realm_cookie(cf, realm) != NGX_OK) {
        return kConfError;
    }
    if (!parse.revalidate) {
        realm.core.revalidate = kDefaultRevalidate;
    }
    const auto& main = *static_cast<const MainConf*>(
        ngx_http_conf_get_module_main_conf(cf, ngx_http_session_guard_module));
    if (finish_store(cf, main, realm, parse.pool) != NGX_CONF_OK) {
        return kConfError;
    }
    realm.core.has_store = realm.store != nullptr;
    return add_zone(cf, realm, parse.zone ? parse.zone_size : kDefaultZone) == NGX_OK ? NGX_CONF_OK
                                                                                      : kConfError;
}

bool valid_realm_name(std::string_view name) noexcept {
    constexpr std::string_view kAllowed =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    return !name.empty() && name.size() <= kMaxRealmName &&
           name.find_first_not_of(kAllowed) == std::string_view::npos && name != "off";
}

void destroy_realm(void* data) noexcept {
    auto* const realm = static_cast<RealmConf*>(data);
    realm->key_file.wipe();  // a configuration that was refused has not loaded, nor wiped, them
    realm->~RealmConf();
}

// In cf->pool; the destructor (OpenSSL contexts) runs when the configuration goes.
RealmConf* new_realm(ngx_conf_t* cf) noexcept {
    ngx_pool_cleanup_t* const cleanup = ngx_pool_cleanup_add(cf->pool, sizeof(RealmConf));
    if (cleanup == nullptr) {
        return nullptr;
    }
    auto* const realm = new (cleanup->data) RealmConf{};
    cleanup->handler = destroy_realm;
    return realm;
}

RealmConf* declare_realm(ngx_conf_t* cf, MainConf& conf) noexcept {
    const ngx_str_t& name = words(cf)[1];
    if (!valid_realm_name(view(name))) {
        ngx_conf_log_error(
            NGX_LOG_EMERG, cf, 0,
            "invalid realm name \"%V\": 1 to 64 letters, digits, \"_\", \".\", \"-\"", &name);
        return nullptr;
    }
    if (find_realm(conf, name) != nullptr) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "duplicate session_realm \"%V\"", &name);
        return nullptr;
    }
    RealmConf* const realm = new_realm(cf);
    auto** const place = static_cast<RealmConf**>(ngx_array_push(&conf.realms));
    if (realm == nullptr || place == nullptr) {
        return nullptr;
    }
    *place = realm;
    realm->name = name;
    realm->index = conf.realms.nelts - 1;
    realm->core.name = view(name);
    conf.in_use = true;
    return realm;
}

}  // namespace

char* session_realm_block(ngx_conf_t* cf, ngx_command_t*, void* conf) noexcept {
    auto& main = *static_cast<MainConf*>(conf);
    Parse parse{.realm = declare_realm(cf, main)};
    if (parse.realm == nullptr) {
        return kConfError;
    }
    const ngx_conf_t saved = *cf;
    cf->handler = dispatch;
    cf->handler_conf = reinterpret_cast<decltype(cf->handler_conf)>(&parse);
    char* const result = ngx_conf_parse(cf, nullptr);
    *cf = saved;
    if (result != NGX_CONF_OK) {
        return result;
    }
    if (finish(cf, parse) != NGX_CONF_OK) {
        return kConfError;
    }
    return check_cookie_clash(cf, main, *parse.realm);
}

RealmConf* find_realm(const MainConf& conf, const ngx_str_t& name) noexcept {
    for (RealmConf* const realm : conf.all_realms()) {
        if (view(realm->name) == view(name)) {
            return realm;
        }
    }
    return nullptr;
}

void* create_main_conf(ngx_conf_t* cf) noexcept {
    auto* const conf = static_cast<MainConf*>(ngx_pcalloc(cf->pool, sizeof(MainConf)));
    if (conf == nullptr || ngx_array_init(&conf->realms, cf->pool, 4, sizeof(void*)) != NGX_OK ||
        ngx_array_init(&conf->identity_names, cf->pool, 4, sizeof(ngx_str_t)) != NGX_OK) {
        return nullptr;
    }
    return conf;
}

}  // namespace sg::ngx
