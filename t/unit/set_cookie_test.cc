// Set-Cookie: the attributes, and which settings browsers refuse.
#include "core/web/set_cookie.h"

#include <cstring>
#include <string>

#include "unit/support.h"

using namespace sg;
using namespace sg::test;
using namespace std::string_view_literals;

namespace {

// CookieAttributes of which a test names only what matters.
struct Cookie {
    std::string_view name = "";
    std::string_view path = "/";
    std::string_view domain = "";
    SameSite same_site = SameSite::lax;
    bool secure = true;
    bool http_only = true;
    bool partitioned = false;
    operator CookieAttributes() const {
        return {.name = name,
                .path = path,
                .domain = domain,
                .same_site = same_site,
                .secure = secure,
                .http_only = http_only,
                .partitioned = partitioned};
    }
};

std::string_view attributes_of(const Cookie& cookie) {
    static std::array<char, 2048> out;
    return {out.data(), format_attributes(cookie, out)};
}

const char* error_of(const Cookie& cookie) {
    return cookie_error(cookie);
}

// Would catch: an attribute that is missing, misspelt or always there.
void writes_exactly_the_attributes_that_are_set(void**) {
    Cookie cookie{.name = "__Host-sid"};
    assert_text(attributes_of(cookie), "; Path=/; Secure; HttpOnly; SameSite=Lax");
    cookie.same_site = SameSite::strict;
    assert_text(attributes_of(cookie), "; Path=/; Secure; HttpOnly; SameSite=Strict");
    cookie.same_site = SameSite::none;
    assert_text(attributes_of(cookie), "; Path=/; Secure; HttpOnly; SameSite=None");
    cookie.partitioned = true;
    assert_text(attributes_of(cookie), "; Path=/; Secure; HttpOnly; SameSite=None; Partitioned");
    cookie.partitioned = false;
    cookie.http_only = false;
    assert_text(attributes_of(cookie), "; Path=/; Secure; SameSite=None");
    cookie = Cookie{.name = "id"};
    cookie.path = "/shop/";
    cookie.domain = "example.com";
    assert_text(attributes_of(cookie),
                "; Path=/shop/; Domain=example.com; Secure; HttpOnly; SameSite=Lax");
    cookie.secure = false;
    assert_text(attributes_of(cookie), "; Path=/shop/; Domain=example.com; HttpOnly; SameSite=Lax");
    cookie.http_only = false;
    cookie.domain = {};
    assert_text(attributes_of(cookie), "; Path=/shop/; SameSite=Lax");
    assert_text(kExpireAttributes, "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
}

// Would catch: a cookie cut in the middle, without Secure, because the buffer was too small.
void writes_all_or_nothing(void**) {
    Cookie cookie{.name = "id"};
    cookie.domain = "example.com";
    const std::size_t whole = attributes_of(cookie).size();
    for (std::size_t size = 0; size <= whole; ++size) {
        const ByteSpan out = exact_bytes(size);
        char* const text = reinterpret_cast<char*>(out.data());
        assert_int_equal(format_attributes(cookie, {text, size}), size < whole ? 0 : whole);
    }
}

struct Rule {
    Cookie cookie;
    const char* error;  // part of it; nullptr: good
};

constexpr const char* kName = "cookie name";
constexpr const char* kPath = "cookie path";
constexpr const char* kDomain = "cookie domain";
constexpr const char* kSecure = "needs Secure";
constexpr const char* kHttpOnly = "needs HttpOnly";
constexpr const char* kHostDomain = "has no Domain";
constexpr const char* kHostPath = "has Path=/";
constexpr const char* kNone = "samesite=none";

constexpr Rule kRules[] = {
    {{.name = "__Host-sid"}, nullptr},
    {{.name = "sid"}, nullptr},
    {{.name = "a"}, nullptr},
    {{.name = "!#$%&'*+-.^_`|~09azAZ"}, nullptr},
    {{.name = "sid", .path = "/a/b%20c", .domain = "example.com"}, nullptr},
    {{.name = "sid", .domain = ".example.com"}, nullptr},
    {{.name = "sid", .secure = false, .http_only = false}, nullptr},
    {{.name = "__Secure-sid", .path = "/a", .domain = "example.com", .http_only = false}, nullptr},
    {{.name = "__Http-sid", .path = "/a", .domain = "example.com"}, nullptr},
    {{.name = "__Host-sid", .http_only = false}, nullptr},
    {{.name = "__Host-Http-sid"}, nullptr},
    {{.name = "__Hosting", .path = "/a", .secure = false}, nullptr},
    {{.name = "x__Host-sid", .path = "/a", .secure = false}, nullptr},
    {{.name = "sid", .same_site = SameSite::none}, nullptr},
    // names
    {{.name = ""}, kName},
    {{.name = "a b"}, kName},
    {{.name = "a="}, kName},
    {{.name = "a;"}, kName},
    {{.name = "a,b"}, kName},
    {{.name = "a\tb"}, kName},
    {{.name = "a\r\nSet-Cookie: x"}, kName},
    {{.name = "a\0"sv}, kName},
    {{.name = "\"sid\""}, kName},
    {{.name = "s(id)"}, kName},
    {{.name = "s\xc3\xa4"}, kName},
    {{.name = "a\x7f"}, kName},
    // paths
    {{.name = "sid", .path = ""}, kPath},
    {{.name = "sid", .path = "a"}, kPath},
    {{.name = "sid", .path = "/a;b"}, kPath},
    {{.name = "sid", .path = "/; Domain=example.com"}, kPath},
    {{.name = "sid", .path = "/a,b"}, kPath},
    {{.name = "sid", .path = "/a b"}, kPath},
    {{.name = "sid", .path = "/a\n"}, kPath},
    {{.name = "sid", .path = "/\0"sv}, kPath},
    {{.name = "sid", .path = "/\xff"}, kPath},
    // domains
    {{.name = "sid", .domain = "example.com/"}, kDomain},
    {{.name = "sid", .domain = "exa mple.com"}, kDomain},
    {{.name = "sid", .domain = "example.com; Path=/"}, kDomain},
    {{.name = "sid", .domain = "example.com,example.org"}, kDomain},
    {{.name = "sid", .domain = "example.com\r\n"}, kDomain},
    {{.name = "sid", .domain = "example.com:443"}, kDomain},
    {{.name = "sid", .domain = "https:"}, kDomain},
    {{.name = "sid", .domain = "*.example.com"}, kDomain},
    {{.name = "sid",
      .domain = "b\xc3\xbc"
                "cher.example"},
     kDomain},
    // SameSite=None
    {{.name = "sid", .same_site = SameSite::none, .secure = false}, kNone},
    {{.name = "sid", .secure = false, .partitioned = true},
     "\"partitioned\" without Secure is ignored by browsers"},
    // prefixes
    {{.name = "__Host-sid", .secure = false}, kSecure},
    {{.name = "__Secure-sid", .secure = false}, kSecure},
    {{.name = "__Http-sid", .secure = false}, kSecure},
    {{.name = "__Host-Http-sid", .secure = false}, kSecure},
    {{.name = "__Http-sid", .http_only = false}, kHttpOnly},
    {{.name = "__Host-Http-sid", .http_only = false}, kHttpOnly},
    {{.name = "__Host-sid", .domain = "example.com"}, kHostDomain},
    {{.name = "__Host-Http-sid", .domain = "example.com"}, kHostDomain},
    {{.name = "__Host-sid", .path = "/a"}, kHostPath},
    {{.name = "__Host-sid", .path = "//"}, kHostPath},
    {{.name = "__Host-Http-sid", .path = "/a"}, kHostPath},
    {{.name = "__Host-", .path = "/a"}, kHostPath},
};

// Would catch: a configuration that is taken, and a cookie that the browser then drops in silence:
// nobody could log in; or a second attribute smuggled in through a setting.
void refuses_what_a_browser_would_drop(void**) {
    for (const Rule& rule : kRules) {
        const char* const error = error_of(rule.cookie);
        if ((error == nullptr) != (rule.error == nullptr) ||
            (error != nullptr && std::strstr(error, rule.error) == nullptr)) {
            fail_msg("\"%.*s\" path=%.*s domain=%.*s: %s",
                     static_cast<int>(rule.cookie.name.size()), rule.cookie.name.data(),
                     static_cast<int>(rule.cookie.path.size()), rule.cookie.path.data(),
                     static_cast<int>(rule.cookie.domain.size()),
                     rule.cookie.domain.empty() ? "" : rule.cookie.domain.data(),
                     error != nullptr ? error : "accepted");
        }
    }
}

// Would catch: a prefix compared with its case, as only servers do: browsers apply the rules in any
// case.
void the_rules_of_the_prefixes_hold_in_any_case(void**) {
    for (const Rule& rule : kRules) {
        if (rule.error == nullptr || !rule.cookie.name.starts_with("__")) {
            continue;
        }
        for (unsigned pattern = 0; pattern < 8; ++pattern) {
            static std::string name;
            name = rule.cookie.name;
            for (std::size_t i = 2; i < name.size(); ++i) {
                const bool letter = (name[i] | 0x20) >= 'a' && (name[i] | 0x20) <= 'z';
                if (letter && (pattern >> (i % 3) & 1) != 0) {
                    name[i] = static_cast<char>(name[i] ^ 0x20);
                }
            }
            Cookie cookie = rule.cookie;
            cookie.name = name;
            const char* const error = error_of(cookie);
            assert_non_null(error);
            assert_non_null(std::strstr(error, rule.error));
        }
    }
}

// Would catch: limits that are off by one.
void limits_the_lengths(void**) {
    static const std::string many(2000, 'x');
    static const std::string path = "/" + many;
    const std::string_view view = many;
    assert_null(error_of({.name = view.substr(0, 128)}));
    assert_non_null(error_of({.name = view.substr(0, 129)}));
    assert_null(error_of({.name = "sid", .path = std::string_view(path).substr(0, 1024)}));
    assert_non_null(error_of({.name = "sid", .path = std::string_view(path).substr(0, 1025)}));
    assert_null(error_of({.name = "sid", .domain = view.substr(0, 253)}));
    assert_non_null(error_of({.name = "sid", .domain = view.substr(0, 254)}));
}

// Number of warnings; each must hold one of the words, in this order.
void assert_warnings(const Cookie& cookie, std::initializer_list<const char*> words) {
    std::size_t index = 0;
    for (const char* const word : words) {
        const char* const warning = cookie_warning(cookie, index++);
        assert_non_null(warning);
        if (std::strstr(warning, word) == nullptr) {
            fail_msg("\"%s\" where \"%s\" was expected", warning, word);
        }
    }
    assert_null(cookie_warning(cookie, index));
    assert_null(cookie_warning(cookie, index + 1000));
}

// Would catch: the default that warns, or a weak setting that does not.
void warns_of_each_weak_setting_once(void**) {
    assert_warnings({.name = "__Host-sid"}, {});
    assert_warnings({.name = "id", .domain = "example.com"}, {"domain="});
    assert_warnings({.name = "id", .http_only = false}, {"httponly=off"});
    assert_warnings({.name = "id", .secure = false}, {"secure=off"});
    assert_warnings({.name = "id", .same_site = SameSite::none}, {"samesite=none"});
    assert_warnings({.name = "session",
                     .domain = "example.com",
                     .same_site = SameSite::none,
                     .secure = false,
                     .http_only = false},
                    {"name", "domain=", "httponly=off", "secure=off", "samesite=none"});
}

// Would catch: a name that tells an attacker what to look for (OWASP), hidden behind a prefix or in
// capitals.
void warns_of_telling_names(void**) {
    for (const std::string_view name :
         {"PHPSESSID"sv, "JSESSIONID"sv, "ASP.NET_SessionId"sv, "ASPSESSIONIDABCDEF"sv,
          "connect.sid"sv, "CFID"sv, "cftoken"sv, "session"sv, "mySESSIONcookie"sv,
          "__Host-session"sv, "__Secure-PHPSESSID"sv, "__hOsT-hTtP-jsessionid"sv,
          "__Http-connect.sid"sv}) {
        assert_warnings({.name = name}, {"name"});
    }
    for (const std::string_view name :
         {"id"sv, "sid"sv, "__Host-"sv, "__Host-id"sv, "sess"sv, "cf"sv}) {
        assert_warnings({.name = name}, {});
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(writes_exactly_the_attributes_that_are_set),
        cmocka_unit_test(writes_all_or_nothing),
        cmocka_unit_test(refuses_what_a_browser_would_drop),
        cmocka_unit_test(the_rules_of_the_prefixes_hold_in_any_case),
        cmocka_unit_test(limits_the_lengths),
        cmocka_unit_test(warns_of_each_weak_setting_once),
        cmocka_unit_test(warns_of_telling_names),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
