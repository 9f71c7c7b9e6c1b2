#include "core/token.h"

#include "core/base64url.h"

namespace sg {
namespace {

ByteView wire_of(const Token& token) noexcept {
    return {reinterpret_cast<const std::uint8_t*>(&token), sizeof token};
}

}  // namespace

bool parse_token_into(std::string_view text, Token& token) noexcept {
    return base64url_decode(text, {reinterpret_cast<std::uint8_t*>(&token), sizeof token});
}

std::optional<Token> parse_token(std::string_view text) noexcept {
    Token token;
    return parse_token_into(text, token) ? std::optional(token) : std::nullopt;
}

void format_token(const Token& token, std::span<char, kTokenChars> out) noexcept {
    base64url_encode(wire_of(token), out);
}

bool same_token(const Token& a, const Token& b) noexcept {
    const std::uint8_t* const left = wire_of(a).data();
    const std::uint8_t* const right = wire_of(b).data();
    std::uint64_t difference = 0;
    for (std::size_t at = 0; at < kTokenBytes; at += 8) {
        difference |= load_le<std::uint64_t>(left + at) ^ load_le<std::uint64_t>(right + at);
    }
    asm volatile("" : "+r"(difference));  // no early exit may be made of the loop
    return difference == 0;
}

}  // namespace sg
