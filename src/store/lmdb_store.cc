#include "store/lmdb_store.h"

#include <openssl/rand.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "core/random_pool.h"
#include "store/lmdb_entries.h"
#include "store/lmdb_env.h"
#include "store/lmdb_feed.h"
#include "store/lmdb_sealed_batch.h"
#include "store/lmdb_txn.h"

namespace sg {
namespace {

constexpr std::size_t kReclaimed = 512;  // expired entries removed when there is no room
constexpr std::size_t kTidyStep = 256;   // in one transaction: others wait for it
constexpr int kMostDropped = 3;          // operations that may each cost a batch another try

bool system_random(ByteSpan out) noexcept {
    return RAND_bytes(out.data(), static_cast<int>(out.size())) == 1;
}

bool is_full(int rc) noexcept {
    return rc == MDB_MAP_FULL || rc == ENOSPC || rc == EDQUOT || rc == EFBIG;
}

StoreFault fault_of(int rc) noexcept {
    if (is_full(rc)) {
        return StoreFault::full;
    }
    if (rc == ETIMEDOUT) {
        return StoreFault::timed_out;
    }
    const bool unreadable =
        rc == MDB_CORRUPTED || rc == MDB_PAGE_NOTFOUND || rc == MDB_INVALID || rc == MDB_BAD_TXN;
    return unreadable ? StoreFault::protocol : StoreFault::unreachable;
}

bool needs_room(const StoreOp& op) noexcept {
    return op.verb == StoreVerb::create || op.verb == StoreVerb::change;
}

class LmdbStore final : public Store {
  public:
    LmdbStore(LmdbEnvRef env, StoreHealth& health) noexcept
        : env_(std::move(env)), health_(health) {}

    bool load(const SealKeys& keys) noexcept {
        // The last key of the file is the oldest: all nodes have it while a new one is handed out.
        feed_key_id_ = keys.count > 0 ? keys.keys[keys.count - 1].id : 0;
        return sealer_.load(keys);
    }

    void run(std::span<StoreOp> batch, TimeMs now) noexcept override;
    std::size_t tidy(std::size_t limit, TimeMs now) noexcept override;
    FeedHeard listen(std::span<FeedPlace> places, std::span<FeedNote> notes, std::size_t& count,
                     TimeMs now) noexcept override;

  private:
    void read(std::span<StoreOp> batch, TimeMs now) noexcept;
    void write(std::span<StoreOp> batch, TimeMs now) noexcept;
    int write_in_turn(std::span<StoreOp> batch, const WriteTurn& turn, TimeMs now) noexcept;
    int make_room(std::span<StoreOp> batch, const WriteTurn& turn, TimeMs now) noexcept;
    int attempt(std::span<StoreOp> batch, const WriteTurn& turn, TimeMs now) noexcept;
    int apply(std::span<StoreOp> batch, MDB_txn* txn, TimeMs now, std::size_t& at) noexcept;
    int remove_step(std::size_t limit, const WriteTurn& turn, TimeMs now,
                    std::size_t& removed) noexcept;
    int remove_expired(std::size_t limit, const WriteTurn& turn, TimeMs now,
                       std::size_t& removed) noexcept;
    LmdbContext context(MDB_txn* txn, TimeMs now) noexcept;

