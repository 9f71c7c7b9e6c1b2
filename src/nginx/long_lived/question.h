// The store is asked about the session of a request that lasts: nothing waits for the answer.
#pragma once

#include "nginx/ngx.h"

#include "nginx/long_lived/long_lived.h"

namespace sg::ngx {

enum class Question : std::uint8_t {
    waits,   // it is on its way; `answered` hears of it, or it is overdue
    later,   // enough are
    nobody,  // there is nobody to ask
};

// Asks what the zone wants to know about this pass (`outcome`: needs_store, needs_successor).
Question ask_store(LongLived& all, const Pass& pass, const Outcome& outcome,
                   void (*answered)(Watcher& watcher, const StoreOp& op) noexcept) noexcept;

// A successor was not there under one key: nodes may mint with different ones while a new key is
// handed out. False: that was the last.
bool ask_under_next_key(LongLived& all) noexcept;

bool is_waiting(const LongLived& all) noexcept;

// It has waited for longer than a request would; the answer, should it come, is nobody's.
bool is_overdue(const LongLived& all) noexcept;

void stop_asking(LongLived& all) noexcept;

}  // namespace sg::ngx
