#include "nginx/tier/store_lane.h"

#include <new>
#include <utility>

#include "nginx/clock.h"
#include "nginx/conf.h"
#include "nginx/tier/store_batch.h"
#include "nginx/tier/store_conf.h"
#include "nginx/tier/store_queue.h"
#include "nginx/tier/store_report.h"
#include "nginx/worker.h"
#include "store/steady.h"

namespace sg::ngx {

namespace {

constexpr std::size_t kAhead = 3;  // look-ups, while one is answered
constexpr ngx_msec_t kRetryInterval = 500;
constexpr std::int64_t kLongGathering = 500;    // microseconds, some rounds of the event loop
constexpr ngx_msec_t kLongestGoodbye = 10'000;  // how long an exiting worker goes on trying

}  // namespace

void detach(Watcher& watcher) noexcept {
    if (watcher.task == nullptr) {
        return;
    }
    Watcher** place = &watcher.task->watchers;
    while (*place != &watcher) {
        place = &(*place)->next;
    }
    *place = watcher.next;
    watcher.task = nullptr;
}

StoreTask::~StoreTask() {
    while (watchers != nullptr) {
        detach(*watchers);
    }
}

void StoreTask::add(Watcher& watcher) noexcept {
    watcher.task = this;
    watcher.next = watchers;
    watchers = &watcher;
}

void StoreTask::take_watchers(StoreTask& from) noexcept {
    while (Watcher* const watcher = from.watchers) {
        detach(*watcher);
        add(*watcher);
    }
}

StoreLane::StoreLane() noexcept = default;

StoreLane::~StoreLane() {
    if (retry_.timer_set) {
        ngx_del_timer(&retry_);
    }
    if (post_.posted) {
        ngx_delete_posted_event(&post_);
    }
    if (batch_ != nullptr && batch_->task.event.posted) {
        ngx_delete_posted_event(&batch_->task.event);
    }
    for (std::size_t i = reclaim(); i > 0; --i) {
        delete batch_->tasks[i - 1];
    }
    for (StoreTask** const list : {&first_, &retries_, &spare_}) {
        while (*list != nullptr) {
            const std::unique_ptr<StoreTask> task(*list);
            *list = task->next;
        }
    }
}

void StoreLane::start(StoreQueue& queue, RealmConf& realm, StoreTimes& times,
                      std::unique_ptr<Store> store, ngx_log_t* log) noexcept {
    queue_ = &queue;
    realm_ = &realm;
    times_ = &times;
    store_ = std::move(store);
    post_ = ngx_event_t{};
    post_.handler = post_event;
    post_.data = this;
    post_.log = log;
    retry_ = post_;
    retry_.handler = retry_event;
}

std::unique_ptr<StoreTask> StoreLane::new_look_up() noexcept {
    if (spare_ == nullptr) {
        return std::unique_ptr<StoreTask>(new (std::nothrow) StoreTask);
    }
    std::unique_ptr<StoreTask> task(spare_);
    spare_ = task->next;
    --spare_count_;
    return task;
}

bool StoreLane::add(std::unique_ptr<StoreTask> task) noexcept {
    if (waiting_ + retry_count_ >= kMostWaiting) {
        report_dropped(*realm_, post_.log);
        return false;
    }
    append(task.release());
    // Posted, not run: all that this round of the event loop asks for goes into one batch.
    if (!busy_ && !post_.posted) {
        ngx_post_event(&post_, &ngx_posted_events);
    }
    return true;
}

void StoreLane::append(StoreTask* task) noexcept {
    task->next = nullptr;
    (last_ != nullptr ? last_->next : first_) = task;
    last_ = task;
    ++waiting_;
    StoreTask*& chain = chains_[task->op.key[0]];
    task->chained = chain;
    chain = task;
}

void StoreLane::unchain(const StoreTask* task) noexcept {
    StoreTask** place = &chains_[task->op.key[0]];
    while (*place != task) {
        place = &(*place)->chained;
    }
    *place = task->chained;
}

StoreTask* StoreLane::find_waiting(const StoreKey& key) const noexcept {
    StoreTask* task = chains_[key[0]];
    while (task != nullptr && !is_same_key(task->op.key, key)) {
        task = task->chained;
    }
    return task;
}

void StoreLane::post_event(ngx_event_t* event) noexcept {
    static_cast<StoreLane*>(event->data)->gather();
}

// A batch costs the switches between threads and a round trip, however few are in it: as long as a
// round of the event loop brings more, the next one may, too. A round that has nothing to do takes
// a microsecond.
void StoreLane::gather() noexcept {
    const bool has_grown = waiting_ > gathered_;
    gathered_ = waiting_;
    if (!has_grown || waiting_ >= kMostInBatch || rounds_ >= most_rounds_) {
        dispatch();
        return;
    }
    ++rounds_;
    ngx_post_event(&post_, &ngx_posted_next_events);
}

bool StoreLane::has_batches() noexcept {
    for (std::unique_ptr<Batch>* const batch : {&batch_, &heard_}) {
        if (*batch == nullptr) {
            batch->reset(new (std::nothrow) Batch);
        }
    }
    return batch_ != nullptr && heard_ != nullptr;
}

void StoreLane::dispatch() noexcept {
    if (busy_ || (first_ == nullptr && errand_ == nullptr)) {
        return;
    }
    if (!has_batches()) {
        return;  // waiters have their own timers
    }
    rounds_ = 0;
    gathered_ = 0;
    Batch& batch = *batch_;
    batch.lane = this;
    batch.store = store_.get();
    batch.now = now_ms();
    batch.took_us = 0;
    batch.errand = std::exchange(errand_, nullptr);
    collect();
    batch.task = ngx_thread_task_t{};
    batch.task.ctx = &batch;
    batch.task.handler = run_in_thread;
    batch.task.event.handler = batch_done;
    batch.task.event.data = &batch;
    batch.task.event.log = post_.log;
    busy_ = true;
    if (ngx_thread_task_post(realm_->store->pool, &batch.task) != NGX_OK) {
        // The pool's queue is full: nobody knows, and writes are tried again.
        ngx_post_event(&batch.task.event, &ngx_posted_events);
    }
}

void StoreLane::collect() noexcept {
    Batch& batch = *batch_;
    for (batch.count = 0; batch.count < kMostInBatch && first_ != nullptr; ++batch.count) {
        StoreTask* const task = first_;
        first_ = task->next;
        last_ = first_ == nullptr ? nullptr : last_;
        --waiting_;
        unchain(task);
        StoreOp& op = batch.ops[batch.count];
        if (is_write(task->op)) {
            op = std::move(task->op);
        } else {
            set_out(op, task->op);
        }
        op.answer = StoreAnswer::unknown;
        op.sent = batch.now;
        batch.tasks[batch.count] = task;
    }
}

// In a thread: touches the batch and the store, nothing else.
void StoreLane::run_in_thread(void* data, ngx_log_t*) noexcept {
    Batch& batch = *static_cast<Batch*>(data);
    const std::int64_t start = steady_us();
    batch.store->run(std::span(batch.ops).first(batch.count), batch.now);
    batch.took_us = steady_us() - start;
    if (batch.errand != nullptr) {
        batch.errand->run(*batch.store, batch.now);
    }
}

void StoreLane::batch_done(ngx_event_t* event) noexcept {
    Batch& batch = *static_cast<Batch*>(event->data);
    StoreLane& lane = *batch.lane;
    std::swap(lane.batch_, lane.heard_);  // the next one may set out before this is told
    lane.busy_ = false;
    lane.account(batch.count, batch.took_us);
    if (StoreErrand* const errand = std::exchange(batch.errand, nullptr)) {
        errand->done();
    }
    lane.go_on(batch.took_us);
    for (std::size_t i = 0; i < batch.count; ++i) {
        if (i + kAhead < batch.count) {
            lane.fetch_ahead(*batch.tasks[i + kAhead], batch.ops[i + kAhead]);
        }
        lane.finish(batch.tasks[i], batch.ops[i]);
    }
}

// A full batch sets out before anybody is woken, and so does one of writes that has gathered for
// long. Another takes along what the next round of the event loop brings.
void StoreLane::go_on(std::int64_t gathered_us) noexcept {
    const bool is_late = most_rounds_ == 0 && gathered_us >= kLongGathering;
    if (waiting_ >= kMostInBatch || is_late) {
        dispatch();
    } else if ((first_ != nullptr || errand_ != nullptr) && !post_.posted) {
        ngx_post_event(&post_, &ngx_posted_next_events);
    }
}

void StoreLane::account(std::size_t count, std::int64_t took_us) noexcept {
    if (count > 0) {
        times_->add(count, took_us);
    }
    report_faults(*realm_, post_.log);
}

// Each request has been left for as long as a batch takes, by a worker that did other things.
void StoreLane::fetch_ahead(const StoreTask& task, const StoreOp& op) const noexcept {
    realm_->core.table->fetch_ahead(op.handle);
    if (task.watchers != nullptr) {
        const auto* const data = static_cast<const char*>(task.watchers->data);
        __builtin_prefetch(data);
        __builtin_prefetch(data + 64);
    }
}

void StoreLane::finish(StoreTask* task, StoreOp& op) noexcept {
    if (!is_write(op)) {
        tell(task, op);
        keep_spare(task);
        return;
    }
    task->op = std::move(op);
    if (queue_->heard(*task)) {
        delete task;
        return;
    }
    tell(task, task->op);
    if (must_be_written(*task)) {
        retry_later(task);
    } else {
        delete task;
    }
}

// Waking one request may end another that waits for the same task: always the list as it is now.
void StoreLane::tell(StoreTask* task, const StoreOp& op) noexcept {
    while (Watcher* const watcher = task->watchers) {
        detach(*watcher);
        watcher->answered(*watcher, op);
    }
}

void StoreLane::keep_spare(StoreTask* task) noexcept {
    if (spare_count_ == kMostInBatch) {
        delete task;
        return;
    }
    task->next = spare_;
    spare_ = task;
    ++spare_count_;
}

void StoreLane::retry_later(StoreTask* task) noexcept {
    report_failed_write(*realm_, post_.log);
    keep(task);
    if (!retry_.timer_set) {
        ngx_add_timer(&retry_, kRetryInterval);  // holds back a graceful exit, for a while
    }
}

void StoreLane::keep(StoreTask* task) noexcept {
    task->next = nullptr;
    (retries_ != nullptr ? last_retry_->next : retries_) = task;
    last_retry_ = task;
    ++retry_count_;
}

void StoreLane::retry_event(ngx_event_t* event) noexcept {
    StoreLane& lane = *static_cast<StoreLane*>(event->data);
    if (is_exiting()) {
        lane.exiting_since_ = lane.exiting_since_ != 0 ? lane.exiting_since_ : ngx_current_msec;
        if (ngx_current_msec - lane.exiting_since_ > kLongestGoodbye) {
            return;  // flush() tries for the last time
        }
    }
    lane.take_retries();
    lane.dispatch();
}

void StoreLane::take_retries() noexcept {
    while (StoreTask* const task = retries_) {
        retries_ = task->next;
        --retry_count_;
        append(task);
    }
}

void StoreLane::send(StoreErrand& errand) noexcept {
    errand_ = &errand;
    dispatch();
}

}  // namespace sg::ngx
