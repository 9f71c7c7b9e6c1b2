// The cross-site rule: who may act with a session's authority, and which spellings of an origin are
// one.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/web/csrf.h"

namespace {

using sg::CsrfRequest;
using sg::CsrfVerdict;
using namespace std::string_view_literals;
using Header = std::optional<std::string_view>;

CsrfRequest post(Header site, Header origin) {
    CsrfRequest request;
    request.https = true;
    request.host = "app.example";
    request.has_sec_fetch_site = site.has_value();
    request.sec_fetch_site = site.value_or("");
    request.has_origin = origin.has_value();
    request.origin = origin.value_or("");
    return request;
}

CsrfVerdict judge(const CsrfRequest& request) {
    return sg::check_csrf(request, {});
}

constexpr Header kAbsent = std::nullopt;
constexpr std::string_view kOwn = "https://app.example";
constexpr std::string_view kEvil = "https://evil.example";

// Would catch: any cell of the rule's table swapped, above all a cross-site form post let through.
void judges_unsafe_methods_by_fetch_metadata_then_origin(void**) {
    const struct {
        Header site;
        Header origin;
        CsrfVerdict wanted;
    } rows[] = {
        {"same-origin", kAbsent, CsrfVerdict::pass},
        {"same-origin", kOwn, CsrfVerdict::pass},
        {"none", kAbsent, CsrfVerdict::pass},
        {"none", "null", CsrfVerdict::pass},
        {"same-site", kOwn, CsrfVerdict::pass},
        {"cross-site", kOwn, CsrfVerdict::pass},
        {"same-site", kAbsent, CsrfVerdict::refuse},
        {"cross-site", kAbsent, CsrfVerdict::refuse},
        {"same-site", kEvil, CsrfVerdict::refuse},
        {"same-site", "https://sibling.app.example", CsrfVerdict::refuse},
        {"cross-site", kEvil, CsrfVerdict::refuse},
        {"cross-site", "null", CsrfVerdict::refuse},
        {"", kOwn, CsrfVerdict::refuse},
        {"Same-Origin", kOwn, CsrfVerdict::refuse},
        {"same-origin, cross-site", kOwn, CsrfVerdict::refuse},
        {"none;x", kOwn, CsrfVerdict::refuse},
        {" same-origin", kOwn, CsrfVerdict::refuse},
        {"?", kOwn, CsrfVerdict::refuse},
        {kAbsent, kOwn, CsrfVerdict::pass},
        {kAbsent, kEvil, CsrfVerdict::refuse},
        {kAbsent, "null", CsrfVerdict::refuse},
        {kAbsent, "", CsrfVerdict::refuse},
        {kAbsent, kAbsent, CsrfVerdict::pass_unattested},
    };
    for (const auto& row : rows) {
        if (judge(post(row.site, row.origin)) != row.wanted) {
            fail_msg("site %s origin %s", row.site.value_or("absent").data(),
                     row.origin.value_or("absent").data());
        }
    }
}

// Would catch: links and images from other sites refused.
void lets_safe_methods_pass_from_anywhere(void**) {
    CsrfRequest request = post("cross-site", kEvil);
    request.safe_method = true;
    assert_true(judge(request) == CsrfVerdict::pass);
}

// Would catch: cross-site WebSocket hijacking: the handshake is a GET, browsers send Origin with
// it.
void demands_an_own_origin_for_websockets(void**) {
    CsrfRequest request = post(kAbsent, kOwn);
    request.safe_method = true;
    request.websocket_handshake = true;
    assert_true(judge(request) == CsrfVerdict::pass);
    for (const Header origin : {Header(kEvil), Header("null"), Header(""), kAbsent}) {
        request = post("same-origin", origin);
        request.safe_method = true;
        request.websocket_handshake = true;
        assert_true(judge(request) == CsrfVerdict::refuse);
    }
}

// Would catch: "Upgrade: websocket" on a POST used to get around the rule for unsafe methods.
void a_handshake_does_not_soften_the_rule_for_unsafe_methods(void**) {
    CsrfRequest request = post("nonsense", kOwn);
    request.websocket_handshake = true;
    assert_true(judge(request) == CsrfVerdict::refuse);
}

// Would catch: a scheme, port or case of Host compared as text.
void takes_its_own_origin_from_the_request(void**) {
    const struct {
        bool https;
        std::string_view host;
        std::string_view origin;
        bool own;
    } rows[] = {
        {true, "app.example", "https://app.example", true},
        {true, "APP.Example", "https://app.example", true},
        {true, "app.example:443", "https://app.example", true},
        {true, "app.example:8443", "https://app.example:8443", true},
        {false, "app.example", "http://app.example", true},
        {false, "app.example:80", "http://app.example", true},
        {false, "app.example:443", "http://app.example:443", true},
        {true, "[2001:db8::1]", "https://[2001:db8::1]", true},
        {true, "[2001:DB8::1]:8443", "https://[2001:db8::1]:8443", true},
        {true, "192.0.2.1", "https://192.0.2.1", true},
        {true, "app.example", "http://app.example", false},
        {false, "app.example", "https://app.example", false},
        {true, "app.example:8443", "https://app.example", false},
        {true, "app.example", "https://app.example:8443", false},
        {false, "app.example:443", "http://app.example", false},
        {true, "app.example.", "https://app.example", false},
        {true, "app.example", "https://app.example.", false},
        {true, "", "https://", false},
        {true, "", "https://app.example", false},
        {true, "app.example:", "https://app.example", false},
        {true, "evil.example@app.example", "https://app.example", false},
        {true, "app.example, evil.example", "https://app.example", false},
        {true, "[::1]", "https://[::2]", false},
    };
    for (const auto& row : rows) {
        CsrfRequest request = post(kAbsent, row.origin);
        request.https = row.https;
        request.host = row.host;
        if (judge(request) != (row.own ? CsrfVerdict::pass : CsrfVerdict::refuse)) {
            fail_msg("host %s origin %s", row.host.data(), row.origin.data());
        }
    }
}

// Would catch: the Host header still trusted where the operator has named the origins.
void configured_origins_replace_the_host(void**) {
    const std::string_view own[] = {"https://www.example", "https://app.example:8443"};
    assert_true(sg::check_csrf(post(kAbsent, "https://www.example"), own) == CsrfVerdict::pass);
    assert_true(sg::check_csrf(post(kAbsent, "https://app.example:8443"), own) ==
                CsrfVerdict::pass);
    assert_true(sg::check_csrf(post(kAbsent, kOwn), own) == CsrfVerdict::refuse);
}

constexpr std::string_view kHostileOrigins[] = {
    "null",
    "",
    " ",
    "app.example",
    "//app.example",
    "https:app.example",
    "https:/app.example",
    "https:///app.example",
    "https://",
    "https:// app.example",
    " https://app.example",
    "https://app.example ",
    "https://app.example\t",
    "https://app.example\n",
    "https://app.example\0"sv,
    "https://app.example\0.evil.example"sv,
    "HTTPS://app.example",
    "Https://app.example",
    "ftp://app.example",
    "wss://app.example",
    "file://",
    "chrome-extension://abcdefgh",
    "https://app.example/",
    "https://app.example/x",
    "https://app.example?x",
    "https://app.example#x",
    "https://app.example\\x",
    "https://app.example,https://evil.example",
    "https://app.example, https://evil.example",
    "https://evil.example, https://app.example",
    "https://app.example https://evil.example",
    "https://evil.example@app.example",
    "https://app.example@evil.example",
    "https://user:pass@app.example",
    "https://app.example:443@evil.example",
    "https://app.example:",
    "https://app.example:0",
    "https://app.example:00443",
    "https://app.example:65536",
    "https://app.example:99999",
    "https://app.example:443443",
    "https://app.example:-443",
    "https://app.example:+443",
    "https://app.example:443 ",
    "https://app.example:443:443",
    "https://app.example:4x3",
    "https://app.example:443/",
    "https://*.example",
    "https://*",
    "https://.app.example",
    "https://app..example",
    "https://app%2eexample",
    "https://%61pp.example",
    "https://app.ex\xc3\xa4mple",
    "https://app.example\xe3\x80\x82",
    "https://[::1",
    "https://::1]",
    "https://::1",
    "https://[::1]x",
    "https://[::1]:",
    "https://[::1]443",
    "https://[]",
    "https://[:]",
    "https://[1]",
    "https://[[::1]]",
    "https://[::1]]",
    "https://[::1%25eth0]",
    "https://[v1.a:b]",
    "https://[app.example]",
    "https://(app.example)",
    "https://app!example",
};

// Would catch: each is a spelling a lenient parser of URLs would take for our origin, or for an
// origin.
void refuses_what_is_no_serialised_origin(void**) {
    for (const std::string_view origin : kHostileOrigins) {
        if (sg::is_origin(origin) || sg::same_origin(origin, kOwn) ||
            sg::same_origin(origin, origin) ||
            judge(post("cross-site", origin)) != CsrfVerdict::refuse) {
            fail_msg("accepted: %s", origin.data());
        }
    }
    assert_false(sg::is_origin("https://" + std::string(256, 'a')));
}

// Would catch: hosts that only begin or end like ours.
void does_not_match_parts_of_a_host(void**) {
    for (const std::string_view origin :
         {"https://app.example.evil.example", "https://evilapp.example", "https://app.exampl",
          "https://pp.example", "https://example", "https://app.example.", "https://app-example"}) {
        assert_true(sg::is_origin(origin));
        assert_false(sg::same_origin(origin, kOwn));
        assert_false(sg::same_origin(kOwn, origin));
    }
}

// Would catch: an operator's correct `origin` refused at start.
void accepts_every_form_of_an_origin(void**) {
    for (const std::string_view origin :
         {"http://localhost", "https://App.Example", "https://xn--mnchen-3ya.example",
          "http://a_b.c", "https://app.example:1", "https://app.example:65535", "https://[::1]",
          "http://[::1]:8080", "https://[::ffff:192.0.2.1]", "https://192.0.2.1:8443",
          "https://app.example."}) {
        assert_true(sg::is_origin(origin));
        assert_true(sg::same_origin(origin, origin));
    }
    assert_true(sg::same_origin("https://a.example:443", "https://a.example"));
    assert_true(sg::same_origin("http://a.example", "http://A.example:80"));
    assert_false(sg::same_origin("https://a.example:80", "http://a.example"));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(judges_unsafe_methods_by_fetch_metadata_then_origin),
        cmocka_unit_test(lets_safe_methods_pass_from_anywhere),
        cmocka_unit_test(demands_an_own_origin_for_websockets),
        cmocka_unit_test(a_handshake_does_not_soften_the_rule_for_unsafe_methods),
        cmocka_unit_test(takes_its_own_origin_from_the_request),
        cmocka_unit_test(configured_origins_replace_the_host),
        cmocka_unit_test(refuses_what_is_no_serialised_origin),
        cmocka_unit_test(does_not_match_parts_of_a_host),
        cmocka_unit_test(accepts_every_form_of_an_origin),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
