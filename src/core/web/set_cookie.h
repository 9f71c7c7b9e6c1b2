// Set-Cookie for the realm's own cookie: attributes as configured, written once at configuration
// time and only ever joined with a name and a value afterwards (RFC 6265bis section 4.1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace sg {

enum class SameSite : std::uint8_t { lax, strict, none };

struct CookieAttributes {
    std::string_view name;
    std::string_view path = "/";
    std::string_view domain;  // empty: host-only
    SameSite same_site = SameSite::lax;
    bool secure = true;
    bool http_only = true;
    bool partitioned = false;  // CHIPS: a jar of its own under each top-level site
};

// A static text that says which rule is broken, or nullptr: token characters of the name, attribute
// characters, the rules of the prefixes __Secure-, __Host-, __Http-, __Host-Http- (compared in any
// case, as browsers do), SameSite=None or Partitioned without Secure.
const char* cookie_error(const CookieAttributes& cookie) noexcept;

// Weak but legal settings, one at a time: `index` counts from 0, nullptr after the last.
const char* cookie_warning(const CookieAttributes& cookie, std::size_t index) noexcept;

// "; Path=/; Secure; HttpOnly; SameSite=Lax". Bytes written, 0 when `out` is too small.
std::size_t format_attributes(const CookieAttributes& cookie, std::span<char> out) noexcept;

// What makes a browser drop the cookie when it follows the same attributes.
inline constexpr std::string_view kExpireAttributes =
    "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";

}  // namespace sg
