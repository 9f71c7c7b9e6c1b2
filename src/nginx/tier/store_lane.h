// Operations of one kind (look-ups, or writes) on their way to one realm's store: they gather, and
// at most one batch of them is in nginx's thread pool. Everything here belongs to the event loop's
// thread; a batch in flight owns copies.
#pragma once

#include "nginx/ngx.h"

#include <array>
#include <memory>

#include "nginx/tier/threads.h"
#include "store/store.h"

namespace sg::ngx {

class StoreQueue;
struct RealmConf;
struct StoreTask;
struct StoreTimes;

// Somebody waiting for one operation. Lives in a request's pool; detach() before that goes.
struct Watcher {
    // The operation is answered; the watcher is detached already. May destroy requests.
    void (*answered)(Watcher& watcher, const StoreOp& op) noexcept = nullptr;
    void* data = nullptr;
    StoreTask* task = nullptr;  // nullptr: not waiting
    Watcher* next = nullptr;
};

void detach(Watcher& watcher) noexcept;

// One operation, and who waits for it.
struct StoreTask {
    StoreTask() noexcept = default;
    StoreTask(const StoreTask&) = delete;
    StoreTask& operator=(const StoreTask&) = delete;
    ~StoreTask();

    void add(Watcher& watcher) noexcept;
    void take_watchers(StoreTask& from) noexcept;

    StoreOp op;
    Watcher* watchers = nullptr;
    StoreTask* next = nullptr;
    StoreTask* chained = nullptr;

    // Of a change: the control header it was made for, so that it can be made again.
    BytesBox command;
    int rounds = 0;
};

// Something a store is used for now and then that is no operation.
class StoreErrand {
  public:
    // In the thread, after the batch's operations: touches nothing but the store and itself.
    virtual void run(Store& store, TimeMs now) noexcept = 0;
    // In the event loop. Not called when the worker goes, nor after run() if the pool had no room.
    virtual void done() noexcept = 0;

  protected:
    ~StoreErrand() = default;
};

inline constexpr std::size_t kMostInBatch = 64;
inline constexpr std::size_t kMostWaiting = 100'000;  // operations a lane holds, some 50 MB

class StoreLane {
  public:
    StoreLane() noexcept;
    StoreLane(const StoreLane&) = delete;
    StoreLane& operator=(const StoreLane&) = delete;
    ~StoreLane();

    // `queue` hears of every write's answer, and outlives the lane; `times` is in shared memory.
    void start(StoreQueue& queue, RealmConf& realm, StoreTimes& times, std::unique_ptr<Store> store,
               ngx_log_t* log) noexcept;

    // From now on a batch that is not full sets out only when a round of the event loop has
    // brought nothing more for it, or after so many.
    void wait_for_more(int rounds) noexcept { most_rounds_ = rounds; }

    // nullptr: no memory.
    std::unique_ptr<StoreTask> new_look_up() noexcept;

    // Takes the task over. False: the lane is full (the task is deleted, nobody waits any more).
    bool add(std::unique_ptr<StoreTask> task) noexcept;

    std::size_t waiting() const noexcept { return waiting_; }
    std::size_t retrying() const noexcept { return retry_count_; }

    StoreTask* find_waiting(const StoreKey& key) const noexcept;

    // Goes along with the next batch, or is one by itself. Outlives the lane; one at a time.
    void send(StoreErrand& errand) noexcept;

    // At the process's end, when nginx has joined the threads: what still waits is written from
    // here.
    void flush() noexcept;

  private:
    struct Batch;

    static void post_event(ngx_event_t* event) noexcept;
    static void retry_event(ngx_event_t* event) noexcept;
    static void batch_done(ngx_event_t* event) noexcept;
    static void run_in_thread(void* data, ngx_log_t* log) noexcept;

    void append(StoreTask* task) noexcept;
    void unchain(const StoreTask* task) noexcept;
    void gather() noexcept;
    bool has_batches() noexcept;
    void dispatch() noexcept;
    void go_on(std::int64_t gathered_us) noexcept;
    void collect() noexcept;
    void account(std::size_t count, std::int64_t took_us) noexcept;
    void finish(StoreTask* task, StoreOp& op) noexcept;
    static void tell(StoreTask* task, const StoreOp& op) noexcept;
    void fetch_ahead(const StoreTask& task, const StoreOp& op) const noexcept;
    void keep_spare(StoreTask* task) noexcept;
    void retry_later(StoreTask* task) noexcept;
    void keep(StoreTask* task) noexcept;
    bool sort_out() noexcept;
    void report_lost(ngx_log_t* log) const noexcept;
    std::size_t reclaim() noexcept;
    void settle(StoreTask* task) noexcept;
    void take_retries() noexcept;

    StoreQueue* queue_ = nullptr;
    RealmConf* realm_ = nullptr;
    StoreTimes* times_ = nullptr;
    std::unique_ptr<Store> store_;
    std::unique_ptr<Batch> batch_;  // the next one, or in flight
    std::unique_ptr<Batch> heard_;  // the one before: whoever waits for it is told
    StoreTask* first_ = nullptr;
    StoreTask* last_ = nullptr;
    std::size_t waiting_ = 0;
    std::size_t gathered_ = 0;  // of these, at the end of the event loop's last round
    int rounds_ = 0;            // that the next batch has waited for
    int most_rounds_ = 0;
    // Those that wait, by the first byte of their keys: however many there are, the event loop
    // finds one in a few steps.
    std::array<StoreTask*, 256> chains_{};
    StoreTask* spare_ = nullptr;  // of look-ups, for others
    std::size_t spare_count_ = 0;
    StoreTask* retries_ = nullptr;  // in the order of their making: a later change is written last
    StoreTask* last_retry_ = nullptr;
    std::size_t retry_count_ = 0;
    bool busy_ = false;
    StoreErrand* errand_ = nullptr;
    ngx_event_t post_{};
    ngx_event_t retry_{};
    ngx_msec_t exiting_since_ = 0;
};

}  // namespace sg::ngx
