// base64url without padding (RFC 4648 section 5), strict: one spelling for every value.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "core/bytes.h"

namespace sg {

constexpr std::size_t base64url_chars(std::size_t bytes) noexcept {
    return (bytes * 4 + 2) / 3;
}

// `out` must hold exactly base64url_chars(in.size()) characters.
void base64url_encode(ByteView in, std::span<char> out) noexcept;

// True when `in` is the encoding of exactly out.size() bytes: right length, only the alphabet,
// unused low bits zero. `out` is unspecified otherwise.
bool base64url_decode(std::string_view in, ByteSpan out) noexcept;

}  // namespace sg
