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

bool same_token(const Token& a, const Token& b) noexcept {
    const Wire left = to_wire(a);
    const Wire right = to_wire(b);
    return CRYPTO_memcmp(left.data(), right.data(), left.size()) == 0;
}

}  // namespace sg
