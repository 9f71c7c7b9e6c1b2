// Cookie request headers: which pairs there are, and what is left when some are taken out.
#include "core/web/cookie.h"

#include <string>
#include <vector>

#include "unit/support.h"

using namespace sg;
using namespace sg::test;
using namespace std::string_view_literals;

namespace {

// The pairs as "name=value|name=value|"; a pair without a name as "=value|".
std::string_view pairs_of(std::string_view header) {
    static std::string pairs;
    pairs.clear();
    std::size_t offset = 0;
    std::size_t last_end = 0;
    CookiePair pair;
    for (std::size_t count = 0; next_cookie(header, offset, pair); ++count) {
        assert_true(count <= header.size());
        assert_true(pair.begin >= last_end && pair.end > pair.begin && pair.end <= header.size());
        last_end = pair.end;
        pairs.append(pair.name).append("=").append(pair.value).append("|");
    }
    return pairs;
}

struct Split {
    std::string_view header;
    std::string_view pairs;
};

constexpr Split kSplits[] = {
    {""sv, ""sv},
    {"a=1"sv, "a=1|"sv},
    {"a=1; b=2"sv, "a=1|b=2|"sv},
    {"a=1;b=2"sv, "a=1|b=2|"sv},
    {"a=1;  b=2 ;\tc=3"sv, "a=1|b=2|c=3|"sv},
    // no "=", empty name, empty value
    {"a"sv, "=a|"sv},
    {"a; b=2"sv, "=a|b=2|"sv},
    {"=1"sv, "=1|"sv},
    {"="sv, "=|"sv},
    {"a="sv, "a=|"sv},
    {"a=; b=2"sv, "a=|b=2|"sv},
    {" = ; b=2"sv, "=|b=2|"sv},
    // "=" in the value
    {"a==1"sv, "a==1|"sv},
    {"a=b=c"sv, "a=b=c|"sv},
    {"a=1=; b=2"sv, "a=1=|b=2|"sv},
    {"=a=1"sv, "=a=1|"sv},
    // separators without anything between
    {";"sv, "=|"sv},
    {"; ;"sv, "=|=|"sv},
    {";;a=1;;"sv, "=|=|a=1|=|"sv},
    {"a=1;"sv, "a=1|"sv},
    {"a=1; "sv, "a=1|"sv},
    {"a=1;;b=2"sv, "a=1|=|b=2|"sv},
    // blanks
    {" "sv, ""sv},
    {"\t \t"sv, ""sv},
    {"  a=1  "sv, "a=1|"sv},
    {"a =1"sv, "a=1|"sv},
    {"a= 1"sv, "a=1|"sv},
    {"a\t=\t1\t; b=2"sv, "a=1|b=2|"sv},
    {"a b=1 2"sv, "a b=1 2|"sv},
    // quotes mean nothing: browsers split at every ";"
    {"a=\"1\""sv, "a=\"1\"|"sv},
    {"a=\"1; b=2\""sv, "a=\"1|b=2\"|"sv},
    {"a=\"1;2\"; b=3"sv, "a=\"1|=2\"|b=3|"sv},
    {"\"a=1\""sv, "\"a=1\"|"sv},
    {"a=\\\";b=2"sv, "a=\\\"|b=2|"sv},
    // a comma does not separate (RFC 6265 section 5.4)
    {"a=1, b=2"sv, "a=1, b=2|"sv},
    {"a=1,b=2;c=3"sv, "a=1,b=2|c=3|"sv},
    // the old attributes of RFC 2965 are pairs like any other
    {"$Version=1; a=1; $Path=/"sv, "$Version=1|a=1|$Path=/|"sv},
    // anything else is part of a name or a value
    {"a=1\0; b=2"sv, "a=1\0|b=2|"sv},
    {"\0=1"sv, "\0=1|"sv},
    {"a\v=1; b=2"sv, "a\v=1|b=2|"sv},
    {"\x80=\xff; b=2"sv, "\x80=\xff|b=2|"sv},
    {"a%3Db=1%3Bc=2"sv, "a%3Db=1%3Bc=2|"sv},
    {"a=1\r\nb=2"sv, "a=1\r\nb=2|"sv},
    {"a=1; A=2; a=3"sv, "a=1|A=2|a=3|"sv},
};
static_assert(std::size(kSplits) >= 40);

// Would catch: another way to split than the browser's: a pair that is seen here and not there.
void splits_as_browsers_join(void**) {
    for (const Split& each : kSplits) {
        assert_text(pairs_of(each.header), each.pairs, each.header);
    }
}

constexpr std::string_view kName = "__Host-sid";

struct Cut {
    std::string_view header;
    std::string_view left;
    int taken;
};

// The copy of exactly as many bytes as promised.
Cut cut(std::string_view header) {
    const ByteSpan out = exact_bytes(header.size());
    char* const text = reinterpret_cast<char*>(out.data());
    int taken = 0;
    const std::size_t left =
        copy_without(header, {text, out.size()}, [&](std::string_view name, std::string_view) {
            taken += name == kName ? 1 : 0;
            return name == kName;
        });
    return {header, {text, left}, taken};
}

constexpr Cut kCuts[] = {
    {""sv, ""sv, 0},
    {"__Host-sid=x"sv, ""sv, 1},
    {"__Host-sid=x; a=1"sv, "a=1"sv, 1},
    {"a=1; __Host-sid=x"sv, "a=1"sv, 1},
    {"a=1; __Host-sid=x; b=2"sv, "a=1; b=2"sv, 1},
    {"a=1;__Host-sid=x;b=2"sv, "a=1;b=2"sv, 1},
    {"__Host-sid=x; a=1; __Host-sid=y; b=2; __Host-sid="sv, "a=1; b=2"sv, 3},
    {"__Host-sid=x; __Host-sid=y"sv, ""sv, 2},
    {"__Host-sid=x;"sv, ""sv, 1},
    {" __Host-sid=x ; a=1"sv, "a=1"sv, 1},
    {"__Host-sid =x; a=1"sv, "a=1"sv, 1},
    {"\t__Host-sid\t=\tx; a=1"sv, "a=1"sv, 1},
    {"__Host-sid=\"x\"; a=1"sv, "a=1"sv, 1},
    {"__Host-sid=a=b; a=1"sv, "a=1"sv, 1},
    {"__Host-sid="sv, ""sv, 1},
    {";__Host-sid=x;"sv, ""sv, 1},
    {"; ; __Host-sid=x"sv, ""sv, 1},
    // hidden behind a quote: taken, wherever the upstream would split
    {"a=\"1; __Host-sid=x; b=2\""sv, "a=\"1; b=2\""sv, 1},
    // other names, case included, stay: the twin of a sibling host is the application's business
    {"__host-sid=x"sv, "__host-sid=x"sv, 0},
    {"__hOsT-sid=x; __Host-sid=y"sv, "__hOsT-sid=x"sv, 1},
    {"__Host-SID=x"sv, "__Host-SID=x"sv, 0},
    {"__Host-sid2=x; x__Host-sid=y"sv, "__Host-sid2=x; x__Host-sid=y"sv, 0},
    {"__Host-si=x"sv, "__Host-si=x"sv, 0},
    {"__Host-sid"sv, "__Host-sid"sv, 0},
    {"=__Host-sid"sv, "=__Host-sid"sv, 0},
    {"a=__Host-sid=x"sv, "a=__Host-sid=x"sv, 0},
    {"a=1,__Host-sid=x"sv, "a=1,__Host-sid=x"sv, 0},
    {"__Host-sid\0=x"sv, "__Host-sid\0=x"sv, 0},
    // what is left is as it came, odd blanks, quotes and all
    {"a=1;b=2;  c=3 ;\td=\"4\"; e; =f; __Host-sid=x; g=\xff\x01"sv,
     "a=1;b=2;  c=3 ;\td=\"4\"; e; =f; g=\xff\x01"sv, 1},
    {"a=1;;b=2"sv, "a=1;;b=2"sv, 0},
    // separators at the ends say nothing
    {"a=1; "sv, "a=1"sv, 0},
    {"  a=1"sv, "a=1"sv, 0},
    {"a=1;; __Host-sid=x"sv, "a=1"sv, 1},
};

// Would catch: a token that reaches the upstream, or another cookie that does not, or is changed.
void takes_its_own_cookies_out_and_nothing_else(void**) {
    for (const Cut& each : kCuts) {
        const Cut got = cut(each.header);
        assert_text(got.left, each.left, each.header);
        assert_int_equal(got.taken, each.taken);
    }
}

// Would catch: a header that comes together from its rest: after one pass there is nothing to take.
void leaves_nothing_that_a_second_pass_would_take(void**) {
    for (const Cut& each : kCuts) {
        static std::string once;
        once = cut(each.header).left;
        const Cut twice = cut(once);
        assert_text(twice.left, once, each.header);
        assert_int_equal(twice.taken, 0);
    }
}

// Would catch: the value given to `take` with quotes lost or blanks kept, so that no token parses.
void shows_the_value_as_it_was_sent(void**) {
    static std::vector<std::string> seen;
    seen.clear();
    char out[64];
    copy_without("a= x ; b=\"y\"; c=;d", out, [](std::string_view name, std::string_view value) {
        seen.push_back(std::string(name) + ":" + std::string(value));
        return false;
    });
    assert_int_equal(seen.size(), 3);
    assert_text(seen[0], "a:x");
    assert_text(seen[1], "b:\"y\"");
    assert_text(seen[2], "c:");
}

// Would catch: a walk whose time grows with the square of the header, or that stops early.
void walks_through_a_header_of_only_separators(void**) {
    static const std::string header(32 * 1024, ';');
    std::size_t offset = 0;
    std::size_t count = 0;
    CookiePair pair;
    while (next_cookie(header, offset, pair)) {
        ++count;
    }
    assert_int_equal(count, header.size());
    assert_text(cut(header).left, "");
}

// Would catch: an end that is not final.
void stays_at_the_end(void**) {
    std::size_t offset = 0;
    CookiePair pair;
    assert_true(next_cookie("a=1", offset, pair));
    for (int i = 0; i < 3; ++i) {
        assert_false(next_cookie("a=1", offset, pair));
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(splits_as_browsers_join),
        cmocka_unit_test(takes_its_own_cookies_out_and_nothing_else),
        cmocka_unit_test(leaves_nothing_that_a_second_pass_would_take),
        cmocka_unit_test(shows_the_value_as_it_was_sent),
        cmocka_unit_test(walks_through_a_header_of_only_separators),
        cmocka_unit_test(stays_at_the_end),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
