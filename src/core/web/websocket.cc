#include "core/web/websocket.h"

#include <algorithm>

namespace sg {
namespace {

constexpr std::uint8_t kOpcodeBits = 0x0f;
constexpr std::uint8_t kClose = 0x8;
constexpr std::uint8_t kFinal = 0x80;
constexpr std::uint8_t kMasked = 0x80;  // clients mask; a server that does must not confuse us
constexpr std::uint8_t kLengthBits = 0x7f;
constexpr std::uint8_t kShortHead = 2;
constexpr std::uint8_t kMaskBytes = 4;

// Bytes of length behind the first two.
std::uint8_t more_length(std::uint8_t length) noexcept {
    if (length == 126) {
        return 2;
    }
    return length == 127 ? 8 : 0;
}

}  // namespace

void FrameBorder::end_head() noexcept {
    closed_ = closed_ || opcode_ == kClose;
    left_ = length_;
    head_ = 0;
}

void FrameBorder::take_head_byte(std::uint8_t byte) noexcept {
    if (head_ == 0) {
        opcode_ = byte & kOpcodeBits;
        head_size_ = kShortHead;
    } else if (head_ == 1) {
        const std::uint8_t more = more_length(byte & kLengthBits);
        length_ = more == 0 ? byte & kLengthBits : 0;
        length_end_ = kShortHead + more;
        head_size_ = length_end_ + ((byte & kMasked) != 0 ? kMaskBytes : 0);
    } else if (head_ < length_end_) {
        length_ = length_ << 8 | byte;
    }
    if (++head_ == head_size_) {
        end_head();
    }
}

void FrameBorder::follow(ByteView bytes) noexcept {
    while (!bytes.empty()) {
        std::size_t some = 1;
        if (left_ > 0) {
            some = std::min<std::uint64_t>(left_, bytes.size());
            left_ -= some;
        } else {
            take_head_byte(bytes.front());
        }
        bytes = bytes.subspan(some);
    }
}

ByteView write_close_frame(std::uint16_t code, std::string_view reason, CloseFrame& out) noexcept {
    reason = reason.substr(0, kMostReason);
    out[0] = kFinal | kClose;
    out[1] = static_cast<std::uint8_t>(2 + reason.size());
    out[2] = static_cast<std::uint8_t>(code >> 8);
    out[3] = static_cast<std::uint8_t>(code & 0xff);
    std::copy(reason.begin(), reason.end(), out.begin() + 4);
    return ByteView(out).first(4 + reason.size());
}

}  // namespace sg
