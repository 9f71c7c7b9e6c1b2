// The token: what the browser holds as the cookie's value. 64 characters of base64url (no padding)
// of 48 bytes: key id 1, handle 16, secret 16, tag 15. See docs/formats.md.
// Pure values; a Token is a copy and owns nothing.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace sg {

using Handle = std::array<std::uint8_t, 16>;  // names the session; 128 bits of the CSPRNG
using Secret = std::array<std::uint8_t, 16>;  // proves possession; changes at every rotation
using Tag = std::array<std::uint8_t, 15>;     // first 120 bits of HMAC-SHA256

inline constexpr std::size_t kTokenBytes = 48;
inline constexpr std::size_t kTokenChars = 64;

struct Token {
    std::uint8_t key_id = 0;
    Handle handle{};
    Secret secret{};
    Tag tag{};
};

// nullopt unless `text` is exactly 64 characters of the base64url alphabet (RFC 4648 section 5).
// 48 bytes fill 64 characters, so every token has exactly one spelling.
// The struct is the wire: decoded and compared in one piece.
static_assert(sizeof(Token) == kTokenBytes);

std::optional<Token> parse_token(std::string_view text) noexcept;

// The same without a copy; `token` is unspecified when false is returned.
bool parse_token_into(std::string_view text, Token& token) noexcept;

// Writes the 64 characters of the cookie's value.
void format_token(const Token& token, std::span<char, kTokenChars> out) noexcept;

// Constant time in the contents: key id, handle, secret and tag must all be equal.
bool same_token(const Token& a, const Token& b) noexcept;

}  // namespace sg
