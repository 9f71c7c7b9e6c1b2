#include "nginx/tier/store_conf.h"

#include <functional>
#include <new>

#include "nginx/clock.h"
#include "nginx/conf_text.h"
#include "nginx/str.h"
#include "nginx/tier/store_queue.h"
#include "nginx/tier/test_store.h"

namespace sg::ngx {
namespace {

constexpr TimeMs kCheckBudget = 2 * kSecond;

// Realms may share servers: their names and keys differ. A file belongs to one.
bool share_a_file(const StoreConf& a, const StoreConf& b) noexcept {
    return a.is_lmdb() && b.is_lmdb() && a.lmdb.path == b.lmdb.path;
}

// What the zone knows of servers, it knows by their numbers.
void note_servers(const MemcachedConf& conf, StoreHealth& health) noexcept {
    std::uint64_t digest = 1;
    for (std::size_t i = 0; i < conf.count; ++i) {
        const MemcachedServer& server = conf.servers[i];
        digest = digest * 0x100000001b3 + std::hash<std::string_view>()(server.host) + server.port;
    }
    const std::uint64_t before = health.servers.exchange(digest);
    if (before != 0 && before != digest) {
        health.gaps.renumber(now_ms(), conf.longest_absolute);
    }
}

}  // namespace

StoreConf::StoreConf() noexcept = default;

StoreConf::~StoreConf() {
    queue.reset();
    keys.wipe();
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
            share_a_file(*other->store, *realm.store)) {
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
    realm.store->memcached.longest_absolute = realm.core.timeouts.absolute;
    realm.store->pool = ngx_thread_pool_add(cf, pool.len > 0 ? &name : nullptr);
    return realm.store->pool != nullptr ? NGX_CONF_OK : kConfError;
}

void set_store_keys(RealmConf& realm) noexcept {
    StoreConf& store = *realm.store;
    if (!store.is_lmdb()) {
        note_servers(store.memcached, realm.shared->store);
    }
    // (Fails for an empty ring only.)
    if (realm.keys.seal_keys(store.keys)) {
        // The oldest key, which all nodes have while a new one is being handed out; and a public id
        // that nobody has.
        const std::uint8_t oldest = store.keys.keys[store.keys.count - 1].id;
        store.memcached.canary = realm.keys.store_key(oldest, PublicId{}).value_or(StoreKey{});
    }
}

// The files belong to the user the workers run as. (With "master_process off" that is whoever
// started nginx: only a worker of a master changes its user.)
ngx_int_t prepare_store(const RealmConf& realm, ngx_log_t* log) noexcept {
    if (ngx_test_config || !realm.store->is_lmdb()) {
        return NGX_OK;
    }
    const ngx_core_conf_t& core = *realm.store->core;
    const bool changes = core.master != 0 && geteuid() == 0 &&
                         core.user != static_cast<ngx_uid_t>(NGX_CONF_UNSET_UINT);
    const uid_t user = changes ? core.user : geteuid();
    const gid_t group = changes ? core.group : getegid();
    const std::string wrong = prepare_lmdb(realm.store->lmdb, user, group, kCheckBudget);
    if (wrong.empty()) {
        return NGX_OK;
    }
    ngx_log_error(NGX_LOG_EMERG, log, 0, "session guard: realm \"%V\": store: %s", &realm.name,
                  wrong.c_str());
    return NGX_ERROR;
}

std::unique_ptr<Store> open_store(RealmConf& realm, ngx_log_t* log) noexcept {
    const StoreConf& conf = *realm.store;
    std::string error = "no memory, or OpenSSL lacks AES-256-GCM";
    std::unique_ptr<Store> store =
        conf.is_lmdb() ? make_lmdb_store(conf.lmdb, conf.keys, realm.shared->store, error)
                       : make_memcached_store(conf.memcached, conf.keys, realm.shared->store);
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
