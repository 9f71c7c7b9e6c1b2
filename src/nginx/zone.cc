#include "nginx/zone.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <sys/mman.h>

#include <algorithm>
#include <new>

#include "nginx/clock.h"
#include "nginx/conf.h"
#include "nginx/str.h"
#include "nginx/tier/store_conf.h"

namespace sg::ngx {
namespace {

constexpr std::uint64_t kRootMagic = kZoneMagic + sizeof(ZoneRoot);

ngx_slab_pool_t* slab_pool(const ngx_shm_zone_t* zone) noexcept {
    return reinterpret_cast<ngx_slab_pool_t*>(zone->shm.addr);
}

std::optional<Table> attach_table(const ngx_shm_zone_t* zone, ZoneRoot*& root) noexcept {
    root = static_cast<ZoneRoot*>(slab_pool(zone)->data);
    if (root == nullptr || root->magic != kRootMagic) {
        return std::nullopt;
    }
    return Table::attach({static_cast<std::byte*>(root->table), root->table_bytes});
}

// Sessions, handles and keys do not belong into core dumps.
void keep_out_of_core_dumps(ngx_shm_zone_t* zone) noexcept {
#ifdef MADV_DONTDUMP
    if (madvise(zone->shm.addr, zone->shm.size, MADV_DONTDUMP) == -1) {
        ngx_log_error(NGX_LOG_WARN, zone->shm.log, ngx_errno,
                      "session guard: zone \"%V\" stays in core dumps: madvise() failed",
                      &zone->shm.name);
    }
#endif
}

// A look-up in a large zone is two or three reads from memory, each with a page walk: a third
// cheaper in huge pages, where the system grants them
// (/sys/kernel/mm/transparent_hugepage/shmem_enabled).
void ask_for_huge_pages(const ngx_shm_zone_t* zone) noexcept {
#ifdef MADV_HUGEPAGE
    (void)madvise(zone->shm.addr, zone->shm.size,
                  MADV_HUGEPAGE);  // a wish: failure changes nothing
#endif
}

// The zone of the same name in the cycle that is running, whatever its size or module version.
ngx_shm_zone_t* zone_in_use(const ngx_str_t& name) noexcept {
    if (ngx_cycle == nullptr || ngx_cycle->shared_memory.part.elts == nullptr) {
        return nullptr;
    }
    auto* part = const_cast<ngx_list_part_t*>(&ngx_cycle->shared_memory.part);
    for (; part != nullptr; part = part->next) {
        auto* const zones = static_cast<ngx_shm_zone_t*>(part->elts);
        for (ngx_uint_t i = 0; i < part->nelts; ++i) {
            if (zones[i].shm.addr != nullptr && view(zones[i].shm.name) == view(name)) {
                return &zones[i];
            }
        }
    }
    return nullptr;
}

std::optional<Table> format_table(ngx_shm_zone_t* zone, const Table* old) noexcept {
    ngx_slab_pool_t* const pool = slab_pool(zone);
    pool->log_nomem = 0;
    void* const place = ngx_slab_calloc(pool, sizeof(ZoneRoot));
    if (place == nullptr) {
        return std::nullopt;
    }
    auto* const root = new (place) ZoneRoot{};
    const std::size_t bytes = pool->pfree * ngx_pagesize;
    void* const memory = ngx_slab_alloc(pool, bytes);
    if (memory == nullptr) {
        return std::nullopt;
    }
    std::array<std::uint8_t, Table::kHashKeyBytes> hash_key;
    std::array<std::uint8_t, Table::kMasterKeyBytes> master;
    if (RAND_bytes(reinterpret_cast<unsigned char*>(&root->node), sizeof root->node) != 1 ||
        RAND_bytes(hash_key.data(), static_cast<int>(hash_key.size())) != 1 ||
        RAND_bytes(master.data(), static_cast<int>(master.size())) != 1) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                      "session guard: zone \"%V\": RAND_bytes() failed", &zone->shm.name);
        return std::nullopt;
    }
    if (old != nullptr) {
        const auto kept = old->master_key();
        std::copy(kept.begin(), kept.end(), master.begin());
    }
    const auto table = Table::format({static_cast<std::byte*>(memory), bytes}, hash_key, master);
    OPENSSL_cleanse(master.data(), master.size());
    root->table = memory;
    root->table_bytes = bytes;
    root->magic = kRootMagic;
    pool->data = root;
    return table;
}

