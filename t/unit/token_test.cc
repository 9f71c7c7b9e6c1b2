// The cookie's value: 48 bytes in 64 characters, with one spelling each.
#include "core/token.h"

#include "core/base64url.h"
#include "unit/support.h"

using namespace sg;
using namespace sg::test;
using namespace std::string_view_literals;

namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

Token sample() {
    Token token;
    token.key_id = 1;
    for (std::uint8_t i = 0; i < 16; ++i) {
        token.handle[i] = static_cast<std::uint8_t>(2 + i);
        token.secret[i] = static_cast<std::uint8_t>(18 + i);
    }
    for (std::uint8_t i = 0; i < 15; ++i) {
        token.tag[i] = static_cast<std::uint8_t>(34 + i);
    }
    return token;
}

// Would catch: a field moved by a byte, or a changed order, which would log everybody out.
void writes_key_id_handle_secret_and_tag_in_this_order(void**) {
    assert_text(text_of(sample()),
                "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8w");
}

// Would catch: a field lost between writing and reading.
void reads_back_what_it_wrote(void**) {
    random_state = 1;
    for (int i = 0; i < 1000; ++i) {
        Token token;
        fake_random({&token.key_id, 1});
        fake_random(token.handle);
        fake_random(token.secret);
        fake_random(token.tag);
        const auto read = parse_token(text_of(token));
        assert_true(read.has_value());
        assert_int_equal(read->key_id, token.key_id);
        assert_memory_equal(read->handle.data(), token.handle.data(), token.handle.size());
        assert_memory_equal(read->secret.data(), token.secret.data(), token.secret.size());
        assert_memory_equal(read->tag.data(), token.tag.data(), token.tag.size());
        assert_true(same_token(*read, token));
    }
}

// Would catch: two texts that are the same token, so that a denied or logged text is not the one
// that passes. Every character at every place: another character is refused or another token.
void has_one_spelling_only(void**) {
    const TokenText text = text_of(sample());
    for (std::size_t at = 0; at < text.chars.size(); ++at) {
        for (int c = 0; c < 256; ++c) {
            TokenText other = text;
            other.chars[at] = static_cast<char>(c);
            const auto read = parse_token(other);
            const bool known = kAlphabet.find(static_cast<char>(c)) != std::string_view::npos;
            assert_int_equal(read.has_value(), known);
            if (read) {
                assert_text(text_of(*read), other, "spelling");
                assert_int_equal(same_token(*read, sample()),
                                 std::string_view(other) == std::string_view(text));
            }
        }
    }
}

// Would catch: a comparison that forgets a field, or stops at the first equal one.
void compares_every_bit(void**) {
    const TokenText text = text_of(sample());
    for (std::size_t bit = 0; bit < kTokenBytes * 8; ++bit) {
        std::array<std::uint8_t, kTokenBytes> wire;
        assert_true(base64url_decode(text, wire));
        wire[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
        TokenText flipped;
        base64url_encode(wire, flipped.chars);
        const auto other = parse_token(flipped);
        assert_true(other.has_value());
        assert_false(same_token(sample(), *other));
        assert_false(same_token(*other, sample()));
    }
    assert_true(same_token(sample(), sample()));
}

#define A63 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define A62 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define A60 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define A31 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

struct Case {
    std::string_view text;
    bool good;
};

constexpr Case kCases[] = {
    {A63 "A"sv, true},
    {A63 "_"sv, true},
    {"-" A63 ""sv, true},
    {"0" A62 "z"sv, true},
    // lengths
    {""sv, false},
    {"A"sv, false},
    {A60 ""sv, false},
    {A62 ""sv, false},
    {A63 ""sv, false},
    {A63 "AA"sv, false},
    {A63 A63 "AA"sv, false},
    {A63 A62 "AAA"sv, false},
    // padding, at the right length and beyond
    {A63 "="sv, false},
    {A62 "=="sv, false},
    {A60 "===="sv, false},
    {A63 "A="sv, false},
    {A63 "A=="sv, false},
    {"=" A63 ""sv, false},
    // the other base64 alphabet
    {A63 "+"sv, false},
    {A63 "/"sv, false},
    {"+" A63 ""sv, false},
    {"/" A63 ""sv, false},
    // quotes and blanks around or inside
    {"\"" A62 "\""sv, false},
    {"\"" A63 "A\""sv, false},
    {" " A63 ""sv, false},
    {" " A63 "A"sv, false},
    {A63 " "sv, false},
    {A63 "A "sv, false},
    {A63 "\t"sv, false},
    {A63 "\n"sv, false},
    {A63 "A\r\n"sv, false},
    {A31 " " A31 "A"sv, false},
    // NUL does not end it
    {A63 "\0"sv, false},
    {"\0" A63 ""sv, false},
    {A63 "A\0"sv, false},
    {A31 "\0" A31 "A"sv, false},
    // escapes, separators, control characters, 8 bit
    {A60 "%41A"sv, false},
    {A62 "A;"sv, false},
    {A62 "A,"sv, false},
    {A62 "A."sv, false},
    {A62 "A~"sv, false},
    {A62 "A:"sv, false},
    {A62 "A@"sv, false},
    {A62 "A["sv, false},
    {A62 "A`"sv, false},
    {A62 "A{"sv, false},
    {A62 "A\x7f"sv, false},
    {A62 "A\x80"sv, false},
    {A62 "A\xff"sv, false},
    {A62 "\xc3\x84"sv, false},
    {"\xef\xbb\xbf" A60 "A"sv, false},
};
static_assert(std::size(kCases) >= 44);

// Would catch: leniency of any kind; each of these would be a second spelling or a crash.
void refuses_what_it_would_not_write(void**) {
    for (const Case& each : kCases) {
        if (parse_token(each.text).has_value() != each.good) {
            fail_msg("\"%.*s\" of %zu", static_cast<int>(each.text.size()), each.text.data(),
                     each.text.size());
        }
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(writes_key_id_handle_secret_and_tag_in_this_order),
        cmocka_unit_test(reads_back_what_it_wrote),
        cmocka_unit_test(has_one_spelling_only),
        cmocka_unit_test(compares_every_bit),
        cmocka_unit_test(refuses_what_it_would_not_write),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
