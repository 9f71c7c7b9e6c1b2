#include "store/memcached_link.h"

#include <algorithm>
#include <array>

#include "store/steady.h"

namespace sg {
namespace {

constexpr std::size_t kMaxHost = 1024;

// Times are int32_t milliseconds in there.
std::uint64_t whole_ms(TimeMs time) noexcept {
    return static_cast<std::uint64_t>(std::clamp<TimeMs>(time, 0, kHour));
}

bool set_behaviors(memcached_st* handle, TimeMs connect_timeout) noexcept {
    const struct {
        memcached_behavior_t behavior;
        std::uint64_t value;
    } all[] = {
        {MEMCACHED_BEHAVIOR_SUPPORT_CAS, 1},  // values come with their cas
        {MEMCACHED_BEHAVIOR_TCP_NODELAY, 1},
        {MEMCACHED_BEHAVIOR_NOREPLY, 1},
        {MEMCACHED_BEHAVIOR_AUTO_EJECT_HOSTS, 0},
        {MEMCACHED_BEHAVIOR_CONNECT_TIMEOUT, std::max<std::uint64_t>(whole_ms(connect_timeout), 1)},
        // Our breaker decides about that, not a counter in each handle.
        {MEMCACHED_BEHAVIOR_SERVER_FAILURE_LIMIT, INT32_MAX},
    };
    return std::ranges::all_of(all, [handle](const auto& one) {
        return memcached_behavior_set(handle, one.behavior, one.value) == MEMCACHED_SUCCESS;
    });
}

bool add_server(memcached_st* handle, const MemcachedServer& server) noexcept {
    std::array<char, kMaxHost> host{};
    if (server.host.empty() || server.host.size() >= host.size() ||
        server.host.find('\0') != std::string_view::npos) {
        return false;
    }
    std::ranges::copy(server.host, host.begin());
    const auto rc = server.port == 0 ? memcached_server_add_unix_socket(handle, host.data())
                                     : memcached_server_add(handle, host.data(), server.port);
    return rc == MEMCACHED_SUCCESS;
}

}  // namespace

MemcachedLink::~MemcachedLink() {
    if (handle_ != nullptr) {
        drop();
        memcached_result_free(&result_);
        memcached_free(handle_);
    }
}

bool MemcachedLink::open(const MemcachedServer& server, TimeMs connect_timeout) noexcept {
    connect_timeout_ = connect_timeout;
    handle_ = memcached_create(nullptr);
    if (handle_ == nullptr) {
        return false;
    }
    memcached_result_create(handle_, &result_);
    return set_behaviors(handle_, connect_timeout) && add_server(handle_, server);
}

void MemcachedLink::set_timeout(TimeMs timeout) noexcept {
    memcached_behavior_set(handle_, MEMCACHED_BEHAVIOR_POLL_TIMEOUT, whole_ms(timeout));
}

bool MemcachedLink::put(std::string_view name, ByteView value, std::int64_t expiry,
                        std::uint64_t cas, TimeMs timeout) noexcept {
    set_timeout(timeout);
    const auto* const bytes = reinterpret_cast<const char*>(value.data());
    const auto rc = cas == 0 ? memcached_add(handle_, name.data(), name.size(), bytes, value.size(),
                                             static_cast<time_t>(expiry), 0)
                             : memcached_cas(handle_, name.data(), name.size(), bytes, value.size(),
                                             static_cast<time_t>(expiry), 0, cas);
    return rc != MEMCACHED_TIMEOUT;
}

MemcachedLink::Said MemcachedLink::ask(std::span<const char* const> names, const std::size_t* sizes,
                                       TimeMs timeout) noexcept {
    set_timeout(timeout);
    const TimeMs start = steady_ms();
    const auto rc = memcached_mget(handle_, names.data(), sizes, names.size());
    if (rc == MEMCACHED_SUCCESS) {
        return Said::ok;
    }
    // After a connection that timed out it says something else about the keys that follow.
    const bool timed_out =
        rc == MEMCACHED_TIMEOUT || steady_ms() - start >= std::min(connect_timeout_, timeout);
    return timed_out ? Said::timed_out : Said::unreachable;
}

MemcachedLink::Said MemcachedLink::next(TimeMs timeout, Value& value) noexcept {
    set_timeout(timeout);
    memcached_return_t rc = MEMCACHED_FAILURE;
    if (memcached_fetch_result(handle_, &result_, &rc) != nullptr) {
        const char* const name = memcached_result_key_value(&result_);
        value.name = name != nullptr ? std::string_view(name, memcached_result_key_length(&result_))
                                     : std::string_view();
        value.bytes =
            as_bytes({memcached_result_value(&result_), memcached_result_length(&result_)});
        value.cas = memcached_result_cas(&result_);
        return Said::ok;
    }
    switch (rc) {
        case MEMCACHED_END:
            return Said::end;
        case MEMCACHED_NOTFOUND:
            return memcached_last_error(handle_) == MEMCACHED_SUCCESS ? Said::nothing
                                                                      : Said::protocol;
        case MEMCACHED_TIMEOUT:
            return Said::timed_out;
        case MEMCACHED_CONNECTION_FAILURE:
        case MEMCACHED_ERRNO:
            return Said::unreachable;
        default:
            return Said::protocol;
    }
}

void MemcachedLink::drop() noexcept {
    set_timeout(0);  // it says goodbye, and must not wait for room to say it
    memcached_quit(handle_);
}

}  // namespace sg
