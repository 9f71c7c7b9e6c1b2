// Copying a table into one of another size, at reload. The old one may be in use: it is only read.
#include <algorithm>
#include <array>

#include "core/zone/layout.h"
#include "core/zone/shard_lock.h"
#include "core/zone/table.h"
#include "core/zone/tombstones.h"

namespace sg {
namespace {

// A live writer is done in microseconds; one that was killed never is. All waiting together.
constexpr int kMostPauses = 50;

// Nothing of the copy is reclaimed for its age while it is made.
constexpr TimeMs kForEver = 1000LL * 365 * 24 * kHour;

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

void copy_tombstones(const ShardView& from, const TableHeader& to, TimeMs now) noexcept {
    for (std::uint32_t i = 0; i < from.header->tombstone_sets; ++i) {
        for (const Tombstone& entry : from.sets[i].entries) {
            const HandleWords words{entry.handle[0].load(), entry.handle[1].load()};
            const std::uint64_t hash = hash_of(*from.header, words);
            const auto why = read_tombstone(from, words, hash, now);
            if (!why) {
                continue;
            }
            const std::uint64_t new_hash = hash_of(to, words);
            const auto until = static_cast<TimeMs>(entry.until_and_why.load() >> 8);
            write_tombstone(view_shard(to, shard_number(to, new_hash)), words, new_hash, *why,
                            until);
        }
    }
}

// One pass over the old cells. A session is looked up by the handle found in a cell, not read in
// place: whatever the cell held, it is copied once and whole.
struct Copy {
    const Table& old;
    const Table& fresh;
    TimeMs now;
    Table::Pause pause;
    int pauses = 0;
    std::uint64_t copied = 0;
    std::uint64_t needed_cells = 0;
    bool all = true;

    void take(const Handle& handle) noexcept {
        std::array<std::uint8_t, Table::kMaxRecordBytes> record;
        SessionView view;
        if (find_patiently(old, handle, view, record, pauses, pause) != FindResult::found) {
            return;
        }
        LockedShard shard = fresh.lock(handle);
        const ByteView bytes = ByteView(record).first(view.record_size);
        const InsertResult result = fresh.insert(shard, view.token, bytes, view.last_seen,
                                                 {.idle = 0, .absolute = kForEver}, now);
        if (result == InsertResult::exists) {
            return;
        }
        needed_cells += cells_for(view.record_size);
        if (result != InsertResult::inserted) {
            all = false;
            return;
        }
        ++copied;
        if (view.superseded_until != 0) {
            fresh.supersede(shard, handle, view.successor, view.superseded_until);
        }
    }

    void pass(const ShardView& from) noexcept {
        for (std::uint32_t i = 1; i <= from.header->cells; ++i) {
            if (const auto handle = handle_in(from.cell(i))) {
                take(*handle);
            }
        }
    }
};

}  // namespace

bool Table::copy_from(const Table& old, TimeMs now, Pause pause, std::uint64_t& copied,
                      std::uint64_t& needed_cells) const noexcept {
    Copy copy{.old = old, .fresh = *this, .now = now, .pause = pause};
    for (std::uint32_t i = 0; i < old.header_->shard_count; ++i) {
        const ShardView from = view_shard(*old.header_, i);
        copy.pass(from);
        copy_tombstones(from, *header_, now);
    }
    // A replacement moves a session to another cell, perhaps to one the first pass had behind it.
    for (std::uint32_t i = 0; copy.all && i < old.header_->shard_count; ++i) {
        copy.pass(view_shard(*old.header_, i));
    }
    copied = copy.copied;
    needed_cells = copy.needed_cells;
    return copy.all;
}

}  // namespace sg
