// A worker's way to one realm's store: operations gather in two lanes, look-ups and writes, each
// with at most one batch in nginx's thread pool, so that a slow commit never delays a look-up and
// writes keep their order. Everything here belongs to the event loop's thread; a batch in flight
// owns copies.
#pragma once

#include "nginx/ngx.h"

#include <array>
#include <atomic>
#include <memory>

#include "core/journal.h"
#include "core/realm.h"
#include "nginx/tier/threads.h"
#include "store/store.h"

namespace sg::ngx {

struct RealmConf;
struct StoreTask;

// Somebody waiting for one operation. Lives in a request's pool; detach() before that goes.
struct Watcher {
    // The operation is answered; the watcher is detached already. May destroy requests.
    void (*answered)(Watcher& watcher, const StoreOp& op) noexcept = nullptr;
    void* data = nullptr;
    StoreTask* task = nullptr;  // nullptr: not waiting
    Watcher* next = nullptr;
};

void detach(Watcher& watcher) noexcept;

inline constexpr std::size_t kMostInBatch = 64;
inline constexpr std::size_t kMostWaiting = 100'000;  // operations a lane holds, some 50 MB

class StoreQueue;

class StoreLane {
  public:
    StoreLane() noexcept;
    StoreLane(const StoreLane&) = delete;
    StoreLane& operator=(const StoreLane&) = delete;
    ~StoreLane();

    void start(RealmConf& realm, std::unique_ptr<Store> store, ngx_log_t* log) noexcept;

    // Takes the task over. False: the lane is full (the task is deleted).
    bool add(std::unique_ptr<StoreTask> task) noexcept;

    std::size_t waiting() const noexcept { return waiting_; }
    std::size_t retrying() const noexcept { return retry_count_; }

    StoreTask* find_waiting(const StoreKey& key) const noexcept;

    // Housekeeping of the store about once a minute, in this lane's thread.
    void keep_tidy() noexcept;

    // At the process's end, when nginx has joined the threads: what still waits is written from
    // here.
    void flush() noexcept;

  private:
    struct Batch;

    static void post_event(ngx_event_t* event) noexcept;
    static void retry_event(ngx_event_t* event) noexcept;
    static void minute_event(ngx_event_t* event) noexcept;
    static void batch_done(ngx_event_t* event) noexcept;
    static void run_in_thread(void* data, ngx_log_t* log) noexcept;

    void append(StoreTask* task) noexcept;
    void dispatch() noexcept;
    void collect() noexcept;
    void finish(StoreTask* task) noexcept;
    void retry_later(StoreTask* task) noexcept;
    void reclaim() noexcept;
    void take_retries() noexcept;

    RealmConf* realm_ = nullptr;
    std::unique_ptr<Store> store_;
    std::unique_ptr<Batch> batch_;
    StoreTask* first_ = nullptr;
    StoreTask* last_ = nullptr;
    std::size_t waiting_ = 0;
    StoreTask* retries_ = nullptr;
    std::size_t retry_count_ = 0;
    bool busy_ = false;
    bool tidy_ = false;  // the next batch is followed by housekeeping
    ngx_event_t post_{};
    ngx_event_t retry_{};
    ngx_event_t minute_{};
    ngx_msec_t exiting_since_ = 0;
};

class StoreQueue final : public Journal {
  public:
    // NGX_ERROR, logged: the store cannot be opened.
    ngx_int_t start(RealmConf& realm, ngx_log_t* log) noexcept;
    void flush() noexcept;

    // Asks about a token; joins a look-up of the same key that has not set out yet. False: no
    // memory, or too many are waiting: the answer is unknown.
    bool ask(const Token& token, Watcher& watcher) noexcept;

    // Of this worker: what has not set out yet, and what is tried again.
    std::size_t waiting() const noexcept { return look_ups_.waiting() + writes_.waiting(); }
    std::size_t retrying() const noexcept { return writes_.retrying(); }

    // Last activity, without anybody waiting.
    void touch(const Token& token, TimeMs last_seen, TimeMs expires) noexcept;

    // Journal: written through. The request that is being served (WriteScope) waits.
    void opened(const SessionView& view, ByteView record) noexcept override;
    void saved(const SessionView& view, ByteView record) noexcept override;
    void ended(const Token& token, Departure why, TimeMs until) noexcept override;

  private:
    void write(const Token& token, StoreVerb verb, const StoreEntry& entry) noexcept;

    RealmConf* realm_ = nullptr;
    StoreLane look_ups_;
    StoreLane writes_;
};

}  // namespace sg::ngx
