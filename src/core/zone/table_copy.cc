// Copying a table into one of another size, at reload. The old one may be in use: it is only read.
#include <algorithm>
#include <array>

#include "core/zone/cells.h"
#include "core/zone/shard_lock.h"
#include "core/zone/table.h"
#include "core/zone/tombstones.h"

namespace sg {
namespace {

// A live writer is done in microseconds; one that was killed never is. All waiting together.
constexpr int kMostPauses = 50;

// For the copy no time has passed: nothing in it is reclaimed for its age while it is made.
constexpr TimeMs kNoTime = 0;
constexpr SweepLimits kNoLimits{.idle = 0, .absolute = 1};

// The handle in this cell of the old table, if a session seems to be there.
std::optional<Handle> handle_in(const Cell& cell) noexcept {
    if (!is_head(state_of(cell))) {
        return std::nullopt;
    }
    Handle handle;
    store_le<std::uint64_t>(handle.data(), cell.handle[0].load());
    store_le<std::uint64_t>(handle.data() + 8, cell.handle[1].load());
    return handle;
}

FindResult find_patiently(const Table& old, const Handle& handle, SessionView& view,
                          ByteSpan record, int& pauses, Table::Pause pause) noexcept {
    FindResult result = old.find(handle, view, record);
    while (result == FindResult::busy && pauses < kMostPauses) {
        ++pauses;
        pause();
        result = old.find(handle, view, record);
    }
    return result;
}

// Returns how many sessions ended after they had been copied: ended stays ended, so their copies
// go.
std::uint64_t copy_tombstones(const ShardView& from, const Table& to, TimeMs now) noexcept {
    std::uint64_t ended = 0;
    for (std::uint32_t i = 0; i < from.header->tombstone_sets; ++i) {
        for (const Tombstone& entry : from.sets[i].entries) {
            const HandleWords words{entry.handle[0].load(), entry.handle[1].load()};
            const std::uint64_t hash = hash_of(*from.header, words);
            const auto why = read_tombstone(from, words, hash, now);
            if (!why) {
                continue;
            }
            Handle handle;
            store_le<std::uint64_t>(handle.data(), words.low);
            store_le<std::uint64_t>(handle.data() + 8, words.high);
            const auto until = static_cast<TimeMs>(entry.until_and_why.load() >> 8);
            LockedShard shard = to.lock(handle);
            ended += to.remove(shard, handle, *why, until) ? 1 : 0;
        }
    }
    return ended;
}

// Passes over the old cells. A session is looked up by the handle found in a cell, so that it is
// copied once and whole wherever it moves meanwhile.
struct Copy {
    const Table& old;
    const Table& fresh;
    Table::Pause pause;
    int pauses = 0;
    std::uint64_t copied = 0;
    std::uint64_t needed_cells = 0;
    bool all = true;

    // Where a killed writer has left the chain closed, the cell itself still tells.
    bool read(const ShardView& from, const Cell& cell, SessionView& view,
              ByteSpan record) noexcept {
        const auto handle = handle_in(cell);
        if (!handle) {
            return false;
        }
        const FindResult result = find_patiently(old, *handle, view, record, pauses, pause);
        return result == FindResult::found ||
               (result == FindResult::busy && read_cell_in_place(from, cell, view, record));
    }

    void take(const ShardView& from, const Cell& cell) noexcept {
        std::array<std::uint8_t, Table::kMaxRecordBytes> record;
        SessionView view;
        if (!read(from, cell, view, record)) {
            return;
        }
        LockedShard shard = fresh.lock(view.token.handle);
        if (!put(shard, view, ByteView(record).first(view.record_size))) {
            return;
        }
        fresh.confirm(shard, view.token.handle, view.confirmed);
        if (view.superseded_until != 0) {  // perhaps since the first pass
            fresh.supersede(shard, view.token.handle, view.successor, view.superseded_until);
        }
    }

    // False when there is no room. From then on the rest is only counted.
    bool put(LockedShard& shard, const SessionView& view, ByteView record) noexcept {
        const InsertResult result =
            all ? fresh.insert(shard, view.token, record, view.last_seen, kNoLimits, kNoTime)
                : InsertResult::full;
        if (result == InsertResult::exists) {
            return true;
        }
        needed_cells += cells_for(record.size());
        all = result == InsertResult::inserted;
        copied += all ? 1 : 0;
        return all;
    }

    void pass(const ShardView& from) noexcept {
        for (std::uint32_t i = 1; i <= from.header->cells; ++i) {
            take(from, from.cell(i));
        }
    }
};

}  // namespace

bool Table::copy_from(const Table& old, TimeMs now, Pause pause, std::uint64_t& copied,
                      std::uint64_t& needed_cells) const noexcept {
    Copy copy{.old = old, .fresh = *this, .pause = pause};
    for (std::uint32_t i = 0; i < old.header_->shard_count; ++i) {
        copy.pass(view_shard(*old.header_, i));
    }
    // A replacement moves a session to another cell, perhaps to one the first pass had behind it.
    for (std::uint32_t i = 0; copy.all && i < old.header_->shard_count; ++i) {
        copy.pass(view_shard(*old.header_, i));
    }
    std::uint64_t ended = 0;
    for (std::uint32_t i = 0; i < old.header_->shard_count; ++i) {
        ended += copy_tombstones(view_shard(*old.header_, i), *this, now);
    }
    copied = copy.copied - ended;
    needed_cells = copy.needed_cells;
    return copy.all;
}

}  // namespace sg
