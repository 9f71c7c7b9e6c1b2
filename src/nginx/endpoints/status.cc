#include "nginx/endpoints/status.h"

#include <array>
#include <memory>

#include "json/status_json.h"
#include "nginx/clock.h"
#include "nginx/conf.h"
#include "nginx/conf_text.h"
#include "nginx/long_lived/long_lived.h"
#include "nginx/refusal.h"
#include "nginx/response_headers.h"
#include "nginx/tier/store_conf.h"
#include "nginx/tier/store_queue.h"

namespace sg::ngx {
namespace {

constexpr std::string_view kDefaultFrom = "unix:,127.0.0.0/8,::1";
constexpr std::size_t kRoomPerRealm = 4096;
constexpr std::size_t kRoomPerServer = 64;  // and the host, each byte of which may be escaped
constexpr std::size_t kLargestEscape = 6;

constexpr std::array<std::string_view, static_cast<std::size_t>(Event::count)> kEventNames{
    "zone_full",
    "random_failed",
    "control_ignored",
    "control_malformed",
    "csrf_unattested",
    "record_damaged",
    "zone_repaired",
    "insecure",
    "store_write_failed",
    "store_unknown",
    "store_write_dropped",
    "store_change_again",
    "reuse_detected",
    "feed_gap",
    "limited",
    "over_limit",
    "cut_ended",
    "cut_regenerated",
    "cut_expired_idle",
    "cut_expired_absolute",
    "cut_otherwise",
};

constexpr std::array<std::string_view, static_cast<std::size_t>(StoreFault::count_)> kFaultNames{
    "unreachable", "timed_out", "protocol",     "newer_layout",
    "bad_seal",    "wrong_key", "breaker_open", "full",
};

std::string_view state_name(Breaker::State state) noexcept {
    switch (state) {
        case Breaker::State::closed:
            return "closed";
        case Breaker::State::open:
            return "open";
        case Breaker::State::half_open:
            break;
    }
    return "half_open";
}

// What one realm's status points into; lives while the answer is written.
struct Counts {
    std::array<NamedCount, kEventNames.size()> events;
    std::array<NamedCount, kFaultNames.size()> faults;
    std::array<ServerStatus, kMaxServers> servers;
    std::array<std::uint64_t, StoreTimes::kBounds.size() + 1> look_ups;
    std::array<std::uint64_t, StoreTimes::kBounds.size() + 1> writes;
};

TimesStatus describe_times(const StoreTimes& times, std::span<std::uint64_t> buckets) noexcept {
    for (std::size_t i = 0; i < buckets.size(); ++i) {
        buckets[i] = times.buckets[i].load(std::memory_order_relaxed);
    }
    return {.batches = times.batches.load(std::memory_order_relaxed),
            .operations = times.operations.load(std::memory_order_relaxed),
            .microseconds = times.microseconds.load(std::memory_order_relaxed),
            .bounds = StoreTimes::kBounds,
            .buckets = buckets};
}

std::span<const ServerStatus> describe_servers(const MemcachedConf& conf, const StoreHealth& health,
                                               Counts& counts) noexcept {
    for (std::size_t i = 0; i < conf.count; ++i) {
        counts.servers[i] = {.host = conf.servers[i].host,
                             .port = conf.servers[i].port,
                             .breaker = state_name(health.breakers[i].state(now_ms()))};
    }
    return std::span(counts.servers).first(conf.count);
}

StoreStatus describe_store(const RealmConf& realm, Counts& counts) noexcept {
    const StoreHealth& health = realm.shared->store;
    for (std::size_t i = 0; i < kFaultNames.size(); ++i) {
        counts.faults[i] = {kFaultNames[i], health.faults[i].load(std::memory_order_relaxed)};
    }
    StoreStatus status;
    const StoreConf& conf = *realm.store;
    if (conf.is_lmdb()) {
        status.kind = "lmdb";
        status.breaker = state_name(health.breakers[0].state(now_ms()));
    } else {
        status.kind = "memcached";
        status.servers = describe_servers(conf.memcached, health, counts);
    }
    status.faults = counts.faults;
    status.feed_lag_ms = realm.shared->feed.lag(now_ms());
    status.look_ups = describe_times(realm.shared->look_ups, counts.look_ups);
    status.writes = describe_times(realm.shared->writes, counts.writes);
    if (const StoreQueue* const queue = conf.queue.get()) {
        status.waiting = queue->waiting();
        status.retrying = queue->retrying();
    }
    return status;
}

RealmStatus describe_realm(const RealmConf& realm, Counts& counts) noexcept {
    for (std::size_t i = 0; i < kEventNames.size(); ++i) {
        counts.events[i] = {kEventNames[i], event_count(realm, static_cast<Event>(i))};
    }
    const TableStats stats = stats_of(realm.core);
    RealmStatus status;
    status.name = view(realm.name);
    status.zone_bytes = realm.zone->shm.size;
    status.sessions = stats.live;
    status.cells_used = stats.cells_used;
    status.cells_total = stats.cells_total;
    status.repairs = stats.repairs;
    status.long_lived = count_long_lived(realm);
    status.events = counts.events;
    if (realm.store != nullptr) {
        status.store = describe_store(realm, counts);
    }
    return status;
}

std::size_t room_for(std::span<RealmConf* const> realms) noexcept {
    std::size_t room = 64;
    for (const RealmConf* const realm : realms) {
        room += kRoomPerRealm;
        const std::size_t count = realm->store != nullptr ? realm->store->memcached.count : 0;
        for (std::size_t i = 0; i < count; ++i) {
            room +=
                kRoomPerServer + kLargestEscape * realm->store->memcached.servers[i].host.size();
        }
    }
    return room;
}

template <typename T>
std::span<T> make_array(ngx_pool_t* pool, std::size_t count) noexcept {
    auto* const place = static_cast<T*>(ngx_palloc(pool, count * sizeof(T)));
    if (place != nullptr) {
        std::uninitialized_value_construct_n(place, count);
    }
    return place != nullptr ? std::span<T>(place, count) : std::span<T>();
}

ngx_int_t send_status(ngx_http_request_t* r) noexcept {
    const auto realms = main_conf(r)->all_realms();
    const auto statuses = make_array<RealmStatus>(r->pool, realms.size() + 1);
    const auto counts = make_array<Counts>(r->pool, realms.size() + 1);
    const std::span<char> text = characters(r->pool, room_for(realms));
    if (statuses.empty() || counts.empty() || text.empty()) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    for (std::size_t i = 0; i < realms.size(); ++i) {
        statuses[i] = describe_realm(*realms[i], counts[i]);
    }
    const std::size_t size = write_status_json(statuses.first(realms.size()), text);
    if (size == 0 || forbid_storing(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    ngx_str_t type = ngx_string("application/json");
    ngx_http_complex_value_t value;
    ngx_memzero(&value, sizeof value);
    value.value = str({text.data(), size});
    return ngx_http_send_response(r, NGX_HTTP_OK, &type, &value);
}

ngx_int_t status_handler(ngx_http_request_t* r) noexcept {
    LocationConf& conf = *location_conf(r);
    if (ngx_cidr_match(r->connection->sockaddr, conf.status_from) != NGX_OK) {
        return NGX_HTTP_FORBIDDEN;
    }
    if ((r->method & (NGX_HTTP_GET | NGX_HTTP_HEAD)) == 0) {
        return add_response_header(r, "Allow", "GET, HEAD") == NGX_OK
                   ? NGX_HTTP_NOT_ALLOWED
                   : NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    const ngx_int_t rc = ngx_http_discard_request_body(r);
    return rc == NGX_OK ? send_status(r) : rc;
}

// "unix:,10.0.0.0/8" -> conf.status_from
bool parse_from(ngx_conf_t* cf, std::string_view list, LocationConf& conf) noexcept {
    conf.status_from = ngx_array_create(cf->pool, 4, sizeof(ngx_cidr_t));
    while (conf.status_from != nullptr) {
        const std::size_t comma = list.find(',');
        ngx_str_t word = str(list.substr(0, comma));
        auto* const cidr = static_cast<ngx_cidr_t*>(ngx_array_push(conf.status_from));
        if (cidr == nullptr) {
            return false;
        }
        ngx_memzero(cidr, sizeof *cidr);
        if (view(word) == "unix:") {
            cidr->family = AF_UNIX;
        } else if (ngx_ptocidr(&word, cidr) == NGX_ERROR) {
            return false;
        }
        if (comma == std::string_view::npos) {
            return true;
        }
        list = list.substr(comma + 1);
    }
    return false;
}

}  // namespace

char* session_status(ngx_conf_t* cf, ngx_command_t*, void* data) noexcept {
    auto& conf = *static_cast<LocationConf*>(data);
    if (conf.status_from != nullptr) {
        return is_duplicate();
    }
    if (conf.is_logout || conf.is_info) {
        return const_cast<char*>("is incompatible with \"session_logout\" and \"session_info\"");
    }
    const std::span<ngx_str_t> word = words(cf);
    std::string_view from = kDefaultFrom;
    if (word.size() > 1 && !value_of(word[1], "from=", from)) {
        return invalid_parameter(cf, word[1]);
    }
    if (!parse_from(cf, from, conf)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid from= \"%V\": networks and \"unix:\", separated by commas",
                           &word[word.size() - 1]);
        return kConfError;
    }
    return install_handler(cf, conf, status_handler);
}

}  // namespace sg::ngx
