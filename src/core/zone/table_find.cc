// The reading half of the table: no lock, no system call. What a reader may rely on is written at
// SequenceWord (shared_word.h).
#include <algorithm>

#include "core/zone/cells.h"
#include "core/zone/shard_lock.h"
#include "core/zone/tombstones.h"

namespace sg {
namespace {

constexpr int kTries = 100;

// No chain is as long (one cell to a bucket on average, keyed hash). A reader left standing on a
// cell that was freed would otherwise walk the whole free list before it notices.
constexpr std::uint32_t kLongestWalk = 128;

// Relaxed loads of whole words: no race by the standard, two instructions each.
template <std::size_t kWords>
void copy_whole(std::uint8_t* to, const SharedWord<std::uint64_t>* from) noexcept {
#pragma GCC unroll 32
    for (std::size_t i = 0; i < kWords; ++i) {
        store_le<std::uint64_t>(to + 8 * i, from[i].load());
    }
}

void copy_words(std::uint8_t* to, const SharedWord<std::uint64_t>* from,
                std::size_t size) noexcept {
    for (; size >= 64; size -= 64, to += 64, from += 8) {
        copy_whole<8>(to, from);
    }
    for (; size >= 8; size -= 8, to += 8, ++from) {
        copy_whole<1>(to, from);
    }
    if (size > 0) {
        const std::uint64_t last = from->load();
        std::memcpy(to, &last, size);
    }
}

[[gnu::always_inline]] inline void read_token(const Cell& cell, const Handle& handle,
                                              Token& token) noexcept {
    std::uint8_t bytes[32];
    copy_whole<4>(bytes, cell.credential);
    token.handle = handle;
    std::memcpy(token.secret.data(), bytes, 16);
    std::memcpy(token.tag.data(), bytes + 16, 15);
    token.key_id = bytes[31];
}

// Copies the record along its chain. False when a link makes no sense: the copy is torn.
[[gnu::noinline]] bool read_chain(const ShardView& shard, const Cell& head, ByteSpan out) noexcept {
    const Cell* cell = &head;
    for (;;) {
        const std::size_t part = std::min(out.size(), kInlineBytes);
        copy_words(out.data(), cell->record, part);
        out = out.subspan(part);
        if (out.empty()) {
            return true;
        }
        const std::uint32_t next = cell->overflow.load();
        if (!shard.in_range(next)) {
            return false;
        }
        cell = &shard.cell(next);
    }
}

// The first `size` bytes of `room` receive the record. Most records lie in their head, and are
// copied straight on past their end where there is room.
[[gnu::always_inline]] inline bool read_record(const ShardView& shard, const Cell& head,
                                               std::size_t size, ByteSpan room) noexcept {
    if (size <= kInlineBytes && room.size() >= kInlineBytes) {
        copy_whole<kInlineBytes / 8>(room.data(), head.record);
        return true;
    }
    return read_chain(shard, head, room.first(size));
}

enum class Walk : std::uint8_t { found, absent, too_small, torn };

// Reads one cell known to carry the handle; the caller checks the sequence afterwards. `state` was
// loaded once: asked again, a superseded session that ends meanwhile would pass as a live one.
[[gnu::always_inline]] inline Walk read_head(const ShardView& shard, const Cell& cell,
                                             const Handle& handle, CellState state,
                                             SessionView& view, ByteSpan record) noexcept {
    const std::uint64_t activity = cell.activity.load();
    read_token(cell, handle, view.token);
    view.slot = {.shard = shard.number,
                 .index = shard.index_of(cell),
                 .generation = static_cast<std::uint32_t>(activity >> kTimeBits)};
    view.last_seen = static_cast<TimeMs>(activity & kTimeMask);
    view.record_size = cell.record_size.load();
    const TimeMs stamp = time_of_stamp(cell.stamp.load());
    view.superseded_until = 0;
    view.confirmed = stamp;
    if (state == CellState::superseded) {
        view.superseded_until = stamp;
        view.confirmed = 0;
        copy_words(view.successor.data(), cell.successor, view.successor.size());
    }
    if (view.record_size > record.size()) {
        if (record.size() >= kInlineBytes) {
            copy_whole<kInlineBytes / 8>(record.data(), cell.record);
        }
        return Walk::too_small;
    }
    return read_record(shard, cell, view.record_size, record) ? Walk::found : Walk::torn;
}

// One cell of a walk: absent when it holds another session or none.
[[gnu::always_inline]] inline Walk read_cell(const ShardView& shard, const Cell& cell,
                                             const Handle& handle, HandleWords words,
                                             SessionView& view, ByteSpan record) noexcept {
    if (!has_handle(cell, words)) {
        return Walk::absent;
    }
    const auto state = static_cast<CellState>(cell.state.load_acquire());
    return is_head(state) ? read_head(shard, cell, handle, state, view, record) : Walk::absent;
}

// In a large zone every line of a cell comes from memory: all at once, not one after the other.
[[gnu::always_inline]] inline void fetch_ahead(const Cell& cell) noexcept {
    const auto* const bytes = reinterpret_cast<const char*>(&cell);
    for (std::size_t at = 64; at < kCellBytes; at += 64) {
        __builtin_prefetch(bytes + at);
    }
}

// A walk of more than `longest` cells has left its chain.
[[gnu::always_inline]] inline Walk walk(const ShardView& shard, const Bucket& bucket,
                                        const Handle& handle, std::uint32_t longest,
                                        SessionView& view, ByteSpan record) noexcept {
    const HandleWords words = words_of(handle);
    const std::uint32_t bucket_read = bucket.sequence.begin_read();
    std::uint32_t index = bucket.head.load_acquire();
    for (std::uint32_t steps = 0; index != 0; ++steps) {
        if (!shard.in_range(index) || steps > longest) {
            return Walk::torn;
        }
        const Cell& cell = shard.cell(index);
        fetch_ahead(cell);
        const std::uint32_t cell_read = cell.sequence.begin_read();
        const Walk result = read_cell(shard, cell, handle, words, view, record);
        index = cell.next.load();
        if (!cell.sequence.unchanged(cell_read)) {
            return Walk::torn;
        }
        if (result != Walk::absent) {
            return result;
        }
    }
    // Only a walk over a bucket that did not change proves that nobody is there.
    return bucket.sequence.unchanged(bucket_read) ? Walk::absent : Walk::torn;
}

FindResult from_walk(Walk walk) noexcept {
    switch (walk) {
        case Walk::found:
            return FindResult::found;
        case Walk::absent:
            return FindResult::absent;
        case Walk::too_small:
            return FindResult::too_small;
        case Walk::torn:
            break;
    }
    return FindResult::busy;
}

}  // namespace

FindResult Table::find(const Handle& handle, SessionView& view, ByteSpan record) const noexcept {
    const std::uint64_t hash = hash_of(*header_, words_of(handle));
    const ShardView shard = view_shard(*header_, shard_number(*header_, hash));
    const Bucket& bucket = bucket_of(shard, hash);
    Walk result = Walk::torn;
    for (int i = 0; i < kTries && result == Walk::torn; ++i) {
        result = walk(shard, bucket, handle, kLongestWalk, view, record);
    }
    return from_walk(result);
}

FindResult Table::find_locked(LockedShard& shard, const Handle& handle, SessionView& view,
                              ByteSpan record) const noexcept {
    const std::uint64_t hash = hash_of(*header_, words_of(handle));
    return from_walk(
        walk(shard.shard(), bucket_of(shard.shard(), hash), handle, header_->cells, view, record));
}

void Table::fetch_ahead(const Handle& handle) const noexcept {
    const std::uint64_t hash = hash_of(*header_, words_of(handle));
    const ShardView shard = view_shard(*header_, shard_number(*header_, hash));
    const auto* const set = reinterpret_cast<const char*>(&tombstone_set_of(shard, hash));
    __builtin_prefetch(&bucket_of(shard, hash));
    __builtin_prefetch(set);
    __builtin_prefetch(set + 64);
}

bool Table::touch(SlotRef slot, TimeMs now) const noexcept {
    if (slot.shard >= header_->shard_count || now < 0) {
        return false;
    }
    const ShardView shard = view_shard(*header_, slot.shard);
    if (!shard.in_range(slot.index)) {
        return false;
    }
    Cell& cell = shard.cell(slot.index);
    std::uint64_t activity = cell.activity.load();
    for (;;) {
        if (activity >> kTimeBits != slot.generation ||
            now < static_cast<TimeMs>(activity & kTimeMask) + kSecond) {
            return false;
        }
        const std::uint64_t next = std::uint64_t{slot.generation} << kTimeBits |
                                   (static_cast<std::uint64_t>(now) & kTimeMask);
        if (cell.activity.swap_if(activity, next)) {
            return true;
        }
    }
}

std::optional<Departure> Table::find_tombstone(const Handle& handle, TimeMs now) const noexcept {
    const HandleWords words = words_of(handle);
    const std::uint64_t hash = hash_of(*header_, words);
    return read_tombstone(view_shard(*header_, shard_number(*header_, hash)), words, hash, now);
}

}  // namespace sg
