// Where a WebSocket's frames end, seen from outside, and the one frame that is put in.
#include "core/web/websocket.h"

#include <string>

#include "unit/support.h"

using namespace sg;
using namespace sg::test;
using namespace std::string_literals;

namespace {

std::string server_frame(std::uint8_t first, std::size_t length) {
    std::string frame(1, static_cast<char>(first));
    if (length < 126) {
        frame += static_cast<char>(length);
    } else if (length < 65536) {
        frame += '\x7e';
        frame += static_cast<char>(length >> 8);
        frame += static_cast<char>(length);
    } else {
        frame += '\x7f';
        for (int shift = 56; shift >= 0; shift -= 8) {
            frame += static_cast<char>(static_cast<std::uint64_t>(length) >> shift);
        }
    }
    return frame + std::string(length, 'x');
}

// A frame in a frame is a broken connection: the border must be seen where it is, and nowhere else,
// however the bytes are cut into pieces.
void border_is_only_where_a_frame_ends(void**) {
    for (const std::size_t length : {0, 1, 125, 126, 127, 65535, 65536, 70000}) {
        const std::string frame = server_frame(0x82, length);
        for (const std::size_t piece : {std::size_t{1}, std::size_t{3}, frame.size()}) {
            FrameBorder border;
            assert_true(border.may_add_frame());
            for (std::size_t at = 0; at < frame.size(); at += piece) {
                border.follow(as_bytes(std::string_view(frame).substr(at, piece)));
                assert_int_equal(border.may_add_frame(), at + piece >= frame.size());
            }
        }
    }
}

// Two frames in one piece, and the head of a third.
void frames_follow_each_other(void**) {
    const std::string two = server_frame(0x01, 5) + server_frame(0x80, 200);
    FrameBorder border;
    border.follow(as_bytes(two));
    assert_true(border.may_add_frame());
    border.follow(as_bytes("\x81"));
    assert_false(border.may_add_frame());
}

// A server that masks (it must not) does not shift what follows by four bytes.
void masked_frame_has_its_key(void**) {
    FrameBorder border;
    border.follow(as_bytes("\x81\x82kkkkx"));
    assert_false(border.may_add_frame());
    border.follow(as_bytes("x"));
    assert_true(border.may_add_frame());
}

// Nothing may follow a close frame (section 5.5.1).
void nothing_follows_a_close_frame(void**) {
    FrameBorder border;
    border.follow(as_bytes(server_frame(0x89, 3)));
    assert_true(border.may_add_frame());
    border.follow(as_bytes(server_frame(0x88, 2)));
    assert_false(border.may_add_frame());
    border.follow(as_bytes(server_frame(0x81, 2)));
    assert_false(border.may_add_frame());
}

void close_frame_carries_code_and_reason(void**) {
    CloseFrame place;
    const ByteView frame = write_close_frame(kPolicyViolation, "ended", place);
    assert_true(as_text(frame) == "\x88\x07\x03\xf0"s + "ended");
    const std::string longest(kMostReason + 10, 'r');
    const ByteView cut = write_close_frame(kPolicyViolation, longest, place);
    assert_int_equal(cut.size(), place.size());
    assert_int_equal(cut[1], 2 + kMostReason);
    FrameBorder border;
    border.follow(cut);
    assert_false(border.may_add_frame());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(border_is_only_where_a_frame_ends),
        cmocka_unit_test(frames_follow_each_other),
        cmocka_unit_test(masked_frame_has_its_key),
        cmocka_unit_test(nothing_follows_a_close_frame),
        cmocka_unit_test(close_frame_carries_code_and_reason),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
