// The feed (store.h) in an LMDB file: a head and the last few thousand slots, written in the
// transaction of the operations they tell of. So it is exact; a gap is only what nobody has read
// for too long.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/feed_note.h"
#include "core/random_pool.h"
#include "store/lmdb_entries.h"
#include "store/store.h"

namespace sg {

// Tells of what a batch has changed, if anything. 0, or why LMDB could not: the transaction must be
// given up.
int lmdb_tell(const LmdbContext& context, std::uint8_t key_id, RandomPool& random,
              std::span<const StoreOp> batch) noexcept;

// Store::listen within a snapshot. 0, or why LMDB could not.
int lmdb_listen(const LmdbContext& context, FeedPlace& place, std::span<FeedNote> notes,
                std::size_t& count, FeedHeard& heard) noexcept;

}  // namespace sg
