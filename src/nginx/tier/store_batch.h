// What a lane sends to a thread: up to 64 operations and what becomes of them.
#pragma once

#include "nginx/ngx.h"

#include "nginx/tier/store_lane.h"

namespace sg::ngx {

// Fixed in place: two per lane, used again and again. While one is in flight the thread owns `ops`.
struct StoreLane::Batch {
    ngx_thread_task_t task{};
    StoreLane* lane = nullptr;
    Store* store = nullptr;
    TimeMs now = 0;
    std::int64_t took_us = 0;
    std::size_t count = 0;
    StoreErrand* errand = nullptr;
    std::array<StoreOp, kMostInBatch> ops;
    std::array<StoreTask*, kMostInBatch> tasks{};
};

inline bool is_write(const StoreOp& op) noexcept {
    return op.verb != StoreVerb::get;
}

// A look-up sets out from here, and its answer is heard here: the task keeps the question only. So
// the room of the last answer is used again.
inline void set_out(StoreOp& op, const StoreOp& question) noexcept {
    op.verb = question.verb;
    op.key = question.key;
    op.key_id = question.key_id;
    op.handle = question.handle;
    op.lost = false;
    op.successor.reset();
    op.seen = StoreEntry{};
}

// Of a task that has been to the store. Last activity is told again by the next request.
inline bool must_be_written(const StoreTask& task) noexcept {
    return is_write(task.op) && task.op.verb != StoreVerb::touch &&
           task.op.answer == StoreAnswer::unknown;
}

}  // namespace sg::ngx
