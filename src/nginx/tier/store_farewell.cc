// The end of a worker's lane to the store: what is still to be written is written without an
// event loop.
#include <utility>

#include "nginx/clock.h"
#include "nginx/conf.h"
#include "nginx/tier/store_batch.h"
#include "nginx/tier/store_lane.h"
#include "nginx/tier/store_queue.h"
#include "store/steady.h"

namespace sg::ngx {
namespace {

constexpr std::int64_t kLastTries = 2'000'000;  // microseconds without any success
constexpr ngx_msec_t kBetweenLastTries = 50;

}  // namespace

// The batch that was in flight when the event loop ended: carried out, but nobody was told. How
// many tasks come back.
std::size_t StoreLane::reclaim() noexcept {
    const std::size_t count = busy_ ? batch_->count : 0;
    for (std::size_t i = 0; i < count; ++i) {
        batch_->tasks[i]->op = std::move(batch_->ops[i]);
        batch_->tasks[i]->watchers = nullptr;  // the requests are gone
    }
    busy_ = false;
    return count;
}

// An answer may ask for another write: what an ended session was replaced with ends as well.
void StoreLane::settle(StoreTask* task) noexcept {
    if (is_write(task->op)) {
        (void)queue_->heard(*task);
    }
    delete task;
}

void StoreLane::flush() noexcept {
    const std::size_t count = reclaim();
    for (std::size_t i = 0; i < count; ++i) {
        StoreTask* const task = batch_->tasks[i];
        if (is_write(task->op) && task->op.answer == StoreAnswer::unknown) {
            append(task);
        } else {
            settle(task);
        }
    }
    take_retries();
    std::int64_t heard = steady_us();
    while (first_ != nullptr && batch_ != nullptr) {
        batch_->store = store_.get();
        batch_->now = now_ms();
        collect();
        run_in_thread(batch_.get(), nullptr);
        if (sort_out()) {
            heard = steady_us();
        } else if (steady_us() - heard <= kLastTries) {
            ngx_msleep(kBetweenLastTries);
        } else {
            break;
        }
        if (first_ == nullptr) {
            take_retries();
        }
    }
    report_lost(post_.log);
}

// After a batch without an event loop: what it did not bring home is kept. False: all of it.
bool StoreLane::sort_out() noexcept {
    bool is_heard = false;
    for (std::size_t i = 0; i < batch_->count; ++i) {
        StoreTask* const task = batch_->tasks[i];
        task->op = std::move(batch_->ops[i]);
        if (must_be_written(*task)) {
            keep(task);
        } else {
            is_heard = is_heard || task->op.answer != StoreAnswer::unknown;
            settle(task);
        }
    }
    return is_heard;
}

void StoreLane::report_lost(ngx_log_t* log) const noexcept {
    if (const std::size_t count = waiting_ + retry_count_; count > 0) {
        ngx_log_error(NGX_LOG_ALERT, log, 0,
                      "session guard: realm \"%V\": the store did not take %uz changes before "
                      "this worker had to go",
                      &realm_->name, count);
    }
}

}  // namespace sg::ngx
