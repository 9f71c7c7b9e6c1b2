// The writer's lock of one shard: a robust, process-shared mutex in shared memory. When its last
// holder was killed, the next one learns it at once (EOWNERDEAD) and repairs the shard before going
// on.
#pragma once

#include "core/zone/layout.h"

namespace sg {

// Holds the lock while it lives. Never hold two: writers of two shards could wait for each other.
// Only what moves a session to a younger table does (table_move.cc), always in that order.
// No system call where nobody else holds the lock.
class LockedShard {
  public:
    explicit LockedShard(const ShardView& shard) noexcept;
    ~LockedShard();
    LockedShard(const LockedShard&) = delete;
    LockedShard& operator=(const LockedShard&) = delete;

    // The previous holder died and the shard has just been repaired.
    bool recovered() const noexcept { return recovered_; }
    const ShardView& shard() const noexcept { return shard_; }

  private:
    ShardView shard_;
    bool recovered_ = false;
};

// Prepares the mutex; once, before any other process sees it. False when the system refuses.
bool init_shard_mutex(Shard& shard) noexcept;

// Rebuilds buckets, free list and counts from the cells, which are the truth: a head cell with an
// even sequence and a whole overflow chain is a session, everything else is free. May itself be
// killed at any store: the next holder starts again. Only with the lock held.
void repair_shard(const ShardView& shard) noexcept;

}  // namespace sg
