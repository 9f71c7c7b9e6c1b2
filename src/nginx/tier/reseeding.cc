#include "nginx/tier/reseeding.h"

#include <algorithm>
#include <array>

#include "core/handover.h"
#include "core/second_tier.h"
#include "nginx/clock.h"
#include "nginx/conf.h"
#include "nginx/str.h"
#include "nginx/tier/store_conf.h"
#include "nginx/tier/store_queue.h"
#include "nginx/worker.h"

namespace sg::ngx {
namespace {

constexpr ngx_msec_t kRest = 1000;
constexpr ngx_msec_t kStep = 10;
constexpr std::size_t kPlaces = 1024;   // cells or sets looked at in one step
constexpr std::size_t kAtOnce = 128;    // operations of one step
constexpr std::size_t kBacklog = 1024;  // operations that wait: then a step is left out

}  // namespace

Reseeding::~Reseeding() {
    if (timer_.timer_set) {
        ngx_del_timer(&timer_);
    }
}

void Reseeding::start(StoreQueue& queue, RealmConf& realm, ngx_log_t* log) noexcept {
    if (realm.store->is_lmdb()) {
        return;
    }
    queue_ = &queue;
    realm_ = &realm;
    const MemcachedConf& conf = realm.store->memcached;
    for (std::size_t i = 0; i < conf.count; ++i) {
        placement_.add(conf.servers[i].host, conf.servers[i].port, conf.servers[i].weight);
    }
    timer_.handler = timer_event;
    timer_.data = this;
    timer_.log = log;
    timer_.cancelable = 1;  // must not hold back a graceful exit
    ngx_add_timer(&timer_, kRest);
}

void Reseeding::timer_event(ngx_event_t* event) noexcept {
    auto& reseeding = *static_cast<Reseeding*>(event->data);
    if (is_exiting()) {
        return;
    }
    if (reseeding.queue_->waiting() < kBacklog) {
        reseeding.step();
    }
    const bool is_walking =
        reseeding.phase_ != Phase::resting && reseeding.phase_ != Phase::pausing;
    ngx_add_timer(event, is_walking ? kStep : kRest);
}

void Reseeding::step() noexcept {
    const MemcachedConf& conf = realm_->store->memcached;
    switch (phase_) {
        case Phase::resting:
            look_for_work();
            break;
        case Phase::ended:
            write_ended();
            break;
        case Phase::pausing:
            if (now_ms() - born_ >= conf.reseeding / 4 || now_ms() < born_) {
                next(Phase::sessions);
            }
            break;
        case Phase::replaced:
        case Phase::sessions:
            write_sessions();
            break;
    }
}

void Reseeding::next(Phase phase) noexcept {
    phase_ = phase;
    begin_round();
}

void Reseeding::begin_round() noexcept {
    cursor_ = {};
    table_ = 0;
    older_ = realm_->core.older.size();
}

// Sessions move to younger tables only: a round through all of them, oldest first, misses none.
const Table& Reseeding::table() noexcept {
    const std::span<const Table> older = realm_->core.older;
    if (older.size() != older_) {  // one has gone, and may have been ours
        begin_round();
    }
    return table_ < older.size() ? older[table_] : *realm_->table;
}

bool Reseeding::is_through(const Table& table) noexcept {
    if (cursor_.shard < table.shard_count()) {
        return false;
    }
    cursor_ = {};
    return table_++ == older_;
}

// A server whose canary has not been seen before. When it is old, there is nothing to do.
void Reseeding::look_for_work() noexcept {
    const MemcachedConf& conf = realm_->store->memcached;
    for (std::size_t i = 0; i < conf.count; ++i) {
        const TimeMs born = realm_->shared->store.born[i].load(std::memory_order_relaxed);
        std::atomic<TimeMs>& known = realm_->shared->reseeded[i];
        if (born == known.load(std::memory_order_relaxed)) {
            continue;
        }
        if (now_ms() - born >= conf.reseeding) {
            known.store(born, std::memory_order_relaxed);
            continue;
        }
        server_ = i;
        born_ = born;
        written_ = 0;
        next(Phase::ended);
        return;
    }
}

bool Reseeding::lies_there(const Token& token) const noexcept {
    const auto key = realm_->keys.store_key(token);
    std::array<std::uint8_t, kMaxServers> servers;
    const std::size_t replicas = realm_->store->memcached.replicas;
    const std::size_t count = key ? placement_.place(*key, std::span(servers).first(replicas)) : 0;
    const auto last = servers.begin() + count;
    return std::find(servers.begin(), last, server_) != last;
}

// A note of an end does not say under which key the session's name was made: under each.
void Reseeding::write_ended() noexcept {
    std::array<Table::Ended, kAtOnce> ended;
    const Table& here = table();
    const std::size_t count = here.walk_ended(cursor_, kPlaces, now_ms(), ended);
    const SealKeys& keys = realm_->store->keys;
    for (std::size_t i = 0; i < count; ++i) {
        Token token;
        token.handle = ended[i].handle;
        for (std::size_t k = 0; k < keys.count; ++k) {
            token.key_id = keys.keys[k].id;
            if (lies_there(token)) {
                queue_->ended(token, ended[i].why, ended[i].until);
                ++written_;
            }
        }
    }
    if (is_through(here)) {
        next(Phase::replaced);
    }
}

// Replaced handles stay replaced, so they are certain, like ends. They come before the live
// sessions: another node may not have heard of the replacement, and would write the old one.
//
// What was not certain any more when the server went may have ended elsewhere. Where another
// replica has it, looking it up puts right what the new server lacks.
void Reseeding::write_session(const Handle& handle) noexcept {
    SessionView view;
    const ByteSpan record = worker_scratch();
    const bool is_found = look_up(realm_->core, handle, view, record) == FindResult::found;
    const bool is_replaced = view.superseded_until != 0;
    if (!is_found || is_replaced != (phase_ == Phase::replaced) || !lies_there(view.token)) {
        return;
    }
    if (is_replaced || was_certain(realm_->core, view, born_)) {
        queue_->opened(view, record.first(view.record_size));
        ++written_;
    } else if (realm_->store->memcached.replicas > 1) {
        queue_->repair(view.token);
    }
}

void Reseeding::write_sessions() noexcept {
    std::array<Handle, kAtOnce> handles;
    const Table& here = table();
    const std::size_t count = here.walk_sessions(cursor_, kPlaces, handles);
    for (std::size_t i = 0; i < count; ++i) {
        write_session(handles[i]);
    }
    if (!is_through(here)) {
        return;
    }
    if (phase_ == Phase::replaced) {
        next(Phase::pausing);
    } else {
        report();
        next(Phase::resting);
    }
}

void Reseeding::report() noexcept {
    const MemcachedServer& server = realm_->store->memcached.servers[server_];
    ngx_str_t host = str(server.host);
    ngx_log_error(NGX_LOG_NOTICE, timer_.log, 0,
                  "session guard: realm \"%V\": memcached \"%V\", port %ud, came up empty: %uL "
                  "sessions and notes of ends written back",
                  &realm_->name, &host, server.port, written_);
    realm_->shared->reseeded[server_].store(born_, std::memory_order_relaxed);
}

}  // namespace sg::ngx
