#include "core/token.h"

#include <openssl/crypto.h>

#include <algorithm>

#include "core/base64url.h"

namespace sg {
namespace {

// Wire order: key id 1, handle 16, secret 16, tag 15.
constexpr std::size_t kHandleAt = 1;
constexpr std::size_t kSecretAt = 17;
constexpr std::size_t kTagAt = 33;
static_assert(kTagAt + sizeof(Tag) == kTokenBytes);

using Wire = std::array<std::uint8_t, kTokenBytes>;

Wire to_wire(const Token& token) noexcept {
    Wire wire;
    wire[0] = token.key_id;
    std::copy(token.handle.begin(), token.handle.end(), wire.begin() + kHandleAt);
    std::copy(token.secret.begin(), token.secret.end(), wire.begin() + kSecretAt);
    std::copy(token.tag.begin(), token.tag.end(), wire.begin() + kTagAt);
    return wire;
}

}  // namespace

std::optional<Token> parse_token(std::string_view text) noexcept {
    Wire wire;
    if (!base64url_decode(text, wire)) {
        return std::nullopt;
    }
    Token token;
    token.key_id = wire[0];
    std::copy_n(wire.begin() + kHandleAt, token.handle.size(), token.handle.begin());
    std::copy_n(wire.begin() + kSecretAt, token.secret.size(), token.secret.begin());
    std::copy_n(wire.begin() + kTagAt, token.tag.size(), token.tag.begin());
    return token;
}

void format_token(const Token& token, std::span<char, kTokenChars> out) noexcept {
    Wire wire = to_wire(token);
    base64url_encode(wire, out);
    OPENSSL_cleanse(wire.data(), wire.size());
}

namespace {

// Differing bits of two fields, by words, without a branch: the last word may overlap the one
// before.
template <typename Field>
std::uint64_t difference(const Field& a, const Field& b) noexcept {
    static_assert(sizeof(Field) >= 8 && sizeof(Field) <= 16);
    constexpr std::size_t kLast = sizeof(Field) - 8;
    return (load_le<std::uint64_t>(a.data()) ^ load_le<std::uint64_t>(b.data())) |
           (load_le<std::uint64_t>(a.data() + kLast) ^ load_le<std::uint64_t>(b.data() + kLast));
}

}  // namespace

bool same_token(const Token& a, const Token& b) noexcept {
    std::uint64_t bits = difference(a.handle, b.handle) | difference(a.secret, b.secret) |
                         difference(a.tag, b.tag) | static_cast<std::uint64_t>(a.key_id ^ b.key_id);
    asm volatile("" : "+r"(bits));  // the compiler may not turn this into early exits
    return bits == 0;
}

}  // namespace sg
