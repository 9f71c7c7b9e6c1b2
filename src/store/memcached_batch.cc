#include "store/memcached_batch.h"

#include <algorithm>
#include <new>

namespace sg {

bool MemcachedBatch::reserve(std::size_t count, std::size_t replicas) noexcept {
    if (count <= room_ && replicas == replicas_per_task_) {
        return true;
    }
    room_ = 0;
    replicas_per_task_ = replicas;
    tasks_.reset(new (std::nothrow) MemcachedTask[count]);
    servers_.reset(new (std::nothrow) std::uint8_t[count * replicas]);
    replicas_.reset(new (std::nothrow) MemcachedReplica[count * replicas]);
    if (tasks_ == nullptr || servers_ == nullptr || replicas_ == nullptr) {
        return false;
    }
    room_ = count;
    return true;
}

bool MemcachedBatch::begin(std::span<StoreOp> ops, const Placement& placement,
                           std::size_t replicas) noexcept {
    count_ = 0;
    sealed_.clear();
    for (StoreOp& op : ops) {
        op.answer = StoreAnswer::unknown;
        op.lost = false;
    }
    if (!reserve(ops.size(), replicas)) {
        return false;
    }
    count_ = ops.size();
    for (std::size_t i = 0; i < count_; ++i) {
        MemcachedTask& task = tasks_[i];
        task = {};
        task.op = &ops[i];
        task.servers = servers_.get() + i * replicas;
        task.replicas = replicas_.get() + i * replicas;
        placement.place(ops[i].key, {task.servers, replicas});
        task.state_name = memcached_name(MemcachedSlot::state, ops[i].key);
        task.activity_name = memcached_name(MemcachedSlot::activity, task.state_name);
    }
    link_same_keys();
    return true;
}

void MemcachedBatch::link_same_keys() noexcept {
    for (std::size_t i = 1; i < count_; ++i) {
        for (std::size_t j = i; j-- > 0;) {
            if (is_same_key(tasks_[j].op->key, tasks_[i].op->key)) {
                tasks_[i].prior = &tasks_[j];
                break;
            }
        }
    }
}

void MemcachedBatch::seal(MemcachedCodec& codec, TimeMs now) noexcept {
    for (MemcachedTask& task : tasks()) {
        StoreOp& op = *task.op;
        if (op.verb == StoreVerb::get) {
            continue;
        }
        task.done = !codec.seal(op.entry, op.key, op.key_id, sealed_, task.own);
        if (!task.done && op.entry.expires <= now) {
            task.done = true;  // as if it had been written, and forgotten at once
            op.answer = StoreAnswer::found;
        }
    }
}

bool MemcachedBatch::is_done() const noexcept {
    return std::all_of(tasks_.get(), tasks_.get() + count_,
                       [](const MemcachedTask& task) { return task.done; });
}

}  // namespace sg