    LmdbEnvRef env_;
    StoreHealth& health_;
    Sealer sealer_;
    RandomPool random_{&system_random};
    LmdbSealedBatch sealed_;
    std::uint8_t feed_key_id_ = 0;
};

// A get sees what came before it in its batch: after a write to its key it is a part of the write
// transaction, else of the snapshot taken before.
bool is_read_first(std::span<const StoreOp> batch, std::size_t i) noexcept {
    if (is_write(batch[i])) {
        return false;
    }
    return std::none_of(
        batch.begin(), batch.begin() + static_cast<std::ptrdiff_t>(i),
        [&](const StoreOp& op) { return is_write(op) && is_same_key(op.key, batch[i].key); });
}

LmdbContext LmdbStore::context(MDB_txn* txn, TimeMs now) noexcept {
    return {.txn = txn,
            .entries = env_->entries(),
            .expiry = env_->expiry(),
            .now = now,
            .sealer = &sealer_,
            .health = &health_};
}

void LmdbStore::run(std::span<StoreOp> batch, TimeMs now) noexcept {
    bool reads = false;
    bool writes = false;
    for (StoreOp& op : batch) {
        op.answer = StoreAnswer::unknown;
        op.lost = false;
        (is_write(op) ? writes : reads) = true;
    }
    if (!env_->is_usable()) {
        count_fault(health_, StoreFault::unreachable);
        return;
    }
    if (reads) {
        read(batch, now);
    }
    if (writes) {
        write(batch, now);
    }
}

void LmdbStore::read(std::span<StoreOp> batch, TimeMs now) noexcept {
    const ReadTxn txn(*env_);
    int rc = txn.status();
    if (rc != 0) {
        count_fault(health_, fault_of(rc));
        return;
    }
    const LmdbContext entries = context(txn.get(), now);
    for (std::size_t i = 0; i < batch.size(); ++i) {
        rc = is_read_first(batch, i) ? lmdb_get(entries, batch[i]) : 0;
        if (rc != 0) {
            count_fault(health_, fault_of(rc));
        }
    }
}

void LmdbStore::write(std::span<StoreOp> batch, TimeMs now) noexcept {
    Breaker& breaker = health_.breakers[0];
    if (!breaker.allows(now)) {
        count_fault(health_, StoreFault::breaker_open);
        return;
    }
    int rc = ENOMEM;
    std::size_t failed = 0;
    if (sealed_.make(batch, sealer_, random_, failed)) {
        const WriteTurn turn(*env_);
        rc = turn ? write_in_turn(batch, turn, now) : ETIMEDOUT;
    }
    for (; failed > 0; --failed) {
        count_fault(health_, StoreFault::bad_seal);
    }
    if (rc != 0) {
        count_fault(health_, fault_of(rc));
    }
    if (rc == 0 || is_full(rc)) {
        breaker.succeeded();
    } else {
        breaker.failed(now);
    }
}

int LmdbStore::write_in_turn(std::span<StoreOp> batch, const WriteTurn& turn, TimeMs now) noexcept {
    int rc = attempt(batch, turn, now);
    while (rc == MDB_MAP_FULL && env_->grow(env_->limit())) {
        rc = attempt(batch, turn, now);
    }
    return is_full(rc) ? make_room(batch, turn, now) : rc;
}

// No room: the expired make some; and where that is not enough, logouts still get through.
int LmdbStore::make_room(std::span<StoreOp> batch, const WriteTurn& turn, TimeMs now) noexcept {
    std::size_t removed = 0;
    remove_expired(kReclaimed, turn, now, removed);
    const int rc = removed > 0 ? attempt(batch, turn, now) : MDB_MAP_FULL;
    if (!is_full(rc)) {
        return rc;
    }
    for (std::size_t i = 0; i < batch.size(); ++i) {
        if (needs_room(batch[i])) {
            sealed_.drop(i);
        }
    }
    const int without = attempt(batch, turn, now);
    if (without == MDB_MAP_FULL && env_->grow(env_->last_reserve())) {
        attempt(batch, turn, now);
        env_->give_back_reserve();
    }
    return rc;
}

// One transaction. An operation that LMDB cannot carry out is left out, lest it take the others
// with it for ever.
int LmdbStore::attempt(std::span<StoreOp> batch, const WriteTurn& turn, TimeMs now) noexcept {
    int rc = 0;
    for (int dropped = 0; dropped <= kMostDropped; ++dropped) {
        WriteTxn txn(*env_, turn);
        std::size_t at = batch.size();
        rc = txn.status();
        rc = rc == 0 ? apply(batch, txn.get(), now, at) : rc;
        rc = rc == 0 ? txn.commit() : rc;
        if (rc == 0) {
            return 0;
        }
        for (std::size_t i = 0; i < batch.size(); ++i) {
            if (!is_read_first(batch, i)) {
                batch[i].answer = StoreAnswer::unknown;
                batch[i].lost = false;
            }
        }
        if (at == batch.size() || is_full(rc)) {
            return rc;
        }
        count_fault(health_, fault_of(rc));
        sealed_.drop(at);
    }
    return rc;
}

// `at`: the operation that failed.
int LmdbStore::apply(std::span<StoreOp> batch, MDB_txn* txn, TimeMs now, std::size_t& at) noexcept {
    const LmdbContext entries = context(txn, now);
    for (std::size_t i = 0; i < batch.size(); ++i) {
        StoreOp& op = batch[i];
        int rc = 0;
        if (is_write(op)) {
            rc = sealed_.at(i).empty() ? 0 : lmdb_write(entries, op, sealed_.at(i));
        } else if (!is_read_first(batch, i)) {
            rc = lmdb_get(entries, op);
        }
        if (rc != 0) {
            at = i;
            return rc;
        }
    }
    return lmdb_tell(entries, feed_key_id_, random_, batch);
}

FeedHeard LmdbStore::listen(std::span<FeedPlace> places, std::span<FeedNote> notes,
                            std::size_t& count, TimeMs now) noexcept {
    count = 0;
    FeedHeard heard = FeedHeard::unknown;
    int rc = places.empty() || !env_->is_usable() ? EINVAL : 0;
    if (rc == 0) {
        const ReadTxn txn(*env_);
        rc = txn.status();
        rc = rc == 0 ? lmdb_listen(context(txn.get(), now), places[0], notes, count, heard) : rc;
    }
    if (rc != 0) {
        count_fault(health_, fault_of(rc));
    }
    return heard;
}

int LmdbStore::remove_step(std::size_t limit, const WriteTurn& turn, TimeMs now,
                           std::size_t& removed) noexcept {
    std::size_t here = 0;
    WriteTxn txn(*env_, turn);
    int rc = txn.status();
    rc = rc == 0 ? lmdb_remove_expired(context(txn.get(), now), limit, here) : rc;
    rc = rc == 0 ? txn.commit() : rc;
    removed += rc == 0 ? here : 0;
    return rc;
}

int LmdbStore::remove_expired(std::size_t limit, const WriteTurn& turn, TimeMs now,
                              std::size_t& removed) noexcept {
    int rc = remove_step(limit, turn, now, removed);
    if (rc == MDB_MAP_FULL && env_->grow(env_->last_reserve())) {
        rc = remove_step(limit, turn, now, removed);
        env_->give_back_reserve();
    }
    return rc;
}

std::size_t LmdbStore::tidy(std::size_t limit, TimeMs now) noexcept {
    std::size_t removed = 0;
    if (!env_->is_usable()) {
        return removed;
    }
    env_->check_readers();
    for (;;) {
        const std::size_t before = removed;
        const std::size_t step = std::min(kTidyStep, limit - removed);
        const WriteTurn turn(*env_);
        const int rc = turn ? remove_expired(step, turn, now, removed) : ETIMEDOUT;
        if (rc != 0) {
            count_fault(health_, fault_of(rc));
        }
        if (rc != 0 || removed - before < kTidyStep) {
            return removed;
        }
    }
}

}  // namespace

std::unique_ptr<Store> make_lmdb_store(const LmdbConf& conf, const SealKeys& keys,
                                       StoreHealth& health, std::string& error) noexcept {
    const std::string path(conf.path);
    LmdbEnvRef env =
        LmdbEnv::acquire(path, ::geteuid(), conf.map_size, LmdbLayout::expected, error);
    if (env == nullptr) {
        return nullptr;
    }
    std::unique_ptr<LmdbStore> store(new (std::nothrow) LmdbStore(std::move(env), health));
    if (store == nullptr || !store->load(keys)) {
        error = lmdb_error(path, "no memory, or OpenSSL cannot provide AES-256-GCM");
        return nullptr;
    }
    return store;
}

}  // namespace sg