// The sessions stay where they are until the new workers move them: this reload may still fail for
// another reason. But it is refused when they would find no room.
ngx_int_t check_room(const ngx_shm_zone_t* zone, const ngx_shm_zone_t* old_zone,
                     const RealmConf& realm) noexcept {
    const std::uint64_t there = realm.table->stats().cells_total;
    const TableStats used = realm.old_zones.stats();
    if (used.cells_used > there) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                      "session guard: zone \"%V\" of %uz bytes is too small for the sessions in "
                      "it now: %uL cells needed, %uL there (the running zone has %uz bytes); "
                      "the running configuration goes on",
                      &zone->shm.name, zone->shm.size, used.cells_used, there, old_zone->shm.size);
        return NGX_ERROR;
    }
    ngx_log_error(NGX_LOG_NOTICE, zone->shm.log, 0,
                  "session guard: zone \"%V\": %uL sessions are handed over from %uz to %uz bytes",
                  &zone->shm.name, used.live, old_zone->shm.size, zone->shm.size);
    return NGX_OK;
}

ngx_int_t refuse(const ngx_shm_zone_t* zone, const char* why) noexcept {
    ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0, "session guard: zone \"%V\": %s",
                  &zone->shm.name, why);
    return NGX_ERROR;
}

// The zone of the running configuration, and what it has itself not yet emptied.
ngx_int_t keep_old_zones(const ngx_shm_zone_t* zone, const ngx_shm_zone_t* old_zone,
                         std::span<std::byte> old_table, RealmConf& realm) noexcept {
    // Another tag: another build of the module, whose configuration cannot be read.
    const bool same_module = old_zone->tag == zone->tag;
    if (same_module) {
        const auto& before = *static_cast<const RealmConf*>(old_zone->data);
        if (!realm.old_zones.inherit(before.old_zones)) {
            return refuse(zone, "its old pages cannot be mapped");
        }
    } else if (Table::attach(old_table)->is_in_handover()) {
        return refuse(zone,
                      "sessions are still being handed over from an earlier size; reload again "
                      "when the old workers are gone");
    }
    if (realm.old_zones.is_full()) {
        return refuse(zone, "workers of too many earlier sizes are still there; reload later");
    }
    const std::span<std::byte> memory{reinterpret_cast<std::byte*>(old_zone->shm.addr),
                                      old_zone->shm.size};
    return realm.old_zones.add(memory, old_table)
               ? NGX_OK
               : refuse(zone, "the pages of the running zone cannot be mapped a second time");
}

// A new zone: the first, or one of another size.
ngx_int_t make_zone(ngx_shm_zone_t* zone, RealmConf& realm) noexcept {
    keep_out_of_core_dumps(zone);
    ask_for_huge_pages(zone);
    ngx_shm_zone_t* const old_zone = zone_in_use(zone->shm.name);
    if (old_zone == nullptr || slab_pool(old_zone)->data == nullptr) {
        realm.table = format_table(zone, nullptr);
        return NGX_OK;
    }
    ZoneRoot* root = nullptr;
    const std::optional<Table> old = attach_table(old_zone, root);
    if (!old) {
        return refuse(zone,
                      "the running zone has another layout; restart nginx to change the module "
                      "(this ends the sessions)");
    }
    const std::span<std::byte> old_table{static_cast<std::byte*>(root->table), root->table_bytes};
    realm.table = format_table(zone, &*old);
    if (!realm.table) {
        return NGX_OK;  // the caller says so
    }
    if (keep_old_zones(zone, old_zone, old_table, realm) != NGX_OK) {
        return NGX_ERROR;
    }
    return check_room(zone, old_zone, realm);
}

// The zone of before, over a reload.
ngx_int_t keep_zone(const ngx_shm_zone_t* zone, const RealmConf& before,
                    RealmConf& realm) noexcept {
    ZoneRoot* root = nullptr;
    realm.table = attach_table(zone, root);
    return realm.old_zones.inherit(before.old_zones)
               ? NGX_OK
               : refuse(zone, "its old pages cannot be mapped");
}

