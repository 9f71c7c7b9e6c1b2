#include "store/memcached_store.h"

#include <algorithm>
#include <array>
#include <new>

#include "store/memcached_exchange.h"
#include "store/memcached_feed.h"
#include "store/memcached_rounds.h"

namespace sg {
namespace {

using Holds = MemcachedHolds;

constexpr std::size_t kRepairsAtOnce = 16;

class MemcachedStore final : public Store {
  public:
    explicit MemcachedStore(StoreHealth& health) noexcept
        : health_(health),
          codec_(health),
          exchange_(codec_, health),
          rounds_(codec_, exchange_, health, placement_),
          feed_(codec_, exchange_) {}

    bool open(const MemcachedConf& conf, const SealKeys& keys) noexcept;
    void run(std::span<StoreOp> batch, TimeMs now) noexcept override;
    FeedHeard listen(std::span<FeedPlace> places, std::span<FeedNote> notes, std::size_t& count,
                     TimeMs now) noexcept override;

  private:
    void tell(std::span<MemcachedTask> tasks) noexcept;
    std::size_t teller(const MemcachedTask& task) noexcept;
    void repair_missed() noexcept;
    void repair_missed(std::size_t server) noexcept;
    bool is_repaired(const MemcachedTask& task, std::size_t server) const noexcept;

    StoreHealth& health_;
    MemcachedCodec codec_;
    MemcachedExchange exchange_;
    Placement placement_;
    std::size_t replicas_ = 1;
    MemcachedRounds rounds_;
    MemcachedFeed feed_;
    TimeMs longest_ = 0;
    TimeMs now_ = 0;
};

bool MemcachedStore::open(const MemcachedConf& conf, const SealKeys& keys) noexcept {
    if (keys.count == 0 || conf.count == 0 || conf.count > conf.servers.size() ||
        !codec_.load(keys)) {
        return false;
    }
    for (std::size_t i = 0; i < conf.count; ++i) {
        const MemcachedServer& server = conf.servers[i];
        if (!placement_.add(server.host, server.port, server.weight)) {
            return false;
        }
    }
    replicas_ = std::clamp<std::size_t>(conf.replicas, 1, conf.count);
    longest_ = conf.longest_absolute;
    rounds_.open(replicas_, longest_);
    // The last key of the file is the oldest: all nodes have it while a new one is handed out.
    feed_.open(conf, keys.keys[keys.count - 1].id);
    return exchange_.open(conf, keys);
}

void MemcachedStore::run(std::span<StoreOp> batch, TimeMs now) noexcept {
    now_ = now;
    exchange_.begin(now);
    rounds_.carry_out(batch, now);
    for (std::span<MemcachedTask> rest = rounds_.tasks(); !rest.empty();) {
        const std::size_t size = std::min(rest.size(), kMaxFeedNotes);
        tell(rest.first(size));
        rest = rest.subspan(size);
    }
    if (replicas_ > 1) {
        repair_missed();
    }
}

// The first of its servers that can be told: whoever follows all of them hears it.
std::size_t MemcachedStore::teller(const MemcachedTask& task) noexcept {
    const std::uint8_t* const first = task.servers;
    const std::uint8_t* const last = first + replicas_;
    const auto* const found =
        std::find_if(first, last, [this](std::uint8_t server) { return exchange_.is_up(server); });
    return found != last ? *found : *first;
}

// What has not been told is not acknowledged: it will be tried again.
void MemcachedStore::tell(std::span<MemcachedTask> tasks) noexcept {
    feed_.clear();
    std::array<std::uint8_t, kMaxFeedNotes> tellers{};
    for (std::size_t i = 0; i < tasks.size(); ++i) {
        if (const auto note = feed_note_of(*tasks[i].op)) {
            tellers[i] = static_cast<std::uint8_t>(teller(tasks[i]));
            feed_.add(tellers[i], *note);
        }
    }
    if (feed_.is_empty()) {
        return;
    }
    feed_.tell(now_);
    for (std::size_t i = 0; i < tasks.size(); ++i) {
        if (feed_note_of(*tasks[i].op) && !feed_.has_told(tellers[i])) {
            tasks[i].op->answer = StoreAnswer::unknown;
        }
    }
}

FeedHeard MemcachedStore::listen(std::span<FeedPlace> places, std::span<FeedNote> notes,
                                 std::size_t& count, TimeMs now) noexcept {
    exchange_.begin(now);
    return feed_.listen(places, notes, count);
}

void MemcachedStore::repair_missed() noexcept {
    if (health_.gaps.is_empty()) {
        return;
    }
    for (std::size_t i = 0; i < placement_.count(); ++i) {
        if (exchange_.has_answered_once(i) && exchange_.has_time()) {
            repair_missed(i);
        }
    }
}

// A get repairs what is behind. What it could not repair waits behind the others.
void MemcachedStore::repair_missed(std::size_t server) noexcept {
    std::array<MemcachedGaps::Missed, kRepairsAtOnce> missed;
    std::array<StoreOp, kRepairsAtOnce> gets;
    const std::size_t count = health_.gaps.of_server(server, missed);
    for (std::size_t i = 0; i < count; ++i) {
        gets[i].key = missed[i].key;
        gets[i].key_id = missed[i].key_id;
    }
    rounds_.carry_out({gets.data(), count}, now_);
    for (const MemcachedTask& task : rounds_.tasks()) {
        const StoreOp& op = *task.op;
        if (task.done && is_repaired(task, server)) {
            health_.gaps.remove(server, op.key);
        } else {
            health_.gaps.defer(op.key);
        }
    }
}

bool MemcachedStore::is_repaired(const MemcachedTask& task, std::size_t server) const noexcept {
    const auto replicas = rounds_.replicas(task);
    if (!task.merged.exists) {  // it has expired: if all say so
        return std::ranges::all_of(replicas,
                                   [](const auto& one) { return one.state == Holds::nothing; });
    }
    const std::uint8_t* const first = task.servers;
    const auto at = static_cast<std::size_t>(std::find(first, first + replicas_, server) - first);
    return at == replicas_ || (replicas[at].state != Holds::unknown &&
                               (replicas_behind(task.op->seen, replicas) >> at & 1) == 0);
}

}  // namespace

std::unique_ptr<Store> make_memcached_store(const MemcachedConf& conf, const SealKeys& keys,
                                            StoreHealth& health) noexcept {
    std::unique_ptr<MemcachedStore> store(new (std::nothrow) MemcachedStore(health));
    if (store == nullptr || !store->open(conf, keys)) {
        return nullptr;
    }
    return store;
}

}  // namespace sg
