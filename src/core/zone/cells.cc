#include "core/zone/cells.h"

#include <algorithm>

namespace sg {
namespace {

void store_credential(Cell& cell, const Token& token) noexcept {
    std::uint8_t bytes[32];
    std::memcpy(bytes, token.secret.data(), 16);
    std::memcpy(bytes + 16, token.tag.data(), 15);
    bytes[31] = token.key_id;
    store_words(cell.handle, token.handle);
    store_words(cell.credential, bytes);
}

Cell& pop_free(const ShardView& shard) noexcept {
    Cell& cell = shard.cell(shard.shard->free_head.load());
    shard.shard->free_head.store(cell.next.load());
    shard.shard->used.store(shard.shard->used.load() + 1);
    return cell;
}

void push_free(const ShardView& shard, Cell& cell) noexcept {
    cell.next.store(shard.shard->free_head.load());
    shard.shard->free_head.store(shard.index_of(cell));
    shard.shard->used.store(shard.shard->used.load() - 1);
}

// Fills one cell of the chain per call, last part first, so that each knows its successor.
std::uint32_t store_overflow(const ShardView& shard, std::uint32_t head, ByteView record) noexcept {
    std::uint32_t next = 0;
    for (std::size_t part = cells_for(record.size()); part > 1; --part) {
        Cell& cell = pop_free(shard);
        const ByteView bytes = record.subspan((part - 1) * kInlineBytes);
        cell.sequence.begin_write();
        store_words(cell.record, bytes.first(std::min(bytes.size(), kInlineBytes)));
        cell.overflow.store(next);
        cell.next.store(head);
        cell.state.store(static_cast<std::uint32_t>(CellState::overflow));
        cell.sequence.end_write();
        next = shard.index_of(cell);
    }
    return next;
}

// Moves the generation on in the same step that reads the time: no touch falls in between.
TimeMs retire(Cell& head) noexcept {
    std::uint64_t activity = head.activity.load();
    while (!head.activity.swap_if(activity, (((activity >> kTimeBits) + 1) & kGenerationMask)
                                                << kTimeBits)) {
    }
    return static_cast<TimeMs>(activity & kTimeMask);
}

}  // namespace

void store_words(SharedWord<std::uint64_t>* to, ByteView from) noexcept {
    for (; from.size() >= 8; from = from.subspan(8), ++to) {
        to->store(load_le<std::uint64_t>(from.data()));
    }
    if (!from.empty()) {
        std::uint64_t last = 0;
        std::memcpy(&last, from.data(), from.size());
        to->store(last);
    }
}

void wipe(Cell& cell) noexcept {
    for (auto* const words : {cell.handle, cell.successor}) {
        words[0].store(0);
        words[1].store(0);
    }
    for (auto& word : cell.credential) {
        word.store(0);
    }
    for (auto& word : cell.record) {
        word.store(0);
    }
}

bool has_free(const ShardView& shard, std::size_t need) noexcept {
    std::uint32_t index = shard.shard->free_head.load();
    for (; need > 0 && shard.in_range(index); --need) {
        index = shard.cell(index).next.load();
    }
    return need == 0;
}

// Killed here: odd sequence or unlinked; the repair drops or
// links it.
Cell& fill_cell(const ShardView& shard, const NewCell& content) noexcept {
    Cell& cell = pop_free(shard);
    cell.sequence.begin_write();
    const std::uint32_t overflow = store_overflow(shard, shard.index_of(cell), content.record);
    store_credential(cell, content.token);
    const auto generation = static_cast<std::uint32_t>(cell.activity.load() >> kTimeBits);
    const std::uint64_t next_generation = (generation + 1) & kGenerationMask;
    cell.activity.store(
        next_generation << kTimeBits |
        (static_cast<std::uint64_t>(std::max<TimeMs>(content.last_seen, 0)) & kTimeMask));
    store_words(cell.record, content.record.first(std::min(content.record.size(), kInlineBytes)));
    cell.record_size.store(static_cast<std::uint32_t>(content.record.size()));
    cell.overflow.store(overflow);
    cell.edition.store(content.edition);
    cell.stamp.store(stamp_of(content.confirmed, false));
    cell.state.store(static_cast<std::uint32_t>(CellState::live));
    cell.sequence.end_write();
    return cell;
}

void link(const ShardView& shard, Bucket& bucket, Cell& cell) noexcept {
    bucket.sequence.begin_write();
    cell.next.store(bucket.head.load());
    bucket.head.store_release(shard.index_of(cell));
    bucket.sequence.end_write();
    shard.shard->live.store(shard.shard->live.load() + 1);
    if (is_roster(cell)) {
        shard.shard->rosters.store(shard.shard->rosters.load() + 1);
    }
}

void unlink(const ShardView& shard, Bucket& bucket, Cell& cell) noexcept {
    const std::uint32_t index = shard.index_of(cell);
    SharedWord<std::uint32_t>* place = &bucket.head;
    for (std::uint32_t steps = 0; place->load() != index; ++steps) {
        if (!shard.in_range(place->load()) || steps > shard.header->cells) {
            return;
        }
        place = &shard.cell(place->load()).next;
    }
    bucket.sequence.begin_write();
    place->store_release(cell.next.load());
    bucket.sequence.end_write();
    shard.shard->live.store(shard.shard->live.load() - 1);
    if (is_roster(cell)) {
        shard.shard->rosters.store(shard.shard->rosters.load() - 1);
    }
}

// The generation moves on before anything is wiped, so that a late touch through an old SlotRef
// finds a stranger. The overflow cells follow when the head's sequence has told the readers.
TimeMs release(const ShardView& shard, Cell& head) noexcept {
    std::uint32_t next = head.overflow.load();
    head.sequence.begin_write();
    const TimeMs last_seen = retire(head);
    wipe(head);
    head.overflow.store(0);
    head.state.store(static_cast<std::uint32_t>(CellState::free));
    head.sequence.end_write();
    push_free(shard, head);
    for (std::size_t left = shard.header->cells; shard.in_range(next) && left > 0; --left) {
        Cell& cell = shard.cell(next);
        next = cell.overflow.load();
        cell.sequence.begin_write();
        wipe(cell);
        cell.overflow.store(0);
        cell.state.store(static_cast<std::uint32_t>(CellState::free));
        cell.sequence.end_write();
        push_free(shard, cell);
    }
    return last_seen;
}

// `ended` is one store: readers see it at once, and a repair completes what follows.
void end_cell(const ShardView& shard, Bucket& bucket, Cell& cell) noexcept {
    cell.state.store_release(static_cast<std::uint32_t>(CellState::ended));
    unlink(shard, bucket, cell);
    release(shard, cell);
}

Cell* find_head(const ShardView& shard, const Bucket& bucket, HandleWords words) noexcept {
    std::uint32_t index = bucket.head.load();
    for (std::uint32_t steps = 0; shard.in_range(index) && steps <= shard.header->cells; ++steps) {
        Cell& cell = shard.cell(index);
        if (has_handle(cell, words) && is_head(state_of(cell))) {
            return &cell;
        }
        index = cell.next.load();
    }
    return nullptr;
}

}  // namespace sg
