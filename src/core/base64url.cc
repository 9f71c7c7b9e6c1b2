#include "core/base64url.h"

#include <array>

namespace sg {
namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

constexpr std::uint8_t kBad = 0xff;

constexpr std::array<std::uint8_t, 256> make_reverse() {
    std::array<std::uint8_t, 256> reverse{};
    for (auto& value : reverse) {
        value = kBad;
    }
    for (std::size_t i = 0; i < kAlphabet.size(); ++i) {
        reverse[static_cast<unsigned char>(kAlphabet[i])] = static_cast<std::uint8_t>(i);
    }
    return reverse;
}

constexpr std::array<std::uint8_t, 256> kReverse = make_reverse();

}  // namespace

void base64url_encode(ByteView in, std::span<char> out) noexcept {
    std::uint32_t bits = 0;
    unsigned held = 0;
    std::size_t at = 0;
    for (const std::uint8_t byte : in) {
        bits = (bits << 8) | byte;
        held += 8;
        while (held >= 6) {
            held -= 6;
            out[at++] = kAlphabet[(bits >> held) & 63];
        }
    }
    if (held > 0) {
        out[at] = kAlphabet[(bits << (6 - held)) & 63];
    }
}

bool base64url_decode(std::string_view in, ByteSpan out) noexcept {
    if (in.size() != base64url_chars(out.size())) {
        return false;
    }
    std::uint32_t bits = 0;
    unsigned held = 0;
    std::size_t at = 0;
    std::uint8_t seen = 0;  // bad characters set the top bits; checked once at the end
    for (const char c : in) {
        const std::uint8_t value = kReverse[static_cast<unsigned char>(c)];
        seen |= value;
        bits = (bits << 6) | (value & 63u);
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[at++] = static_cast<std::uint8_t>(bits >> held);
        }
    }
    const std::uint32_t unused = bits & ((1u << held) - 1);
    return (seen & 0xc0) == 0 && unused == 0;
}

}  // namespace sg
