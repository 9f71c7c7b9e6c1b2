// What the nodes of a realm tell each other through a store's feed, as bytes. Sealed like entries
// (core/seal.h) under kFeedKind; each piece says where it belongs, so that one which was put
// elsewhere, or brought back, is noticed. See docs/formats.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "core/bytes.h"
#include "core/store_entry.h"
#include "core/token.h"

namespace sg {

inline constexpr EntryKind kFeedKind = static_cast<EntryKind>(4);  // in the seal only

enum class FeedWhat : std::uint8_t { ended = 1, changed = 2 };

struct FeedNote {
    FeedWhat what = FeedWhat::ended;
    Handle handle{};
    bool operator==(const FeedNote&) const noexcept = default;
};

// A place in a feed. A new epoch (random) begins when a feed is made; numbers go up from 1. Each
// slot is chained to the one before it, the head to the last: one that was replaced shows.
struct FeedPosition {
    std::uint64_t epoch = 0;
    std::uint64_t number = 0;
    std::uint64_t chain = 0;  // head: of the slot of this number; slot: of the one before
    bool operator==(const FeedPosition&) const noexcept = default;
};

inline constexpr std::uint8_t kFeedLayout = 1;
inline constexpr std::size_t kMaxFeedNotes = 64;  // in one slot
inline constexpr std::size_t kFeedFixedBytes = 4 + 8 + 8 + 8;
inline constexpr std::size_t kFeedNoteBytes = 1 + sizeof(Handle);
inline constexpr std::size_t kMaxFeedBytes = kFeedFixedBytes + kMaxFeedNotes * kFeedNoteBytes;

// Of a slot as it lies in the store: the end of its seal's tag (core/seal.h), which nobody can
// choose.
std::uint64_t feed_chain(ByteView sealed) noexcept;

// The head: the last slot that is known to have been written. kFeedFixedBytes bytes.
void encode_feed_head(const FeedPosition& last,
                      std::span<std::uint8_t, kFeedFixedBytes> out) noexcept;
std::optional<FeedPosition> decode_feed_head(ByteView bytes) noexcept;

// A slot: what was told at once. Bytes written; 0: no notes, too many, or too little room.
std::size_t encode_feed_slot(const FeedPosition& at, std::span<const FeedNote> notes,
                             ByteSpan out) noexcept;
// nullopt: it is not the slot of this place, or chained to another one, or damaged. Else how many
// notes it has: those that fit are written to `out`.
std::optional<std::size_t> decode_feed_slot(ByteView bytes, const FeedPosition& at,
                                            std::span<FeedNote> out) noexcept;

}  // namespace sg
