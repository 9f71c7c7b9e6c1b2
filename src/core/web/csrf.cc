#include "core/web/csrf.h"

#include <algorithm>
#include <cstddef>
#include <optional>

namespace sg {
namespace {

constexpr std::string_view kHttp = "http://";
constexpr std::string_view kHttps = "https://";
constexpr std::size_t kMaxHost = 255;
constexpr std::size_t kMaxPortDigits = 5;
constexpr std::uint32_t kMaxPort = 65535;

// Host and port of a URL's authority. The host keeps the case it came in, an IPv6 host its
// brackets.
struct Authority {
    std::string_view host;
    std::uint32_t port = 0;
};

struct Origin {
    bool https = false;
    Authority authority;
};

constexpr char to_lower(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

constexpr bool is_digit(char c) noexcept {
    return c >= '0' && c <= '9';
}

constexpr bool is_hex(char c) noexcept {
    return is_digit(c) || (to_lower(c) >= 'a' && to_lower(c) <= 'f');
}

bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](char x, char y) { return to_lower(x) == to_lower(y); });
}

// A name or an IPv4 address as browsers serialise them: no percent-encoding, no userinfo, no
// blanks.
bool is_name(std::string_view host) noexcept {
    const auto allowed = [](char c) {
        const char lower = to_lower(c);
        return (lower >= 'a' && lower <= 'z') || is_digit(c) || c == '-' || c == '.' || c == '_';
    };
    return host.front() != '.' && host.find("..") == std::string_view::npos &&
           std::all_of(host.begin(), host.end(), allowed);
}

bool is_bracketed_ipv6(std::string_view host) noexcept {
    constexpr std::size_t kShortest = 4;  // [::]
    if (host.size() < kShortest || host.back() != ']') {
        return false;
    }
    const std::string_view inside = host.substr(1, host.size() - 2);
    return inside.find(':') != std::string_view::npos &&
           std::all_of(inside.begin(), inside.end(),
                       [](char c) { return is_hex(c) || c == ':' || c == '.'; });
}

bool is_host(std::string_view host) noexcept {
    if (host.empty() || host.size() > kMaxHost) {
        return false;
    }
    return host.front() == '[' ? is_bracketed_ipv6(host) : is_name(host);
}

// Nothing but 1 to 65535 without leading zeros.
std::optional<std::uint32_t> parse_port(std::string_view text) noexcept {
    if (text.empty() || text.size() > kMaxPortDigits || text.front() == '0') {
        return std::nullopt;
    }
    std::uint32_t port = 0;
    for (const char c : text) {
        if (!is_digit(c)) {
            return std::nullopt;
        }
        port = port * 10 + static_cast<std::uint32_t>(c - '0');
    }
    return port <= kMaxPort ? std::optional(port) : std::nullopt;
}

std::optional<Authority> parse_authority(std::string_view text, bool https) noexcept {
    Authority authority{.host = text, .port = https ? 443u : 80u};
    // The colons of an IPv6 address stand inside brackets.
    const std::size_t colon = text.find(':', text.starts_with('[') ? text.find(']') : 0);
    if (colon != std::string_view::npos) {
        const auto port = parse_port(text.substr(colon + 1));
        if (!port) {
            return std::nullopt;
        }
        authority = {.host = text.substr(0, colon), .port = *port};
    }
    return is_host(authority.host) ? std::optional(authority) : std::nullopt;
}

std::optional<Origin> parse_origin(std::string_view text) noexcept {
    const bool https = text.starts_with(kHttps);
    if (!https && !text.starts_with(kHttp)) {
        return std::nullopt;
    }
    const auto authority = parse_authority(text.substr((https ? kHttps : kHttp).size()), https);
    return authority ? std::optional(Origin{.https = https, .authority = *authority})
                     : std::nullopt;
}

bool same(const Authority& a, const Authority& b) noexcept {
    return a.port == b.port && equal_ignoring_case(a.host, b.host);
}

bool is_request_origin(std::string_view text, const CsrfRequest& request) noexcept {
    const auto origin = parse_origin(text);
    const auto host = parse_authority(request.host, request.https);
    return origin && host && origin->https == request.https && same(origin->authority, *host);
}

bool is_own(const CsrfRequest& request, std::span<const std::string_view> own_origins) noexcept {
    if (!request.has_origin) {
        return false;
    }
    if (own_origins.empty()) {
        return is_request_origin(request.origin, request);
    }
    return std::any_of(own_origins.begin(), own_origins.end(),
                       [&](std::string_view own) { return same_origin(request.origin, own); });
}

// The Referer's origin: what stands before its path. Anything that is no such URL is not own.
bool comes_from_own(const CsrfRequest& request,
                    std::span<const std::string_view> own_origins) noexcept {
    const std::string_view url = request.referer;
    const std::size_t authority = url.find("://");
    if (authority == std::string_view::npos) {
        return false;
    }
    CsrfRequest page = request;
    page.has_origin = true;
    page.origin = url.substr(0, url.find_first_of("/?#", authority + 3));
    return is_own(page, own_origins);
}

CsrfVerdict pass_if(bool condition) noexcept {
    return condition ? CsrfVerdict::pass : CsrfVerdict::refuse;
}

}  // namespace

CsrfVerdict check_csrf(const CsrfRequest& request,
                       std::span<const std::string_view> own_origins) noexcept {
    const bool own = is_own(request, own_origins);
    if (request.websocket_handshake && !own) {
        return CsrfVerdict::refuse;
    }
    if (request.safe_method) {
        return CsrfVerdict::pass;
    }
    if (request.has_sec_fetch_site) {
        const std::string_view site = request.sec_fetch_site;
        if (site == "same-origin" || site == "none") {
            return CsrfVerdict::pass;
        }
        return pass_if(own && (site == "same-site" || site == "cross-site"));
    }
    if (request.has_origin) {
        return pass_if(own);
    }
    return request.has_referer ? pass_if(comes_from_own(request, own_origins))
                               : CsrfVerdict::pass_unattested;
}

bool same_origin(std::string_view origin, std::string_view own) noexcept {
    const auto a = parse_origin(origin);
    const auto b = parse_origin(own);
    return a && b && a->https == b->https && same(a->authority, b->authority);
}

bool is_origin(std::string_view text) noexcept {
    return parse_origin(text).has_value();
}

}  // namespace sg
