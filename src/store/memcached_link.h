// The connection to one memcached, over libmemcached: made when it is first needed, closed at every
// error, so that no reply can be taken for the reply to another request. One thread at a time.
//
// Writes are sent with "noreply" and never acknowledged here: whoever wants to know reads. That
// saves a round trip for each write, and libmemcached 1.1.4 aborts the process when a write is
// answered by "END" or "DELETED" (assertion in memcached_send_ascii).
#pragma once

#include <libmemcached/memcached.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/bytes.h"
#include "core/time_ms.h"
#include "store/memcached_store.h"

namespace sg {

class MemcachedLink {
  public:
    MemcachedLink() noexcept = default;
    ~MemcachedLink();
    MemcachedLink(const MemcachedLink&) = delete;
    MemcachedLink& operator=(const MemcachedLink&) = delete;

    // Once. False: no memory, or a name that is none.
    bool open(const MemcachedServer& server, TimeMs connect_timeout) noexcept;

    enum class Said : std::uint8_t {
        ok,           // ask: the question is on its way; next: here is a value
        end,          // no more values
        nothing,      // not one value; libmemcached says that for some errors, too
        unreachable,  // no connection, or it has been closed
        timed_out,
        protocol,  // an answer that is none
    };

    struct Value {
        std::string_view name;
        ByteView bytes;  // until the next call
        std::uint64_t cas = 0;
    };

    // Writes `value` where nothing is (cas 0), or where still that is which was read with `cas`.
    // `expiry` as memcached has it. False: it did not get away, for lack of time.
    bool put(std::string_view name, ByteView value, std::int64_t expiry, std::uint64_t cas,
             TimeMs timeout) noexcept;

    // Asks for all these entries; then next() until it does not say ok. After anything but ok and
    // end, drop() it. `timeout` 0: only what has arrived.
    Said ask(std::span<const char* const> names, const std::size_t* sizes, TimeMs timeout) noexcept;
    Said next(TimeMs timeout, Value& value) noexcept;

    // Closes the connection, without waiting. The next question makes a new one.
    void drop() noexcept;

  private:
    void set_timeout(TimeMs timeout) noexcept;

    memcached_st* handle_ = nullptr;
    memcached_result_st result_{};
    TimeMs connect_timeout_ = 0;
};

}  // namespace sg
