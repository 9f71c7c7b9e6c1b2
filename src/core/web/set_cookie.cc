#include "core/web/set_cookie.h"

#include <algorithm>
#include <array>

namespace sg {
namespace {

char lower(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](char x, char y) { return lower(x) == lower(y); });
}

bool has_prefix(std::string_view name, std::string_view prefix) noexcept {
    return equal_ignoring_case(name.substr(0, prefix.size()), prefix);
}

bool is_letter_or_digit(char c) noexcept {
    return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z');
}

// RFC 9110 section 5.6.2
bool is_token_char(char c) noexcept {
    constexpr std::string_view kSymbols = "!#$%&'*+-.^_`|~";
    return is_letter_or_digit(c) || kSymbols.find(c) != std::string_view::npos;
}

bool is_host_char(char c) noexcept {
    return is_letter_or_digit(c) || c == '.' || c == '-' || c == '_';
}

bool is_attribute_char(char c) noexcept {
    return c > ' ' && c < 0x7f && c != ';' && c != ',';
}

bool all_of(std::string_view text, bool (*accepts)(char)) noexcept {
    return std::all_of(text.begin(), text.end(), accepts);
}

const char* prefix_error(const CookieAttributes& cookie) noexcept {
    const bool host = has_prefix(cookie.name, "__Host-");
    const bool http = has_prefix(cookie.name, "__Http-") || has_prefix(cookie.name, "__Host-Http-");
    if ((host || http || has_prefix(cookie.name, "__Secure-")) && !cookie.secure) {
        return "this cookie prefix needs Secure: \"secure=off\" contradicts it";
    }
    if (http && !cookie.http_only) {
        return "this cookie prefix needs HttpOnly: \"httponly=off\" contradicts it";
    }
    if (host && !cookie.domain.empty()) {
        return "a __Host- cookie has no Domain: \"domain=\" contradicts it";
    }
    if (host && cookie.path != "/") {
        return "a __Host- cookie has Path=/: another \"path=\" contradicts it";
    }
    return nullptr;
}

// Names that tell which software made the cookie (OWASP session management cheat sheet, "Session ID
// Name Fingerprinting").
bool is_telling(std::string_view name) noexcept {
    constexpr std::array<std::string_view, 7> kTelling{
        "phpsessid", "jsessionid", "asp.net_sessionid", "aspsessionid",
        "cfid",      "cftoken",    "connect.sid"};
    for (const std::string_view prefix : {"__Host-Http-", "__Host-", "__Secure-", "__Http-"}) {
        if (has_prefix(name, prefix)) {
            name.remove_prefix(prefix.size());
            break;
        }
    }
    constexpr std::string_view kSession = "session";
    const auto found = std::search(name.begin(), name.end(), kSession.begin(), kSession.end(),
                                   [](char x, char y) { return lower(x) == lower(y); });
    return found != name.end() ||
           std::any_of(kTelling.begin(), kTelling.end(),
                       [name](std::string_view word) { return equal_ignoring_case(name, word); });
}

class Writer {
  public:
    explicit Writer(std::span<char> out) noexcept : out_(out) {}
    void put(std::string_view text) noexcept {
        if (text.size() > out_.size() - used_) {
            overflow_ = true;
            return;
        }
        used_ += text.copy(out_.data() + used_, text.size());
    }
    std::size_t used() const noexcept { return overflow_ ? 0 : used_; }

  private:
    std::span<char> out_;
    std::size_t used_ = 0;
    bool overflow_ = false;
};

}  // namespace

const char* cookie_error(const CookieAttributes& cookie) noexcept {
    if (cookie.name.empty() || cookie.name.size() > 128 || !all_of(cookie.name, is_token_char)) {
        return "a cookie name is 1 to 128 token characters";
    }
    if (cookie.path.empty() || cookie.path.front() != '/' || cookie.path.size() > 1024 ||
        !all_of(cookie.path, is_attribute_char)) {
        return "a cookie path starts with \"/\" and has no blank, \";\" or \",\"";
    }
    if (cookie.domain.size() > 253 || !all_of(cookie.domain, is_host_char)) {
        return "a cookie domain is a host name";
    }
    if (cookie.same_site == SameSite::none && !cookie.secure) {
        return "\"samesite=none\" without Secure is ignored by browsers";
    }
    if (cookie.partitioned && !cookie.secure) {
        return "\"partitioned\" without Secure is ignored by browsers";
    }
    return prefix_error(cookie);
}

const char* cookie_warning(const CookieAttributes& cookie, std::size_t index) noexcept {
    std::array<const char*, 5> found{};
    std::size_t count = 0;
    if (is_telling(cookie.name)) {
        found[count++] = "the cookie's name tells what it is for or what made it";
    }
    if (!cookie.domain.empty()) {
        found[count++] = "\"domain=\" sends the session cookie to every sibling host";
    }
    if (!cookie.http_only) {
        found[count++] = "\"httponly=off\" lets any script on the page read the session cookie";
    }
    if (!cookie.secure) {
        found[count++] = "\"secure=off\" sends the session cookie over plain http";
    }
    if (cookie.same_site == SameSite::none) {
        found[count++] = "\"samesite=none\" sends the session cookie with cross-site requests";
    }
    return index < count ? found[index] : nullptr;
}

std::size_t format_attributes(const CookieAttributes& cookie, std::span<char> out) noexcept {
    Writer writer(out);
    writer.put("; Path=");
    writer.put(cookie.path);
    if (!cookie.domain.empty()) {
        writer.put("; Domain=");
        writer.put(cookie.domain);
    }
    if (cookie.secure) {
        writer.put("; Secure");
    }
    if (cookie.http_only) {
        writer.put("; HttpOnly");
    }
    constexpr std::array<std::string_view, 3> kSameSite{"; SameSite=Lax", "; SameSite=Strict",
                                                        "; SameSite=None"};
    writer.put(kSameSite[static_cast<std::size_t>(cookie.same_site)]);
    if (cookie.partitioned) {
        writer.put("; Partitioned");
    }
    return writer.used();
}

}  // namespace sg
