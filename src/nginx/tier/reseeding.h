// Writes back what this node knows to a memcached that came up empty: the ended and the replaced
// sessions at once, the live ones when all nodes have had the time for that. Until then the
// server's "not there" means nothing (store/memcached_canary.h). By one worker of the node.
#pragma once

#include "nginx/ngx.h"

#include "core/zone/table.h"
#include "store/placement.h"

namespace sg::ngx {

struct RealmConf;
class StoreQueue;

class Reseeding {
  public:
    Reseeding() noexcept = default;
    Reseeding(const Reseeding&) = delete;
    Reseeding& operator=(const Reseeding&) = delete;
    ~Reseeding();

    // `queue` and `realm` outlive it. Does nothing for a store that is no memcached.
    void start(StoreQueue& queue, RealmConf& realm, ngx_log_t* log) noexcept;

  private:
    enum class Phase : std::uint8_t { resting, ended, replaced, pausing, sessions };

    static void timer_event(ngx_event_t* event) noexcept;
    void step() noexcept;
    void look_for_work() noexcept;
    void write_ended() noexcept;
    void write_sessions() noexcept;
    void write_session(const Handle& handle) noexcept;
    void report() noexcept;
    bool lies_there(const Token& token) const noexcept;
    void next(Phase phase) noexcept;
    void begin_round() noexcept;
    const Table& table() noexcept;
    bool is_through(const Table& table) noexcept;

    StoreQueue* queue_ = nullptr;
    RealmConf* realm_ = nullptr;
    Placement placement_;
    Phase phase_ = Phase::resting;
    std::size_t server_ = 0;
    TimeMs born_ = 0;
    Table::Cursor cursor_;  // in the table of this number: the older ones, then our own
    std::size_t table_ = 0;
    std::size_t older_ = 0;  // as many there were when the round began
    std::uint64_t written_ = 0;
    ngx_event_t timer_{};
};

}  // namespace sg::ngx
