// Fuzzes the pieces of the feed. Bytes that are a head or a slot are written back as the same
// bytes, a slot is of one place only, and a reader with less room sees the same number of notes.
// Input: epoch, number and chain of a place, then the bytes.
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "core/feed_note.h"

namespace {

using Bytes = std::vector<std::uint8_t>;

void require(bool condition, const char* what) {
    if (!condition) {
        std::fprintf(stderr, "broken promise: %s\n", what);
        std::abort();
    }
}

void check_head(sg::ByteView bytes) {
    const auto head = sg::decode_feed_head(bytes);
    if (!head) {
        return;
    }
    std::array<std::uint8_t, sg::kFeedFixedBytes> again;
    sg::encode_feed_head(*head, again);
    require(Bytes(again.begin(), again.end()) == Bytes(bytes.begin(), bytes.end()),
            "a head is written as it was read");
}

void check_slot(sg::ByteView bytes, const sg::FeedPosition& at) {
    std::array<sg::FeedNote, sg::kMaxFeedNotes> notes;
    const auto count = sg::decode_feed_slot(bytes, at, notes);
    if (!count) {
        return;
    }
    require(*count > 0 && *count <= notes.size(), "a slot has notes, and not too many");
    Bytes again(sg::kMaxFeedBytes);
    again.resize(sg::encode_feed_slot(at, std::span(notes).first(*count), again));
    require(again == Bytes(bytes.begin(), bytes.end()), "a slot is written as it was read");
    require(sg::decode_feed_slot(bytes, at, {}) == count, "its notes are counted without room");
    const sg::FeedPosition others[] = {{at.epoch ^ 1, at.number, at.chain},
                                       {at.epoch, at.number ^ 1, at.chain},
                                       {at.epoch, at.number, at.chain ^ 1}};
    for (const sg::FeedPosition& other : others) {
        require(!sg::decode_feed_slot(bytes, other, notes), "a slot is of one place");
    }
    require(!sg::decode_feed_slot(bytes.first(bytes.size() - 1), at, notes),
            "a truncated slot is none");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr std::size_t kPlace = 3 * sizeof(std::uint64_t);
    if (size < kPlace) {
        return 0;
    }
    const sg::FeedPosition at{sg::load_le<std::uint64_t>(data),
                              sg::load_le<std::uint64_t>(data + 8),
                              sg::load_le<std::uint64_t>(data + 16)};
    const sg::ByteView bytes(data + kPlace, size - kPlace);
    check_head(bytes);
    check_slot(bytes, at);
    // The same bytes where they say that they belong.
    if (bytes.size() >= sg::kFeedFixedBytes) {
        check_slot(bytes, {sg::load_le<std::uint64_t>(bytes.data() + 4),
                           sg::load_le<std::uint64_t>(bytes.data() + 12),
                           sg::load_le<std::uint64_t>(bytes.data() + 20)});
    }
    return 0;
}
