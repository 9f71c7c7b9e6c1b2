// The operations of one batch on their way through the rounds of a store: who comes before whom,
// where each key lies, and what its replicas have told in the round just over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "store/byte_arena.h"
#include "store/memcached_codec.h"
#include "store/memcached_rules.h"
#include "store/placement.h"
#include "store/store.h"

namespace sg {

struct MemcachedTask {
    StoreOp* op = nullptr;
    const MemcachedTask* prior = nullptr;  // an earlier operation on the key, to be done first
    std::uint8_t* servers = nullptr;       // where its replicas lie, best first
    MemcachedReplica* replicas = nullptr;  // what each of them has told
    MemcachedName state_name{};
    MemcachedName activity_name{};
    ByteArena::Place own;      // the operation's entry, sealed
    std::size_t question = 0;  // its first in this round: of each server that is up, state and then
                               // (where it reads that) activity
    MemcachedMerged merged;
    MemcachedDecision decision;
    std::uint8_t rounds = 0;
    bool asked = false;  // in this round
    bool done = false;

    bool is_ready() const noexcept { return !done && (prior == nullptr || prior->done); }
    bool reads_activity() const noexcept {
        return op->verb == StoreVerb::get || op->verb == StoreVerb::touch;
    }
};

class MemcachedBatch {
  public:
    // False: no memory. The answers of all operations are `unknown` then, and at first.
    bool begin(std::span<StoreOp> ops, const Placement& placement, std::size_t replicas) noexcept;

    std::span<MemcachedTask> tasks() noexcept { return {tasks_.get(), count_}; }
    std::span<MemcachedReplica> replicas(const MemcachedTask& task) const noexcept {
        return {task.replicas, replicas_per_task_};
    }

    // Seals the entries of the writes. One that cannot be written is done: unknown, alone.
    void seal(MemcachedCodec& codec, TimeMs now) noexcept;
    ByteView own(const MemcachedTask& task) const noexcept { return sealed_.view(task.own); }

    bool is_done() const noexcept;

  private:
    bool reserve(std::size_t count, std::size_t replicas) noexcept;
    void link_same_keys() noexcept;

    std::size_t room_ = 0;
    std::size_t count_ = 0;
    std::size_t replicas_per_task_ = 1;
    std::unique_ptr<MemcachedTask[]> tasks_;
    std::unique_ptr<std::uint8_t[]> servers_;
    std::unique_ptr<MemcachedReplica[]> replicas_;
    ByteArena sealed_;
};

}  // namespace sg
