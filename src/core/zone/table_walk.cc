// A round through a table that is in use, for writing what it has to a store that has lost it.
#include "core/zone/layout.h"
#include "core/zone/table.h"
#include "core/zone/tombstones.h"

namespace sg {
namespace {

Handle handle_of(const SharedWord<std::uint64_t>* words) noexcept {
    Handle handle;
    store_le<std::uint64_t>(handle.data(), words[0].load());
    store_le<std::uint64_t>(handle.data() + 8, words[1].load());
    return handle;
}

// The next of `count` places of each shard. False: the round is over.
bool has_place(const TableHeader& header, Table::Cursor& cursor, std::uint32_t count) noexcept {
    if (cursor.index >= count) {
        cursor = {.shard = cursor.shard + 1, .index = 0};
    }
    return cursor.shard < header.shard_count;
}

}  // namespace

// A handle may be torn, or gone a moment later: whoever looks it up finds out.
std::size_t Table::walk_sessions(Cursor& cursor, std::size_t cells,
                                 std::span<Handle> out) const noexcept {
    std::size_t found = 0;
    while (cells-- > 0 && found < out.size() && has_place(*header_, cursor, header_->cells)) {
        const Cell& cell = view_shard(*header_, cursor.shard).cell(++cursor.index);
        if (is_head(state_of(cell))) {
            out[found++] = handle_of(cell.handle);
        }
    }
    return found;
}

std::size_t Table::walk_ended(Cursor& cursor, std::size_t sets, TimeMs now,
                              std::span<Ended> out) const noexcept {
    std::size_t found = 0;
    while (sets-- > 0 && found + kTombstonesPerSet <= out.size() &&
           has_place(*header_, cursor, header_->tombstone_sets)) {
        const ShardView shard = view_shard(*header_, cursor.shard);
        for (const Tombstone& entry : shard.sets[cursor.index++].entries) {
            const Handle handle = handle_of(entry.handle);
            const HandleWords words = words_of(handle);
            const auto until = static_cast<TimeMs>(entry.until_and_why.load() >> 8);
            if (const auto why = read_tombstone(shard, words, hash_of(*header_, words), now)) {
                out[found++] = {.handle = handle, .why = *why, .until = until};
            }
        }
    }
    return found;
}

}  // namespace sg
