// The strict reader of RFC 9651 items: what it accepts, and what it refuses at which byte.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include <array>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "core/web/structured_field.h"

namespace {

using sg::SfItemReader;
using sg::SfParameter;
using sg::SfType;
using Step = sg::SfItemReader::Step;
using namespace std::string_view_literals;

struct Reading {
    std::string_view token;
    std::vector<SfParameter> parameters;
    bool good = false;
    sg::SfError error;
};

Reading read_item(std::string_view text, std::vector<char>& scratch) {
    scratch.assign(text.size(), '\0');
    SfItemReader reader(text, scratch);
    Reading reading;
    if (reader.read_token(reading.token)) {
        SfParameter parameter;
        Step step;
        while ((step = reader.next(parameter)) == Step::parameter) {
            reading.parameters.push_back(parameter);
        }
        reading.good = step == Step::end;
    }
    reading.error = reader.error();
    return reading;
}

void expect_text(std::string_view got, std::string_view wanted) {
    assert_int_equal(got.size(), wanted.size());
    assert_memory_equal(got.data(), wanted.data(), wanted.size());
}

// Would catch: a type mixed up with another, a bare key that is not true, a sign lost.
void reads_every_type_of_value(void**) {
    std::vector<char> scratch;
    const Reading item = read_item(
        R"(verb;a;b=?0;c=?1;d=-12;e="x \"y\" \\";f=tok/en:1;g=%"f%c3%bc \ ";*h.-_9=0)", scratch);
    assert_true(item.good);
    expect_text(item.token, "verb");
    assert_int_equal(item.parameters.size(), 8);
    const auto value = [&](std::size_t i) { return item.parameters[i].value; };
    assert_true(value(0).type == SfType::boolean && value(0).boolean);
    assert_true(value(1).type == SfType::boolean && !value(1).boolean);
    assert_true(value(2).type == SfType::boolean && value(2).boolean);
    assert_true(value(3).type == SfType::integer && value(3).integer == -12);
    assert_true(value(4).type == SfType::string);
    expect_text(value(4).text, R"(x "y" \)");
    expect_text(value(4).source, R"("x \"y\" \\")");
    assert_true(value(5).type == SfType::token);
    expect_text(value(5).text, "tok/en:1");
    assert_true(value(6).type == SfType::display_string);
    expect_text(value(6).text, "f\u00fc \\ ");
    expect_text(item.parameters[7].key, "*h.-_9");
    assert_true(value(7).type == SfType::integer && value(7).integer == 0);
}

// Would catch: spaces allowed or refused in the wrong places (only around the item and after ";").
void allows_spaces_where_the_rfc_does(void**) {
    std::vector<char> scratch;
    const Reading item = read_item("  verb;   a=1;b  ", scratch);
    assert_true(item.good);
    assert_int_equal(item.parameters.size(), 2);
    assert_true(read_item("*", scratch).good);
    assert_true(read_item("a!#$%&'*+-.^_`|~:/9", scratch).good);
}

// Would catch: an off-by-one in the number of digits, or an overflow behind it.
void reads_integers_up_to_fifteen_digits(void**) {
    std::vector<char> scratch;
    assert_true(read_item("v;a=999999999999999", scratch).parameters[0].value.integer ==
                999999999999999);
    assert_true(read_item("v;a=-999999999999999", scratch).parameters[0].value.integer ==
                -999999999999999);
    assert_true(read_item("v;a=000000000000001", scratch).parameters[0].value.integer == 1);
    assert_true(read_item("v;a=-0", scratch).parameters[0].value.integer == 0);
}

// Would catch: the value of one parameter leaking into the next, which has none of its own.
void a_bare_key_does_not_inherit_the_value_before_it(void**) {
    std::vector<char> scratch;
    const Reading item = read_item(R"(v;a="x";b)", scratch);
    assert_true(item.parameters[1].value.type == SfType::boolean);
    assert_true(item.parameters[1].value.text.empty());
    expect_text(item.parameters[1].value.source, "b");
}

struct Refusal {
    std::string_view text;
    const char* what;
    std::size_t offset;
};

constexpr const char* kValue = "a value is expected";
constexpr const char* kName = "a parameter name is expected";
constexpr const char* kHex = "% is followed by two lower-case hex digits";
constexpr const char* kNotUtf8 = "the display string is not UTF-8";
constexpr const char* kAscii = "not printable ASCII in a string";
constexpr const char* kDisplayAscii = "not printable ASCII in a display string";
constexpr const char* kEscape = R"(only \" and \\ may be escaped)";
constexpr const char* kOpen = "the string does not end";
constexpr const char* kDigits = "an integer has at most 15 digits";

const Refusal kRefusals[] = {
    {"", "empty", 0},
    {"   ", "empty", 3},
    {";a", "a token is expected", 0},
    {"\tv", "a token is expected", 0},
    {"1v", "a token is expected", 0},
    {"\"v\"", "a token is expected", 0},
    {"(v)", "a token is expected", 0},
    {"?1", "a token is expected", 0},
    {"\0v"sv, "a token is expected", 0},
    {"\xc3\xbc", "a token is expected", 0},
    {"v v", "unexpected text", 2},
    {"v ;a", "unexpected text", 2},
    {"v\t", "unexpected text", 1},
    {"v\r\nX: y", "unexpected text", 1},
    {"v\0"sv, "unexpected text", 1},
    {"v;a\0"sv, "unexpected text", 3},
    {"v, w", "a list is not allowed", 1},
    {"v;a=1, w;a=2", "a list is not allowed", 5},
    {"v;a=1 x", "unexpected text", 6},
    {"v;", kName, 2},
    {"v;  ", kName, 4},
    {"v;;a", kName, 2},
    {"v;A=1", kName, 2},
    {"v;1=1", kName, 2},
    {"v;\ta", kName, 2},
    {"v;=1", kName, 2},
    {"v;aB", "a parameter name has no upper-case letters", 3},
    {"v;a =1", "unexpected text", 4},
    {"v;a= 1", kValue, 4},
    {"v;a=", kValue, 4},
    {"v;a=;b", kValue, 4},
    {"v;a='x'", kValue, 4},
    {"v;a=\xff", kValue, 4},
    {"v;a=:YQ==:", "a byte sequence is not allowed", 4},
    {"v;a=@1659578233", "a date is not allowed", 4},
    {"v;a=(x y)", "an inner list is not allowed", 4},
    {"v;a=1.5", "a decimal is not allowed", 4},
    {"v;a=1.", "a decimal is not allowed", 4},
    {"v;a=-", "a digit is expected", 5},
    {"v;a=--1", "a digit is expected", 5},
    {"v;a=1000000000000000", kDigits, 4},
    {"v;a=-1000000000000000", kDigits, 4},
    {"v;a=99999999999999999999999999", kDigits, 4},
    {"v;a=1e3", "unexpected text", 5},
    {"v;a=?", "a boolean is ?0 or ?1", 5},
    {"v;a=?2", "a boolean is ?0 or ?1", 5},
    {"v;a=?10", "unexpected text", 6},
    {"v;a=\"", kOpen, 4},
    {"v;a=\"x", kOpen, 4},
    {"v;a=\"x\\\"", kOpen, 4},
    {"v;a=\"\\", kEscape, 5},
    {"v;a=\"\\n\"", kEscape, 5},
    {"v;a=\"\\u0041\"", kEscape, 5},
    {"v;a=\"x\ty\"", kAscii, 6},
    {"v;a=\"x\r\ny\"", kAscii, 6},
    {"v;a=\"x\0y\""sv, kAscii, 6},
    {"v;a=\"\x7f\"", kAscii, 5},
    {"v;a=\"\xc3\xbc\"", kAscii, 5},
    {"v;a=\"x\"y", "unexpected text", 7},
    {"v;a=\"x\"\"y\"", "unexpected text", 7},
    {"v;a=%", "a quote is expected", 5},
    {"v;a=%x", "a quote is expected", 5},
    {"v;a=%\"x", "the display string does not end", 4},
    {"v;a=%\"%", kHex, 6},
    {"v;a=%\"%c", kHex, 6},
    {"v;a=%\"%c3", "the display string does not end", 4},
    {"v;a=%\"%C3%BC\"", kHex, 6},
    {"v;a=%\"%zz\"", kHex, 6},
    {"v;a=%\"%c3%\"", kHex, 9},
    {"v;a=%\"\xc3\xbc\"", kDisplayAscii, 6},
    {"v;a=%\"x\ny\"", kDisplayAscii, 7},
    {"v;a=%\"%c3\"", kNotUtf8, 4},
    {"v;a=%\"%80\"", kNotUtf8, 4},
    {"v;a=%\"%c0%af\"", kNotUtf8, 4},
    {"v;a=%\"%c1%bf\"", kNotUtf8, 4},
    {"v;a=%\"%e0%80%af\"", kNotUtf8, 4},
    {"v;a=%\"%f0%80%80%af\"", kNotUtf8, 4},
    {"v;a=%\"%ed%a0%80\"", kNotUtf8, 4},
    {"v;a=%\"%f4%90%80%80\"", kNotUtf8, 4},
    {"v;a=%\"%f8%88%80%80%80\"", kNotUtf8, 4},
    {"v;a=%\"%ff\"", kNotUtf8, 4},
    {"v;a;a", "repeated parameter", 4},
    {"v;a=1;b=2;a=3", "repeated parameter", 10},
};

// Would catch: each row is one way to be lenient where the design says malformed.
void refuses_what_is_not_in_the_subset_and_says_where(void**) {
    std::vector<char> scratch;
    for (const Refusal& row : kRefusals) {
        const Reading item = read_item(row.text, scratch);
        if (item.good || std::string_view(row.what) != item.error.what ||
            item.error.offset != row.offset) {
            fail_msg("%.*s: got \"%s\" at %zu, wanted \"%s\" at %zu",
                     static_cast<int>(row.text.size()), row.text.data(),
                     item.good ? "good" : item.error.what, item.error.offset, row.what, row.offset);
        }
        assert_true(item.error.offset + item.error.token.size() <= row.text.size());
    }
}

// Would catch: going on behind an error, so that half a command is taken for a whole one.
void stays_failed_after_the_first_error(void**) {
    std::array<char, 16> scratch;
    SfItemReader reader("v;A;b=1", scratch);
    std::string_view token;
    SfParameter parameter;
    assert_true(reader.read_token(token));
    assert_true(reader.next(parameter) == Step::malformed);
    assert_true(reader.next(parameter) == Step::malformed);
    assert_false(reader.read_token(token));
    assert_int_equal(reader.error().offset, 2);
}

// Would catch: a write behind the table of seen keys.
void accepts_256_parameters_and_no_more(void**) {
    std::string text = "v";
    for (int i = 0; i < 256; ++i) {
        text += ";k" + std::to_string(i);
    }
    std::vector<char> scratch;
    assert_true(read_item(text, scratch).good);
    const Reading item = read_item(text + ";k256", scratch);
    assert_false(item.good);
    assert_string_equal(item.error.what, "too many parameters");
    assert_string_equal(read_item(text + ";k255", scratch).error.what, "repeated parameter");
}

// Would catch: a write behind the scratch when the caller gave too little.
void refuses_when_the_scratch_is_too_small(void**) {
    std::array<char, 3> scratch;
    SfItemReader reader(R"(v;a="12";b="34")", scratch);
    std::string_view token;
    SfParameter parameter;
    assert_true(reader.read_token(token));
    assert_true(reader.next(parameter) == Step::parameter);
    assert_true(reader.next(parameter) == Step::malformed);
    assert_string_equal(reader.error().what, "too little work space");
}

// Would catch: a wrong bound in the decoder: the first and last character of every length, and the
// neighbours of the surrogates.
void decodes_the_edges_of_utf8(void**) {
    const struct {
        std::string_view text;
        char32_t c;
    } edges[] = {
        {"\0"sv, 0},
        {"\x7f", 0x7f},
        {"\xc2\x80", 0x80},
        {"\xdf\xbf", 0x7ff},
        {"\xe0\xa0\x80", 0x800},
        {"\xed\x9f\xbf", 0xd7ff},
        {"\xee\x80\x80", 0xe000},
        {"\xef\xbf\xbf", 0xffff},
        {"\xf0\x90\x80\x80", 0x10000},
        {"\xf4\x8f\xbf\xbf", 0x10ffff},
    };
    for (const auto& edge : edges) {
        std::size_t offset = 0;
        char32_t c = 1;
        assert_true(sg::next_code_point(edge.text, offset, c));
        assert_true(c == edge.c && offset == edge.text.size());
        offset = 0;
        assert_false(edge.text.size() > 1 &&
                     sg::next_code_point(edge.text.substr(0, 1), offset, c));
    }
}

// Would catch: a control character that splits a line for some reader of the log.
void knows_control_characters(void**) {
    for (const char32_t c : {0x00, 0x0a, 0x1f, 0x7f, 0x80, 0x85, 0x9f, 0x2028, 0x2029}) {
        assert_true(sg::is_control_character(c));
    }
    for (const char32_t c : {0x20, 0x7e, 0xa0, 0xfc, 0x2027, 0x202a, 0x1f600}) {
        assert_false(sg::is_control_character(c));
    }
    assert_true(sg::is_plain_text("f\u00fcr \U0001F600"));
    assert_false(sg::is_plain_text("\xc2\x85"));
    assert_false(sg::is_plain_text("a\xc2"));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_type_of_value),
        cmocka_unit_test(allows_spaces_where_the_rfc_does),
        cmocka_unit_test(reads_integers_up_to_fifteen_digits),
        cmocka_unit_test(a_bare_key_does_not_inherit_the_value_before_it),
        cmocka_unit_test(refuses_what_is_not_in_the_subset_and_says_where),
        cmocka_unit_test(stays_failed_after_the_first_error),
        cmocka_unit_test(accepts_256_parameters_and_no_more),
        cmocka_unit_test(refuses_when_the_scratch_is_too_small),
        cmocka_unit_test(decodes_the_edges_of_utf8),
        cmocka_unit_test(knows_control_characters),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
