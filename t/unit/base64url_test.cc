// base64url without padding (RFC 4648 section 5).
#include "core/base64url.h"

#include "unit/support.h"

using namespace sg;
using namespace sg::test;
using namespace std::string_view_literals;

namespace {

struct Pair {
    std::string_view bytes;
    std::string_view text;
};

// RFC 4648 section 10, without the padding; then the two characters that differ from base64.
constexpr Pair kKnown[] = {
    {"", ""},
    {"f", "Zg"},
    {"fo", "Zm8"},
    {"foo", "Zm9v"},
    {"foob", "Zm9vYg"},
    {"fooba", "Zm9vYmE"},
    {"foobar", "Zm9vYmFy"},
    {"\xff"sv, "_w"},
    {"\xfb\xff\xbe"sv, "-_--"},
    {"\0"sv, "AA"},
    {"\0\0\0\0"sv, "AAAAAA"},
};

// Would catch: the wrong alphabet, padding, or bits in the wrong order.
void encodes_and_decodes_the_examples_of_the_rfc(void**) {
    for (const Pair& each : kKnown) {
        std::array<char, 16> text{};
        const std::size_t chars = base64url_chars(each.bytes.size());
        base64url_encode(as_bytes(each.bytes), std::span(text).first(chars));
        assert_text({text.data(), chars}, each.text);
        std::array<std::uint8_t, 16> bytes{};
        const ByteSpan out = ByteSpan(bytes).first(each.bytes.size());
        assert_true(base64url_decode(each.text, out));
        assert_text(as_text(out), each.bytes);
    }
}

// Would catch: a lost byte at a length that is no multiple of three, and a write beyond the end.
void round_trips_every_length(void**) {
    for (std::size_t size = 0; size <= 100; ++size) {
        std::array<std::uint8_t, 100> in;
        fake_random(in);
        std::array<char, 136> text;
        text.fill('!');
        const std::size_t chars = base64url_chars(size);
        base64url_encode(ByteView(in).first(size), std::span(text).first(chars));
        assert_int_equal(text[chars], '!');
        std::array<std::uint8_t, 101> out;
        out.fill(0xee);
        assert_true(base64url_decode({text.data(), chars}, ByteSpan(out).first(size)));
        assert_memory_equal(out.data(), in.data(), size);
        assert_int_equal(out[size], 0xee);
    }
}

// Would catch: unused low bits that are not looked at: four (or sixteen) spellings of one value.
void refuses_set_bits_that_mean_nothing(void**) {
    std::array<std::uint8_t, 2> out;
    int good = 0;
    for (const char c : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"sv) {
        const char two[] = {'Z', c};
        const char three[] = {'Z', 'm', c};
        good += base64url_decode({two, 2}, ByteSpan(out).first(1)) ? 1 : 0;
        good += base64url_decode({three, 3}, ByteSpan(out).first(2)) ? 1 : 0;
    }
    assert_int_equal(good, 4 + 16);
}

// Would catch: a processor's wide instructions that take, refuse or place a character otherwise
// than the tables do. 64 characters (a token) go the wide way where there is one, 60 by the tables.
void wide_and_plain_decoding_agree_on_every_byte_at_every_place(void**) {
    std::array<std::uint8_t, 45> in;
    fake_random(in);
    std::array<char, 64> text;
    text.fill('A');
    base64url_encode(in, std::span(text).first(60));
    int good = 0;
    for (std::size_t place = 0; place < 60; ++place) {
        const char kept = text[place];
        for (int c = 0; c < 256; ++c) {
            text[place] = static_cast<char>(c);
            std::array<std::uint8_t, 48> wide{};
            std::array<std::uint8_t, 45> plain{};
            const bool wide_good = base64url_decode({text.data(), 64}, wide);
            assert_int_equal(wide_good, base64url_decode({text.data(), 60}, plain));
            if (wide_good) {
                assert_memory_equal(wide.data(), plain.data(), plain.size());
                ++good;
            }
        }
        text[place] = kept;
    }
    assert_int_equal(good, 60 * 64);
}

// Would catch: a text of another length that is accepted, or read beyond its end.
void refuses_every_other_length(void**) {
    std::array<std::uint8_t, 12> out;
    constexpr std::string_view kText = "AAAAAAAAAAAAAAAAAAAAAAAA";
    for (std::size_t chars = 0; chars <= kText.size(); ++chars) {
        assert_int_equal(base64url_decode(kText.substr(0, chars), out), chars == 16);
    }
    assert_true(base64url_decode("", {}));
    assert_false(base64url_decode("A", {}));
    assert_false(base64url_decode("A", ByteSpan(out).first(1)));
}

// Would catch: a character that decodes as if it were another one, at any place.
void accepts_the_64_characters_only(void**) {
    std::array<std::uint8_t, 3> out;
    for (std::size_t at = 0; at < 4; ++at) {
        int good = 0;
        for (int c = 0; c < 256; ++c) {
            std::array<char, 4> text{'A', 'A', 'A', 'A'};
            text[at] = static_cast<char>(c);
            good += base64url_decode({text.data(), 4}, out) ? 1 : 0;
        }
        assert_int_equal(good, 64);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(encodes_and_decodes_the_examples_of_the_rfc),
        cmocka_unit_test(round_trips_every_length),
        cmocka_unit_test(refuses_set_bits_that_mean_nothing),
        cmocka_unit_test(wide_and_plain_decoding_agree_on_every_byte_at_every_place),
        cmocka_unit_test(refuses_every_other_length),
        cmocka_unit_test(accepts_the_64_characters_only),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
