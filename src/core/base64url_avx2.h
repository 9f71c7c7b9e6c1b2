// 32 characters of base64url at a time, where the processor can (AVX2). Decoding the cookie is the
// largest single step of letting a known session in; this takes a third of the instructions that
// the tables of base64url.cc take. Same answers, shown by test.
#pragma once

#include "core/bytes.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define SG_HAS_AVX2 1

#include <immintrin.h>

namespace sg::avx2 {

struct Tables {
    // A character is bad when invalid_low[low nibble] and class_of_high[high nibble] share a bit.
    alignas(16) std::uint8_t invalid_low[16];
    alignas(16) std::uint8_t class_of_high[16];
    // What to add to a character to get its value, by high nibble; '_' is 33 more than its row.
    alignas(16) std::int8_t offset_of_high[16];
    // The three bytes of each 32-bit word, most significant first.
    alignas(16) std::int8_t order[16] = {2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1};
};

constexpr Tables make_tables() {
    Tables tables{};
    constexpr std::uint8_t kNowhere = 1 << 6;  // rows of ASCII with no character of ours
    const auto row_bit = [](int high) {
        return high >= 2 && high <= 7 ? static_cast<std::uint8_t>(1 << (high - 2)) : kNowhere;
    };
    const auto good = [](int c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '_';
    };
    for (int high = 0; high < 16; ++high) {
        tables.class_of_high[high] = row_bit(high);
    }
    for (int low = 0; low < 16; ++low) {
        tables.invalid_low[low] = kNowhere;
        for (int high = 2; high <= 7; ++high) {
            tables.invalid_low[low] |= good(high * 16 + low) ? 0 : row_bit(high);
        }
    }
    constexpr int kOffsets[] = {62 - '-', 52 - '0', -'A', -'A', 26 - 'a', 26 - 'a'};
    for (int row = 0; row < 6; ++row) {
        tables.offset_of_high[row + 2] = static_cast<std::int8_t>(kOffsets[row]);
    }
    return tables;
}

inline constexpr Tables kTables = make_tables();

// The same 16 bytes in both halves: AVX2 shuffles within them.
[[gnu::target("avx2")]] inline __m256i both_halves(const void* table) noexcept {
    return _mm256_broadcastsi128_si256(_mm_load_si128(static_cast<const __m128i*>(table)));
}

// `blocks` times 32 characters into 24 bytes each. False when one is not of the alphabet.
[[gnu::target("avx2")]] inline bool decode_blocks(const char* in, std::size_t blocks,
                                                  std::uint8_t* out) noexcept {
    const __m256i invalid_low = both_halves(kTables.invalid_low);
    const __m256i class_of_high = both_halves(kTables.class_of_high);
    const __m256i offset_of_high = both_halves(kTables.offset_of_high);
    const __m256i nibble = _mm256_set1_epi8(0x0f);
    const __m256i order = both_halves(kTables.order);
    const __m256i join = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7);
    __m256i bad = _mm256_setzero_si256();
    for (; blocks > 0; --blocks, in += 32, out += 24) {
        const __m256i text = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in));
        const __m256i high = _mm256_and_si256(_mm256_srli_epi32(text, 4), nibble);
        const __m256i low = _mm256_and_si256(text, nibble);
        bad = _mm256_or_si256(bad, _mm256_and_si256(_mm256_shuffle_epi8(invalid_low, low),
                                                    _mm256_shuffle_epi8(class_of_high, high)));
        const __m256i underscore =
            _mm256_and_si256(_mm256_cmpeq_epi8(text, _mm256_set1_epi8('_')), _mm256_set1_epi8(33));
        const __m256i six = _mm256_add_epi8(_mm256_add_epi8(text, underscore),
                                            _mm256_shuffle_epi8(offset_of_high, high));
        // Pairs of 6 bits to 12, pairs of 12 to 24, the three bytes in their order, no gaps.
        const __m256i twelve = _mm256_maddubs_epi16(six, _mm256_set1_epi32(0x01400140));
        const __m256i threes =
            _mm256_shuffle_epi8(_mm256_madd_epi16(twelve, _mm256_set1_epi32(0x00011000)), order);
        const __m256i bytes = _mm256_permutevar8x32_epi32(threes, join);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(bytes));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(out + 16), _mm256_extracti128_si256(bytes, 1));
    }
    return _mm256_testz_si256(bad, bad) != 0;
}

}  // namespace sg::avx2
#endif
