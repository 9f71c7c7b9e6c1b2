// store none | lmdb path [map_size=] | memcached server... [replicas=] [timeout=]
// [connect_timeout=]
#include <algorithm>
#include <array>
#include <new>

#include "nginx/conf_text.h"
#include "nginx/str.h"
#include "nginx/tier/store_conf.h"
#include "nginx/tier/store_queue.h"

namespace sg::ngx {
namespace {

constexpr std::string_view kMapSize = "1g";
constexpr ssize_t kSmallestMap = 1024 * 1024;
constexpr TimeMs kLmdbPatience = kSecond;

constexpr in_port_t kMemcachedPort = 11211;
constexpr TimeMs kMemcachedTimeout = 50;
constexpr TimeMs kLongestTimeout = 10 * kSecond;
constexpr ngx_int_t kMostWeight = 1000;
// What the nodes need to write back what they know to a server that came up empty.
constexpr TimeMs kReseeding = kMinute;

void destroy_store_conf(void* data) noexcept {
    static_cast<StoreConf*>(data)->~StoreConf();
}

StoreConf* new_store_conf(ngx_conf_t* cf) noexcept {
    ngx_pool_cleanup_t* const cleanup = ngx_pool_cleanup_add(cf->pool, sizeof(StoreConf));
    if (cleanup == nullptr) {
        return nullptr;
    }
    auto* const conf = new (cleanup->data) StoreConf;
    cleanup->handler = destroy_store_conf;
    return conf;
}

// The prefix itself may be a relative one (nginx -p .).
ngx_int_t make_absolute(ngx_conf_t* cf, ngx_str_t& path) noexcept {
    if (view(path).starts_with('/')) {
        return NGX_OK;
    }
    std::array<char, NGX_MAX_PATH> folder;
    if (getcwd(folder.data(), folder.size()) == nullptr) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno, "getcwd() failed");
        return NGX_ERROR;
    }
    const std::string_view here = folder.data();
    const std::span<char> text = characters(cf->pool, here.size() + 1 + path.len + 1);
    if (text.empty()) {
        return NGX_ERROR;
    }
    here.copy(text.data(), here.size());
    text[here.size()] = '/';
    view(path).copy(text.data() + here.size() + 1, path.len);
    text.back() = '\0';
    path = str({text.data(), text.size() - 1});
    return NGX_OK;
}

char* parse_lmdb(ngx_conf_t* cf, RealmConf& realm) noexcept {
    const std::span<ngx_str_t> word = words(cf);
    if (word.size() < 3 || word.size() > 4) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid number of arguments in \"store lmdb\": a path, and perhaps "
                           "map_size=");
        return kConfError;
    }
    StoreConf* const conf = new_store_conf(cf);
    ngx_str_t path = word[2];
    if (conf == nullptr || ngx_conf_full_name(cf->cycle, &path, 0) != NGX_OK ||
        make_absolute(cf, path) != NGX_OK) {
        return kConfError;
    }
    ngx_str_t size = str(kMapSize);
    std::string_view value;
    if (word.size() == 4) {
        if (!value_of(word[3], "map_size=", value)) {
            return invalid_parameter(cf, word[3]);
        }
        size = str(value);
    }
    const off_t bytes = ngx_parse_offset(&size);
    if (bytes < kSmallestMap) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid map_size \"%V\": at least 1m", &size);
        return kConfError;
    }
    conf->lmdb = {.path = view(path), .map_size = static_cast<std::size_t>(bytes)};
    conf->patience = kLmdbPatience;
    conf->core = reinterpret_cast<const ngx_core_conf_t*>(
        ngx_get_conf(cf->cycle->conf_ctx, ngx_core_module));
    realm.store = conf;
    return NGX_CONF_OK;
}

bool is_listed(const MemcachedConf& conf, const MemcachedServer& server) noexcept {
    return std::any_of(conf.servers.begin(), conf.servers.begin() + conf.count,
                       [&server](const MemcachedServer& other) {
                           return other.host == server.host && other.port == server.port;
                       });
}

// "/3" behind a host and port; a path of a socket has slashes of its own.
bool cut_weight(ngx_str_t& word, MemcachedServer& server) noexcept {
    const std::size_t slash = view(word).rfind('/');
    if (slash == std::string_view::npos || view(word).starts_with("unix:")) {
        return true;
    }
    const ngx_int_t weight = ngx_atoi(word.data + slash + 1, word.len - slash - 1);
    server.weight = static_cast<std::uint16_t>(weight);
    word.len = slash;
    return weight >= 1 && weight <= kMostWeight;
}

