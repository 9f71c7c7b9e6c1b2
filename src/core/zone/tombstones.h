// Tombstones: why a handle left. A small set-associative area per shard, oldest dropped, read
// without a lock. They name the reason for late comers and keep late writers from bringing a
// session back.
#pragma once

#include "core/zone/layout.h"

namespace sg {

// Writes or renews the tombstone of this handle. The shard's lock is held.
void write_tombstone(const ShardView& shard, HandleWords words, std::uint64_t hash, Departure why,
                     TimeMs until) noexcept;

std::optional<Departure> read_tombstone(const ShardView& shard, HandleWords words,
                                        std::uint64_t hash, TimeMs now) noexcept;

// Empties sets a killed writer left half written. The shard's lock is held.
void repair_tombstones(const ShardView& shard) noexcept;

}  // namespace sg
