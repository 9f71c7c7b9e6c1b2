#include "core/feed_note.h"

#include <algorithm>

namespace sg {
namespace {

enum : std::size_t {
    kLayoutAt = 0,
    kPieceAt = 1,
    kReservedAt = 2,
    kEpochAt = 4,
    kNumberAt = 12,
    kChainAt = 20
};
enum class Piece : std::uint8_t { head = 0, slot = 1 };

void encode_fixed(Piece piece, const FeedPosition& at, std::uint8_t* to) noexcept {
    to[kLayoutAt] = kFeedLayout;
    to[kPieceAt] = static_cast<std::uint8_t>(piece);
    store_le<std::uint16_t>(to + kReservedAt, 0);
    store_le<std::uint64_t>(to + kEpochAt, at.epoch);
    store_le<std::uint64_t>(to + kNumberAt, at.number);
    store_le<std::uint64_t>(to + kChainAt, at.chain);
}

std::optional<FeedPosition> decode_fixed(Piece piece, ByteView bytes) noexcept {
    if (bytes.size() < kFeedFixedBytes || bytes[kLayoutAt] != kFeedLayout ||
        bytes[kPieceAt] != static_cast<std::uint8_t>(piece) ||
        load_le<std::uint16_t>(bytes.data() + kReservedAt) != 0) {
        return std::nullopt;
    }
    return FeedPosition{.epoch = load_le<std::uint64_t>(bytes.data() + kEpochAt),
                        .number = load_le<std::uint64_t>(bytes.data() + kNumberAt),
                        .chain = load_le<std::uint64_t>(bytes.data() + kChainAt)};
}

bool is_known(std::uint8_t what) noexcept {
    return what == static_cast<std::uint8_t>(FeedWhat::ended) ||
           what == static_cast<std::uint8_t>(FeedWhat::changed);
}

}  // namespace

std::uint64_t feed_chain(ByteView sealed) noexcept {
    constexpr std::size_t kSize = sizeof(std::uint64_t);
    return sealed.size() >= kSize ? load_le<std::uint64_t>(sealed.last(kSize).data()) : 0;
}

void encode_feed_head(const FeedPosition& last,
                      std::span<std::uint8_t, kFeedFixedBytes> out) noexcept {
    encode_fixed(Piece::head, last, out.data());
}

std::optional<FeedPosition> decode_feed_head(ByteView bytes) noexcept {
    return bytes.size() == kFeedFixedBytes ? decode_fixed(Piece::head, bytes) : std::nullopt;
}

std::size_t encode_feed_slot(const FeedPosition& at, std::span<const FeedNote> notes,
                             ByteSpan out) noexcept {
    const std::size_t size = kFeedFixedBytes + notes.size() * kFeedNoteBytes;
    if (notes.empty() || notes.size() > kMaxFeedNotes || out.size() < size) {
        return 0;
    }
    encode_fixed(Piece::slot, at, out.data());
    std::uint8_t* to = out.data() + kFeedFixedBytes;
    for (const FeedNote& note : notes) {
        *to = static_cast<std::uint8_t>(note.what);
        std::copy(note.handle.begin(), note.handle.end(), to + 1);
        to += kFeedNoteBytes;
    }
    return size;
}

std::optional<std::size_t> decode_feed_slot(ByteView bytes, const FeedPosition& at,
                                            std::span<FeedNote> out) noexcept {
    if (decode_fixed(Piece::slot, bytes) != at) {
        return std::nullopt;
    }
    const ByteView rest = bytes.subspan(kFeedFixedBytes);
    const std::size_t count = rest.size() / kFeedNoteBytes;
    if (count == 0 || count > kMaxFeedNotes || rest.size() % kFeedNoteBytes != 0) {
        return std::nullopt;
    }
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint8_t* const from = rest.data() + i * kFeedNoteBytes;
        if (!is_known(*from)) {
            return std::nullopt;
        }
        if (i < out.size()) {
            out[i].what = static_cast<FeedWhat>(*from);
            std::copy_n(from + 1, sizeof(Handle), out[i].handle.begin());
        }
    }
    return count;
}

}  // namespace sg
