#include "core/base64url.h"

#include <array>

#include "core/base64url_avx2.h"

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

// Four characters at a time: their values in place, as the three bytes lie in memory
// (little-endian); a bad character sets the top byte.
constexpr std::array<std::array<std::uint32_t, 256>, 4> make_quads() {
    std::array<std::array<std::uint32_t, 256>, 4> quads{};
    for (std::size_t c = 0; c < 256; ++c) {
        const std::uint32_t v = kReverse[c];
        const bool bad = v == kBad;
        quads[0][c] = bad ? 0xff000000u : v << 2;
        quads[1][c] = bad ? 0xff000000u : (v >> 4) | (v & 15u) << 12;
        quads[2][c] = bad ? 0xff000000u : (v >> 2) << 8 | (v & 3u) << 22;
        quads[3][c] = bad ? 0xff000000u : v << 16;
    }
    return quads;
}

constexpr auto kQuads = make_quads();

// Whole groups: in.size() is a multiple of 4, out holds 3 bytes for each.
bool decode_groups(const unsigned char* in, std::size_t groups, std::uint8_t* out) noexcept {
    std::uint32_t seen = 0;
    const auto group = [&seen](const unsigned char* at) {
        const std::uint32_t bits =
            kQuads[0][at[0]] | kQuads[1][at[1]] | kQuads[2][at[2]] | kQuads[3][at[3]];
        seen |= bits;
        return bits;
    };
    // Whole words, each overwriting the spare byte of the one before; the last group has no room
    // for it.
#pragma GCC unroll 4
    for (; groups > 1; --groups, in += 4, out += 3) {
        store_le<std::uint32_t>(out, group(in));
    }
    if (groups > 0) {
        const std::uint32_t bits = group(in);
        store_le<std::uint16_t>(out, static_cast<std::uint16_t>(bits));
        out[2] = static_cast<std::uint8_t>(bits >> 16);
    }
    return (seen & 0xff000000u) == 0;
}

// The first `count` of the four characters that 24 bits make.
void encode_group(std::uint32_t bits, int count, char* to) noexcept {
    for (int i = 0; i < count; ++i) {
        to[i] = kAlphabet[bits >> (18 - 6 * i) & 63];
    }
}

}  // namespace

void base64url_encode(ByteView in, std::span<char> out) noexcept {
    const std::uint8_t* from = in.data();
    char* to = out.data();
    for (std::size_t groups = in.size() / 3; groups > 0; --groups, from += 3, to += 4) {
        encode_group(std::uint32_t{from[0]} << 16 | std::uint32_t{from[1]} << 8 | from[2], 4, to);
    }
    if (in.size() % 3 == 1) {
        encode_group(std::uint32_t{from[0]} << 16, 2, to);
    } else if (in.size() % 3 == 2) {
        encode_group(std::uint32_t{from[0]} << 16 | std::uint32_t{from[1]} << 8, 3, to);
    }
}

bool base64url_decode(std::string_view in, ByteSpan out) noexcept {
    if (in.size() != base64url_chars(out.size())) {
        return false;
    }
#ifdef SG_HAS_AVX2
    if (in.size() % 32 == 0 && __builtin_cpu_supports("avx2")) {
        return avx2::decode_blocks(in.data(), in.size() / 32, out.data());
    }
#endif
    if (in.size() % 4 == 0) {
        return decode_groups(reinterpret_cast<const unsigned char*>(in.data()), in.size() / 4,
                             out.data());
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
