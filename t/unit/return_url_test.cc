// Open redirects: every spelling that leads, or may lead some reader, to another site must be
// refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "core/web/return_url.h"

namespace {

using namespace std::string_view_literals;

// Would catch: ordinary pages refused, so that users land on the front page after every login.
void accepts_ordinary_paths(void**) {
    for (const std::string_view uri : {
             "/",
             "/a",
             "/a/b/",
             "/a/../b",
             "/./a",
             "/..",
             "/a//b",
             "/a//",
             "/%20/x",
             "/a%2fb",
             "/100%25",
             "/100%2525",
             "/a%25",
             "/f%c3%bcr",
             "/f\xc3\xbcr",
             "/%F0%9F%98%80",
             "/a;b=c/d",
             "/a:b@c/d",
             "/@x",
             "/~u/-._",
             "/...//a",
             "/?",
             "/#",
             "/?next=http://other.example/x",
             "/?next=//other.example",
             "/?next=%2f%2fother.example",
             "/a?x=\\y",
             "/a?x=100%",
             "/a?x=%zz",
             "/a?x=%e9",
             "/a?x=%252525252525",
             "/a?x=/..//y",
             "/a#x?y",
             "/a?x#y/..//z",
             "/a?x=\xc3\xbc",
         }) {
        if (!sg::is_own_origin_path(uri)) {
            fail_msg("refused: %s", uri.data());
        }
    }
}

constexpr std::string_view kHostile[] = {
    // not a path
    "",
    "a",
    "?x",
    "#x",
    "evil.example",
    "http://evil.example",
    "https:evil.example",
    "javascript:alert(1)",
    "%2f",
    "%2f%2fevil",
    "\\evil",
    "\\\\evil",
    "*",
    // another host at once
    "//evil",
    "///evil",
    "////evil",
    "//evil/../x",
    "//",
    "//?x",
    "//#x",
    "//user@evil",
    "/\\evil",
    "/\\/evil",
    "/\\",
    "/a\\b",
    // behind one, two, three rounds of decoding
    "/%2fevil",
    "/%2Fevil",
    "/%2f%2fevil",
    "/%5cevil",
    "/%5Cevil",
    "/%252fevil",
    "/%255cevil",
    "/%25252fevil",
    "/%25255cevil",
    "/%2525252fevil",
    "/%252525252fevil",
    "/a%5cb",
    "/%25%32%66evil",
    "/%25%35%63evil",
    "/%2%352fevil",
    "/a%252525252fb",
    // dot segments in front of an empty one
    "/..//evil",
    "/.//evil",
    "/a/..//evil",
    "/a/../..//evil",
    "/a/b/../..//evil",
    "/..//",
    "/./..//evil",
    "/%2e%2e//evil",
    "/%2e//evil",
    "/.%2f/evil",
    "/./%2fevil",
    "/.%2f%2fevil",
    "/%2e%2e%2f%2fevil",
    "/..%252f/evil",
    "/%252e%252e//evil",
    "/..%2f%5cevil",
    "/a//../..//evil",
    "/..//%3f/../../x",
    "/a//..",
    // blanks and control characters, plain and encoded
    " //evil",
    " /a",
    "/a b",
    "/a ",
    "\t/evil",
    "/\t/evil",
    "/\n/evil",
    "/\r/evil",
    "/%09/evil",
    "/%0a/evil",
    "/%0d%0aSet-Cookie:x",
    "/%250d%250aSet-Cookie:x",
    "/%25250a",
    "/a\0"sv,
    "/a\0//evil"sv,
    "/%00",
    "/a%2500",
    "/\x01",
    "/\x7f",
    "/%7f",
    "/%1f",
    "/\xc2\x85",
    "/%c2%85",
    "/%c2%9f",
    "/%25c2%2580",
    "/%e2%80%a8",
    "/%e2%80%a9",
    "/a?x=\r\nSet-Cookie:y",
    "/a?x=\t",
    "/a?x= y",
    "/a?x=%0d%0aSet-Cookie:y",
    "/a?x=%250a",
    "/a?x=%25250a",
    "/a?x=%00",
    "/a#%0a",
    "/a?x=%7f",
    // charsets
    "/%c0%af/evil",
    "/%c0%ae%c0%ae//evil",
    "/%e0%80%af",
    "/%f0%80%80%af",
    "/%25c0%25af",
    "/%c1%9cevil",
    "/%e9t%e9",
    "/%ff",
    "/%80",
    "/\xc0\xaf/evil",
    "/\xff",
    "/%ed%a0%80",
    // malformed escapes
    "/%",
    "/a%",
    "/a%2",
    "/a%zz",
    "/a%2g",
    "/%%32%66evil",
    "/%u002fevil",
    "/a%\xff",
};

// Would catch: each row is one known way around a check of return addresses.
void refuses_every_spelling_that_may_lead_away(void**) {
    for (const std::string_view uri : kHostile) {
        if (sg::is_own_origin_path(uri)) {
            fail_msg("accepted: %s", uri.data());
        }
    }
}

// Would catch: every blank and control character but the few above, at any place of a path.
void refuses_every_control_character(void**) {
    for (int c = 0; c <= 0x7f; ++c) {
        if (c > 0x20 && c < 0x7f) {
            continue;
        }
        const std::string raw{'/', 'a', static_cast<char>(c), 'b'};
        assert_false(sg::is_own_origin_path(raw));
        assert_false(sg::is_own_origin_path("/a?" + raw));
        std::array<char, 12> encoded;
        std::snprintf(encoded.data(), encoded.size(), "/a%%%02xb", static_cast<unsigned>(c));
        assert_true(sg::is_own_origin_path(encoded.data()) == (c == ' '));
    }
}

// Would catch: an off-by-one that writes behind the work space on the stack.
void bounds_the_length(void**) {
    const std::string longest = "/" + std::string(sg::kMaxReturnBytes - 1, 'a');
    assert_true(sg::is_own_origin_path(longest));
    assert_false(sg::is_own_origin_path(longest + "a"));
    assert_true(sg::is_own_origin_path("/?" + std::string(sg::kMaxReturnBytes - 2, '%')));
    assert_false(sg::is_own_origin_path("/?" + std::string(sg::kMaxReturnBytes - 1, 'x')));
    assert_false(sg::is_own_origin_path("/" + std::string(1 << 20, '/')));
}

std::string decoded(std::string_view text) {
    std::string out(text.size(), '\0');
    const std::size_t size = sg::percent_decode(text, out);
    return size == SIZE_MAX ? "malformed" : out.substr(0, size);
}

std::string encoded(std::string_view text) {
    std::string out(3 * text.size(), '\0');
    return out.substr(0, sg::percent_encode(text, out));
}

// Would catch: two layers decoded at once, '+' taken for a space, upper-case digits missed.
void decodes_one_layer(void**) {
    assert_string_equal(decoded("/a%2Fb%2fc+d%2541").c_str(), "/a/b/c+d%41");
    assert_string_equal(decoded("").c_str(), "");
    assert_int_equal(decoded("%00").size(), 1);
    for (const std::string_view text :
         {"%", "a%", "%4", "%4g", "%g4", "%-1", "%+1", "% 1", "%%41"}) {
        assert_string_equal(decoded(text).c_str(), "malformed");
    }
}

// Would catch: a '&', '#' or '?' of the page's own address cutting the argument short at the login.
void encodes_all_but_unreserved_characters_and_slash(void**) {
    assert_string_equal(encoded("/a-b.c_d~e?f=g&h#i+j%20\xc3\xbc").c_str(),
                        "/a-b.c_d~e%3Ff%3Dg%26h%23i%2Bj%2520%C3%BC");
    for (int c = 0; c < 256; ++c) {
        const std::string one(1, static_cast<char>(c));
        assert_true(decoded(encoded(one)) == one);
    }
}

// Would catch: a write behind a buffer that is too small.
void says_when_the_buffer_is_too_small(void**) {
    std::array<char, 2> out;
    assert_true(sg::percent_encode("abc", out) == SIZE_MAX);
    assert_true(sg::percent_encode("?", out) == SIZE_MAX);
    assert_true(sg::percent_encode("ab", out) == 2);
    assert_true(sg::percent_decode("abc", out) == SIZE_MAX);
    assert_true(sg::percent_decode("%61%62", out) == 2);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(accepts_ordinary_paths),
        cmocka_unit_test(refuses_every_spelling_that_may_lead_away),
        cmocka_unit_test(refuses_every_control_character),
        cmocka_unit_test(bounds_the_length),
        cmocka_unit_test(decodes_one_layer),
        cmocka_unit_test(encodes_all_but_unreserved_characters_and_slash),
        cmocka_unit_test(says_when_the_buffer_is_too_small),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