ngx_int_t load_keys(ngx_shm_zone_t* zone, RealmConf& realm) noexcept {
    if (realm.generated_key) {
        const auto master = realm.table->master_key();
        std::copy(master.begin(), master.end(), realm.key_file.masters[0].begin());
        realm.key_file.count = 1;
        realm.key_file.current = 0;
    }
    const KeyRing::Load loaded = realm.keys.load(view(realm.name), realm.key_file);
    realm.key_file.wipe();
    if (realm.store != nullptr && loaded == KeyRing::Load::ok) {
        set_store_keys(realm);
    }
    if (loaded != KeyRing::Load::ok) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0, "session guard: realm \"%V\": %s",
                      &realm.name,
                      loaded == KeyRing::Load::duplicate_key_id
                          ? "two keys of the key file share a key id; replace one of them"
                          : "OpenSSL could not derive the keys");
        return NGX_ERROR;
    }
    return NGX_OK;
}

// ngx_init_cycle (ngx_cycle.c) calls this in the master: with `data` when the zone is kept over a
// reload, without it for a new zone or a changed size.
ngx_int_t init_zone(ngx_shm_zone_t* zone, void* data) noexcept {
    auto& realm = *static_cast<RealmConf*>(zone->data);
    if (realm.store != nullptr && prepare_store(realm, zone->shm.log) != NGX_OK) {
        return NGX_ERROR;
    }
    const ngx_int_t made = data != nullptr
                               ? keep_zone(zone, *static_cast<const RealmConf*>(data), realm)
                               : make_zone(zone, realm);
    if (made != NGX_OK) {
        return NGX_ERROR;
    }
    if (!realm.table) {
        return refuse(zone, "it could not be laid out");
    }
    realm.shared = static_cast<ZoneRoot*>(slab_pool(zone)->data);
    realm.core.table = &*realm.table;
    realm.core.keys = &realm.keys;
    realm.core.node = realm.shared->node;
    realm.core.feed = &realm.shared->feed;
    return load_keys(zone, realm);
}

}  // namespace

ngx_int_t add_zone(ngx_conf_t* cf, RealmConf& realm, ssize_t size) noexcept {
    constexpr std::string_view kPrefix = "session_guard:";
    const std::span<char> text = characters(cf->pool, kPrefix.size() + realm.name.len);
    if (text.empty()) {
        return NGX_ERROR;
    }
    kPrefix.copy(text.data(), kPrefix.size());
    view(realm.name).copy(text.data() + kPrefix.size(), realm.name.len);
    ngx_str_t name = str({text.data(), text.size()});
    realm.zone = ngx_shared_memory_add(cf, &name, static_cast<std::size_t>(size),
                                       &ngx_http_session_guard_module);
    if (realm.zone == nullptr) {
        return NGX_ERROR;
    }
    realm.zone->init = init_zone;
    realm.zone->data = &realm;
    return NGX_OK;
}

bool ZoneRoot::Tally::is_due(TimeMs now) noexcept {
    TimeMs last = last_logged.load(std::memory_order_relaxed);
    const bool due = last == 0 || now - last >= kMinute || now < last;
    return due && last_logged.compare_exchange_strong(last, now, std::memory_order_relaxed);
}

bool count_event(RealmConf& realm, Event event, TimeMs now) noexcept {
    auto& tally = realm.shared->tallies[static_cast<std::size_t>(event)];
    tally.count.fetch_add(1, std::memory_order_relaxed);
    return tally.is_due(now);
}

std::uint64_t event_count(const RealmConf& realm, Event event) noexcept {
    return realm.shared->tallies[static_cast<std::size_t>(event)].count.load(
        std::memory_order_relaxed);
}

void StoreTimes::add(std::size_t count, std::int64_t took) noexcept {
    const auto us = static_cast<std::uint64_t>(std::max<std::int64_t>(took, 0));
    batches.fetch_add(1, std::memory_order_relaxed);
    operations.fetch_add(count, std::memory_order_relaxed);
    microseconds.fetch_add(us, std::memory_order_relaxed);
    const auto* const bound = std::lower_bound(kBounds.begin(), kBounds.end(), (us + 999) / 1000);
    buckets[static_cast<std::size_t>(bound - kBounds.begin())].fetch_add(1,
                                                                         std::memory_order_relaxed);
}

std::size_t minimum_zone_bytes() noexcept {
    // nginx's slab header and page table take some pages themselves.
    return Table::minimum_bytes() + 8 * ngx_pagesize;
}

}  // namespace sg::ngx
