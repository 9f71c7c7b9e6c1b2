// Fuzzes the cookie's value. A text that is a token is written back as the same text, and any 48
// bytes are a token that is read back as the same bytes: one spelling for every token. Likewise
// base64url at every length. Input: the text, or the bytes.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "core/base64url.h"
#include "core/token.h"

namespace {

void require(bool condition, const char* what) {
    if (!condition) {
        std::fprintf(stderr, "broken promise: %s\n", what);
        std::abort();
    }
}

std::string format(const sg::Token& token) {
    std::string text(sg::kTokenChars, '\0');
    sg::format_token(token, std::span<char, sg::kTokenChars>(text.data(), sg::kTokenChars));
    return text;
}

// The alphabet again, in another way than the table of base64url.cc.
bool is_base64url(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

bool all_base64url(std::string_view text) {
    for (const char c : text) {
        if (!is_base64url(c)) {
            return false;
        }
    }
    return true;
}

void check_text(std::string_view text) {
    const auto token = sg::parse_token(text);
    require(token.has_value() == (text.size() == sg::kTokenChars && all_base64url(text)),
            "a token is exactly 64 characters of the alphabet");
    if (!token) {
        return;
    }
    require(format(*token) == text, "a token is written as it was read");
    require(sg::same_token(*token, *token), "a token is itself");
}

void check_bytes(sg::ByteView bytes) {
    sg::Token token;
    token.key_id = bytes[0];
    std::memcpy(token.handle.data(), &bytes[1], token.handle.size());
    std::memcpy(token.secret.data(), &bytes[17], token.secret.size());
    std::memcpy(token.tag.data(), &bytes[33], token.tag.size());
    const auto read = sg::parse_token(format(token));
    require(read.has_value(), "what is written can be read");
    require(read->key_id == token.key_id && read->handle == token.handle &&
                read->secret == token.secret && read->tag == token.tag,
            "what is read is what was written");
    require(sg::same_token(*read, token), "and compares equal");
    sg::Token other = token;
    other.secret[bytes[0] % other.secret.size()] ^= static_cast<std::uint8_t>(bytes[1] | 1);
    require(!sg::same_token(other, token), "another secret is another token");
}

void check_base64url(std::string_view text) {
    std::vector<std::uint8_t> bytes(text.size() * 3 / 4);
    const bool good = sg::base64url_decode(text, bytes);
    require(!good || all_base64url(text), "only the alphabet is decoded");
    if (!good) {
        return;
    }
    std::string again(sg::base64url_chars(bytes.size()), '\0');
    sg::base64url_encode(bytes, again);
    require(again == text, "base64url has one spelling");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    check_text(text);
    check_base64url(text);
    if (size >= sg::kTokenBytes) {
        check_bytes({data, sg::kTokenBytes});
    }
    return 0;
}
