// JSON for session_status, by nlohmann/json; see session_json.h about exceptions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace sg {

struct NamedCount {
    std::string_view name;
    std::uint64_t count = 0;
};

struct ServerStatus {
    std::string_view host;  // or the path of a Unix-domain socket
    std::uint16_t port = 0;
    std::string_view breaker;  // closed, open, half_open
};

// How long batches took.
struct TimesStatus {
    std::uint64_t batches = 0;
    std::uint64_t operations = 0;
    std::uint64_t microseconds = 0;
    std::span<const std::uint32_t> bounds;   // upper ones, ms
    std::span<const std::uint64_t> buckets;  // one more
};

struct StoreStatus {
    std::string_view kind;
    std::string_view breaker;               // LMDB's; with servers: empty
    std::span<const ServerStatus> servers;  // memcached's
    std::uint64_t waiting = 0;  // of the worker that answers: operations that have not set out
    std::uint64_t retrying = 0;
    std::span<const NamedCount> faults;
    std::optional<std::int64_t> feed_lag_ms;  // since the feed was heard; nullopt: not followed
    TimesStatus look_ups;
    TimesStatus writes;
};

struct RealmStatus {
    std::string_view name;
    std::uint64_t zone_bytes = 0;
    std::uint64_t sessions = 0;
    std::uint64_t cells_used = 0;
    std::uint64_t cells_total = 0;
    std::uint64_t repairs = 0;
    std::uint64_t long_lived = 0;  // connections that last
    std::span<const NamedCount> events;
    std::optional<StoreStatus> store;
};

// {"realms":[{"name":...,"zone":{...},"long_lived":...,"events":{...},"store":{...} or null}]};
// names are ASCII, hosts as configured. Bytes written; 0 when `out` is too small or memory is out.
std::size_t write_status_json(std::span<const RealmStatus> realms, std::span<char> out) noexcept;

}  // namespace sg
