// Where the frames of a WebSocket connection end (RFC 6455 section 5.2), for bytes that go by in
// one direction: whoever wants to put in a frame of its own must know that none is half sent.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/bytes.h"

namespace sg {

class FrameBorder {
  public:
    // The next bytes that were sent.
    void follow(ByteView bytes) noexcept;

    // No frame is half sent, and no close frame has been: another frame may follow.
    bool may_add_frame() const noexcept { return head_ == 0 && left_ == 0 && !closed_; }

  private:
    void take_head_byte(std::uint8_t byte) noexcept;
    void end_head() noexcept;

    std::uint64_t left_ = 0;  // of a frame's payload
    std::uint64_t length_ = 0;
    std::uint8_t head_ = 0;  // bytes of a frame's head so far
    std::uint8_t head_size_ = 0;
    std::uint8_t length_end_ = 0;  // where its length ends
    std::uint8_t opcode_ = 0;
    bool closed_ = false;
};

// Close codes (section 7.4.1).
inline constexpr std::uint16_t kPolicyViolation = 1008;

// A server's close frame with this code and a reason of at most kMostReason bytes.
inline constexpr std::size_t kMostReason = 64;
using CloseFrame = std::array<std::uint8_t, 4 + kMostReason>;
ByteView write_close_frame(std::uint16_t code, std::string_view reason, CloseFrame& out) noexcept;

}  // namespace sg