// host[:port][/weight], [::1]:port, unix:/path. Names are resolved when a thread connects.
char* add_server(ngx_conf_t* cf, const ngx_str_t& word, MemcachedConf& conf) noexcept {
    MemcachedServer server;
    ngx_url_t url;
    ngx_memzero(&url, sizeof url);
    url.url = word;
    if (!cut_weight(url.url, server)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid weight in \"%V\": 1 to 1000", &word);
        return kConfError;
    }
    url.default_port = kMemcachedPort;
    url.no_resolve = 1;
    if (ngx_parse_url(cf->pool, &url) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid memcached server \"%V\": %s", &word,
                           url.err != nullptr ? url.err : "host:port, or unix:/path");
        return kConfError;
    }
    const bool is_socket = url.family == AF_UNIX;
    server.host = copy(cf->pool, view(url.host));
    server.port = is_socket ? 0 : url.port;
    if (server.host.starts_with('[')) {
        server.host = server.host.substr(1, server.host.size() - 2);
    }
    if (server.host.empty() || (is_socket ? server.host.front() != '/' : url.port == 0)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid memcached server \"%V\"", &word);
        return kConfError;
    }
    if (is_listed(conf, server)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "duplicate memcached server \"%V\"", &word);
        return kConfError;
    }
    if (conf.count == conf.servers.size()) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "too many memcached servers at \"%V\": at most %uz", &word,
                           conf.servers.size());
        return kConfError;
    }
    conf.servers[conf.count++] = server;
    return NGX_CONF_OK;
}

bool parse_timeout(std::string_view text, TimeMs& out) noexcept {
    ngx_str_t value = str(text);
    const ngx_int_t parsed = ngx_parse_time(&value, 0);
    out = parsed;
    return parsed != NGX_ERROR && out >= 1 && out <= kLongestTimeout;
}

char* parse_memcached_word(ngx_conf_t* cf, const ngx_str_t& word, MemcachedConf& conf) noexcept {
    std::string_view value;
    if (value_of(word, "replicas=", value)) {
        const ngx_str_t number = str(value);
        const ngx_int_t replicas = ngx_atoi(number.data, number.len);
        conf.replicas = static_cast<std::size_t>(replicas);
        return replicas >= 1 ? NGX_CONF_OK : invalid_parameter(cf, word);
    }
    if (value_of(word, "timeout=", value)) {
        return parse_timeout(value, conf.timeout) ? NGX_CONF_OK : invalid_parameter(cf, word);
    }
    if (value_of(word, "connect_timeout=", value)) {
        return parse_timeout(value, conf.connect_timeout) ? NGX_CONF_OK
                                                          : invalid_parameter(cf, word);
    }
    // An option with a typing error is no host name.
    return view(word).find('=') == std::string_view::npos || view(word).starts_with("unix:")
               ? add_server(cf, word, conf)
               : invalid_parameter(cf, word);
}

char* parse_memcached(ngx_conf_t* cf, RealmConf& realm) noexcept {
    StoreConf* const conf = new_store_conf(cf);
    if (conf == nullptr) {
        return kConfError;
    }
    MemcachedConf& memcached = conf->memcached;
    memcached.timeout = kMemcachedTimeout;
    memcached.connect_timeout = kMemcachedTimeout;
    memcached.reseeding = kReseeding;
    for (const ngx_str_t& word : words(cf).subspan(2)) {
        if (char* const wrong = parse_memcached_word(cf, word, memcached)) {
            return wrong;
        }
    }
    if (memcached.count == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"store memcached\" names no server");
        return kConfError;
    }
    if (memcached.replicas > memcached.count) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"replicas=%uz\" needs as many servers; there are %uz",
                           memcached.replicas, memcached.count);
        return kConfError;
    }
    // One batch that is under way, and the one that answers; each has twice the time of one
    // exchange.
    conf->patience = 4 * (memcached.timeout + memcached.connect_timeout) + 100;
    realm.store = conf;
    return NGX_CONF_OK;
}

}  // namespace

char* parse_store(ngx_conf_t* cf, RealmConf& realm) noexcept {
    const std::span<ngx_str_t> word = words(cf);
    const std::string_view kind = view(word[1]);
    if (kind == "none" && word.size() == 2) {
        return NGX_CONF_OK;
    }
    if (kind == "lmdb") {
        return parse_lmdb(cf, realm);
    }
    if (kind == "memcached") {
        return parse_memcached(cf, realm);
    }
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid store \"%V\": \"none\", \"lmdb path\" or \"memcached host:port\"",
                       &word[1]);
    return kConfError;
}

}  // namespace sg::ngx
