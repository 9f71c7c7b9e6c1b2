// The end of a worker's lane to the store: what is still to be written is written without an
// event loop.
#include <utility>

#include "nginx/clock.h"
#include "nginx/conf.h"
#include "nginx/tier/store_batch.h"
#include "nginx/tier/store_lane.h"
#include "store/steady.h"

namespace sg::ngx {
namespace {

constexpr std::int64_t kLastTries = 2'000'000;  // microseconds without any success
constexpr ngx_msec_t kBetweenLastTries = 50;

}  // namespace

// The batch that was in flight when the event loop ended: carried out, but nobody was told.
void StoreLane::reclaim() noexcept {
    for (std::size_t i = 0; busy_ && i < batch_->count; ++i) {
        StoreTask* const task = batch_->tasks[i];
        task->op = std::move(batch_->ops[i]);
        task->watchers = nullptr;  // the requests are gone
        if (is_write(task->op) && task->op.answer == StoreAnswer::unknown) {
            append(task);
        } else {
            delete task;
        }
    }
    busy_ = false;
}

void StoreLane::flush() noexcept {
    reclaim();
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
            delete task;
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
