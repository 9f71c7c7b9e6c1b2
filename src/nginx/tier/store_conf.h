// The directives of session_realm that name a store, and its opening.
#pragma once

#include "nginx/ngx.h"

#include <memory>
#include <string_view>

#include "core/seal.h"
#include "nginx/conf.h"
#include "nginx/tier/threads.h"
#include "store/lmdb_store.h"
#include "store/memcached_store.h"

namespace sg::ngx {

class StoreQueue;

// What a realm with a store has beyond one without; lives in the configuration, in cf->pool.
struct StoreConf {
    LmdbConf lmdb;            // with a path: an LMDB file
    MemcachedConf memcached;  // with servers: memcached
    ngx_thread_pool_t* pool = nullptr;
    const ngx_core_conf_t* core = nullptr;  // who the workers run as
    SealKeys keys;
    TimeMs patience = 0;  // how long a request waits for an answer

    // Made in each worker.
    std::unique_ptr<StoreQueue> queue;

    bool is_lmdb() const noexcept { return !lmdb.path.empty(); }

    StoreConf() noexcept;
    ~StoreConf();
};

// store_directive.cc:
// store none | lmdb path [map_size=size] | memcached server... [replicas=n] [timeout=time] ...
char* parse_store(ngx_conf_t* cf, RealmConf& realm) noexcept;
// The end of the block: what must hold between its directives. `pool`: from thread_pool, may be
// empty.
char* finish_store(ngx_conf_t* cf, const MainConf& conf, RealmConf& realm,
                   const ngx_str_t& pool) noexcept;

// With the realm's keys, once they are loaded.
void set_store_keys(RealmConf& realm) noexcept;

// With the zone, in the master, before the fork and while a reload can still be refused: creates
// and checks files. Never at `nginx -t`.
ngx_int_t prepare_store(const RealmConf& realm, ngx_log_t* log) noexcept;

// In a worker. nullptr, logged: it cannot be opened.
std::unique_ptr<Store> open_store(RealmConf& realm, ngx_log_t* log) noexcept;

// init_process and exit_process.
ngx_int_t start_stores(const MainConf& conf, ngx_log_t* log) noexcept;
void stop_stores(const MainConf& conf) noexcept;

}  // namespace sg::ngx
