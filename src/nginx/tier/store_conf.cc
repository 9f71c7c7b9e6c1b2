#include "nginx/tier/store_conf.h"

#include <array>
#include <new>

#include "nginx/conf_text.h"
#include "nginx/str.h"
#include "nginx/tier/store_queue.h"
#include "nginx/tier/test_store.h"

namespace sg::ngx {
namespace {

constexpr std::string_view kMapSize = "1g";
constexpr ssize_t kSmallestMap = 1024 * 1024;
constexpr TimeMs kLmdbPatience = kSecond;
constexpr TimeMs kCheckBudget = 2 * kSecond;

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

}  // namespace

StoreConf::StoreConf() noexcept = default;

StoreConf::~StoreConf() {
    queue.reset();
    keys.wipe();
}

char* parse_store(ngx_conf_t* cf, RealmConf& realm) noexcept {
    const std::span<ngx_str_t> word = words(cf);
    const std::string_view kind = view(word[1]);
    if (kind == "none" && word.size() == 2) {
        return NGX_CONF_OK;
    }
    if (kind == "lmdb") {
        return parse_lmdb(cf, realm);
    }
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid store \"%V\": \"none\" or \"lmdb path\"",
                       &word[1]);
    return kConfError;
}

char* finish_store(ngx_conf_t* cf, const MainConf& conf, RealmConf& realm,
                   const ngx_str_t& pool) noexcept {
    if (realm.store == nullptr) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "realm \"%V\" has no store: a restart or binary upgrade of nginx ends "
                           "its sessions",
                           &realm.name);
        return NGX_CONF_OK;
    }
    if (realm.generated_key) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "realm \"%V\" has a store and needs a \"key_file\": a generated key "
                           "would be lost with the zone",
                           &realm.name);
        return kConfError;
    }
    for (const RealmConf* const other : conf.all_realms()) {
        if (other != &realm && other->store != nullptr &&
            other->store->lmdb.path == realm.store->lmdb.path) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "realms \"%V\" and \"%V\" must not share one store file",
                               &other->name, &realm.name);
            return kConfError;
        }
    }
    if (!kHasThreads) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "realm \"%V\": \"store\" needs an nginx built --with-threads",
                           &realm.name);
        return kConfError;
    }
    ngx_str_t name = pool;
    realm.store->pool = ngx_thread_pool_add(cf, pool.len > 0 ? &name : nullptr);
    return realm.store->pool != nullptr ? NGX_CONF_OK : kConfError;
}

// The files belong to the user the workers run as.
ngx_int_t prepare_store(const RealmConf& realm, ngx_log_t* log) noexcept {
    if (ngx_test_config) {
        return NGX_OK;
    }
    const ngx_core_conf_t& core = *realm.store->core;
    const bool root = geteuid() == 0 && core.user != static_cast<ngx_uid_t>(NGX_CONF_UNSET_UINT);
    const uid_t user = root ? core.user : geteuid();
    const gid_t group = root ? core.group : getegid();
    const std::string wrong = prepare_lmdb(realm.store->lmdb, user, group, kCheckBudget);
    if (wrong.empty()) {
        return NGX_OK;
    }
    ngx_log_error(NGX_LOG_EMERG, log, 0, "session guard: realm \"%V\": store: %s", &realm.name,
                  wrong.c_str());
    return NGX_ERROR;
}

std::unique_ptr<Store> open_store(RealmConf& realm, ngx_log_t* log) noexcept {
    std::string error;
    std::unique_ptr<Store> store =
        make_lmdb_store(realm.store->lmdb, realm.store->keys, realm.shared->store, error);
    if (store == nullptr) {
        ngx_log_error(NGX_LOG_ALERT, log, 0, "session guard: realm \"%V\": store: %s", &realm.name,
                      error.c_str());
    }
    return for_tests(std::move(store));
}

ngx_int_t start_stores(const MainConf& conf, ngx_log_t* log) noexcept {
    for (RealmConf* const realm : conf.all_realms()) {
        if (realm->store == nullptr) {
            continue;
        }
        realm->store->queue.reset(new (std::nothrow) StoreQueue);
        if (realm->store->queue == nullptr || realm->store->queue->start(*realm, log) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    return NGX_OK;
}

void stop_stores(const MainConf& conf) noexcept {
    for (RealmConf* const realm : conf.all_realms()) {
        if (realm->store != nullptr && realm->store->queue != nullptr) {
            realm->store->queue->flush();
            realm->core.journal = nullptr;
            realm->store->queue.reset();
        }
    }
}

}  // namespace sg::ngx
