// Work on single cells under the shard's lock: the free list, filling, linking into a bucket's
// chain and giving back. The order of the stores is what makes it safe to be killed after any of
// them; the readers beside are told by the sequences.
#pragma once

#include "core/zone/layout.h"

namespace sg {

struct NewCell {
    const Token& token;
    ByteView record;
    TimeMs last_seen;
    TimeMs confirmed;
    std::uint32_t edition;
};

// Are `need` cells in the free list? Looks at so many links only.
bool has_free(const ShardView& shard, std::size_t need) noexcept;

// A whole session out of free cells (has_free(cells_for(record.size())) must hold), not yet
// reachable.
Cell& fill_cell(const ShardView& shard, const NewCell& content) noexcept;

void link(const ShardView& shard, Bucket& bucket, Cell& cell) noexcept;
void unlink(const ShardView& shard, Bucket& bucket, Cell& cell) noexcept;

// Gives the cells of an unlinked session back, wiped, with the generation moved on. Returns when
// the session was last seen, up to the very last touch.
TimeMs release(const ShardView& shard, Cell& head) noexcept;

// Ends, unlinks and releases a linked session.
void end_cell(const ShardView& shard, Bucket& bucket, Cell& cell) noexcept;

// The live or superseded session with this handle, nullptr when there is none.
Cell* find_head(const ShardView& shard, const Bucket& bucket, HandleWords words) noexcept;

void store_words(SharedWord<std::uint64_t>* to, ByteView from) noexcept;

// Zeroes handle, credential, successor and record; the cell's sequence is odd.
void wipe(Cell& cell) noexcept;

}  // namespace sg
