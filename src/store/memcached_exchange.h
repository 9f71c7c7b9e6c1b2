// Questions to all servers at once: each gets one multi-get with everything it is asked, they are
// all under way together, and the answers of a server count all or not at all. Here is what is to
// be done when a server does not answer: one immediate retry, then it is left alone for the rest of
// the batch, and the breaker is told.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "store/byte_arena.h"
#include "store/health.h"
#include "store/memcached_canary.h"
#include "store/memcached_codec.h"
#include "store/memcached_link.h"
#include "store/memcached_store.h"
#include "store/steady.h"

namespace sg {

class MemcachedExchange {
  public:
    struct Question {
        const char* name = nullptr;  // kMemcachedNameSize characters
        std::uint8_t server = 0;
        bool found = false;
        std::uint64_t cas = 0;
        ByteArena::Place place;  // of the value, see value(); empty where it is too large to be one
    };

    MemcachedExchange(MemcachedCodec& codec, StoreHealth& health) noexcept
        : codec_(codec), health_(health) {}

    bool open(const MemcachedConf& conf, const SealKeys& keys) noexcept;

    // A batch begins: servers that failed in the last one may be asked again, if their breakers
    // allow it.
    void begin(TimeMs now) noexcept;

    // Whether the server may be asked, or written to, in this batch.
    bool is_up(std::size_t server) noexcept;
    // Whether the batch may take any longer.
    bool has_time() const noexcept { return steady_end_ > steady_ms(); }

    // Sends a write at once; see MemcachedLink::put. Whether it happened tells the next answer.
    void put(std::size_t server, const MemcachedName& name, ByteView value, TimeMs expires,
             std::uint64_t cas) noexcept;

    // The same for what never expires.
    void put_for_ever(std::size_t server, const MemcachedName& name, ByteView value,
                      std::uint64_t cas) noexcept;

    // A round of questions: clear, one ask() for each (servers that are up only), run. False: no
    // memory.
    bool clear(std::size_t most) noexcept;
    std::size_t count() const noexcept { return count_; }
    void ask(std::size_t server, const MemcachedName& name) noexcept;
    void run() noexcept;

    // Afterwards, until the next clear(); numbered in the order of ask().
    const Question& operator[](std::size_t question) const noexcept { return questions_[question]; }
    ByteView value(const Question& question) const noexcept { return values_.view(question.place); }
    bool has_answered(std::size_t server) const noexcept { return turns_[server].answered; }
    bool has_answered_once(std::size_t server) const noexcept { return turns_[server].told; }
    // What the server does not have is certain not to exist, as far as the server can tell.
    bool is_certain(std::size_t server) const noexcept { return turns_[server].certain; }

  private:
    enum class May : std::uint8_t { unasked, yes, no };  // what the breaker said

    // One server in this batch.
    struct Turn {
        May may = May::unasked;
        bool down = false;
        bool retried = false;
        bool seeded = false;  // a canary has been put there
        bool told = false;    // the breaker: that the server answers
        bool answered = false;
        bool certain = false;
        std::size_t first = 0;  // of its questions in order_
        std::size_t count = 0;
        ByteArena::Place canary;
        bool has_canary = false;
        std::uint64_t canary_cas = 0;
    };

    void put_until(std::size_t server, const MemcachedName& name, ByteView value,
                   std::int64_t expiry, std::uint64_t cas) noexcept;
    TimeMs wall_now() const noexcept;
    TimeMs time_left() const noexcept;

    void sort_questions() noexcept;
    bool send(std::size_t server) noexcept;
    void collect(std::size_t server) noexcept;
    MemcachedLink::Said read_all(std::size_t server) noexcept;
    bool take(Turn& turn, const MemcachedLink::Value& value, std::size_t& next) noexcept;
    bool keep(const MemcachedLink::Value& value, ByteArena::Place& place) noexcept;
    bool may_retry(std::size_t server, MemcachedLink::Said said) noexcept;
    bool put_canary(std::size_t server, std::uint64_t cas) noexcept;
    void succeeded(std::size_t server) noexcept;
    void failed(std::size_t server, MemcachedLink::Said said) noexcept;

    MemcachedCodec& codec_;
    StoreHealth& health_;
    MemcachedCanary canary_;
    TimeMs connect_timeout_ = 0;
    TimeMs timeout_ = 0;
    std::size_t servers_ = 0;
    std::array<MemcachedLink, kMaxServers> links_;
    std::array<Turn, kMaxServers> turns_{};

    TimeMs now_ = 0;  // wall clock when the batch began
    TimeMs steady_begin_ = 0;
    TimeMs steady_end_ = 0;  // of the batch
    TimeMs round_end_ = 0;

    std::size_t room_ = 0;
    std::size_t count_ = 0;
    std::unique_ptr<Question[]> questions_;
    // By server, each server's followed by its canary: what libmemcached wants, and whose name it
    // is.
    std::unique_ptr<const char*[]> names_;
    std::unique_ptr<std::size_t[]> sizes_;
    std::unique_ptr<std::uint32_t[]> order_;
    ByteArena values_;
};

}  // namespace sg
