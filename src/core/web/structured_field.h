// Structured fields, as far as the control header needs them (RFC 9651): one Item whose bare item
// is a Token, with Parameters, read strictly and piece by piece:
//     token *( ";" *SP key [ "=" value ] )
// Values are Boolean, Integer, String, Token or Display String. What the RFC knows beyond that
// (lists, inner lists, decimals, byte sequences, dates) is an error here, and so is a repeated key,
// for which the RFC lets the last one win: in a command it is a mistake or an injection, never an
// intention. Values own nothing. All functions are pure; nothing is allocated.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace sg {

// The RFC asks parsers for 256 parameters; one more is refused.
inline constexpr std::size_t kSfMaxParameters = 256;

enum class SfType : std::uint8_t { boolean, integer, string, token, display_string };

struct SfValue {
    SfType type = SfType::boolean;
    bool boolean = true;       // a key without "=" means true
    std::int64_t integer = 0;  // at most 15 digits
    std::string_view text;  // string, display_string: decoded, in the scratch; token: in the input
    std::string_view source;  // as written, quotes and all; the key of a bare key
};

// Key and source are views into the field's value.
struct SfParameter {
    std::string_view key;
    SfValue value;
};

// What was wrong, at which byte of the field's value (0-based), and the piece of the value it is
// about (may be empty, may hold any byte). `what` is a static string.
struct SfError {
    const char* what = "";
    std::size_t offset = 0;
    std::string_view token;
};

// Reads one Item from left to right: read_token once, then next until it does not say `parameter`.
// After the first error every further call fails with the same error.
class SfItemReader {
  public:
    enum class Step : std::uint8_t { parameter, end, malformed };

    // `text` is the field's value. Decoded strings are written to `scratch`, one after the other;
    // as many bytes as `text` has always suffice. Both must outlive what is read.
    SfItemReader(std::string_view text, std::span<char> scratch) noexcept
        : text_(text), scratch_(scratch) {}

    // Skips leading spaces and reads the item's Token (RFC 9651 sections 4.2, 4.2.6).
    bool read_token(std::string_view& token) noexcept;

    // Reads the next parameter (sections 4.2.3.2, 4.2.3.3). `end`: nothing but spaces is left.
    Step next(SfParameter& parameter) noexcept;

    const SfError& error() const noexcept { return error_; }

    // Where a piece of the input that was handed out stands in it.
    std::size_t offset_of(std::string_view piece) const noexcept {
        return static_cast<std::size_t>(piece.data() - text_.data());
    }

  private:
    bool at_end() const noexcept { return at_ == text_.size(); }
    bool at(char c) const noexcept { return at_ < text_.size() && text_[at_] == c; }
    void skip_spaces() noexcept;
    bool refuse(const char* what, std::size_t offset, std::size_t length) noexcept;
    bool refuse_here(const char* what) noexcept;
    bool put(char c) noexcept;

    bool read_key(std::string_view& key) noexcept;
    bool read_value(SfValue& value) noexcept;
    bool read_boolean(SfValue& value) noexcept;
    bool read_integer(SfValue& value) noexcept;
    bool read_string(SfValue& value) noexcept;
    bool read_display_string(SfValue& value) noexcept;
    bool read_escaped_byte() noexcept;
    std::string_view scan_token() noexcept;

    std::string_view text_;
    std::span<char> scratch_;
    std::size_t at_ = 0;    // next byte of text_
    std::size_t used_ = 0;  // bytes of scratch_ taken
    bool failed_ = false;
    SfError error_;
    std::array<std::string_view, kSfMaxParameters> keys_{};  // seen so far
    std::size_t key_count_ = 0;
};

// Decodes the character of UTF-8 `text` that starts at `offset` and moves behind it. False when
// there is none: end of text, stray or missing continuation byte, overlong form, surrogate, beyond
// U+10FFFF (RFC 3629 section 3); `offset` then stays.
constexpr bool next_code_point(std::string_view text, std::size_t& offset, char32_t& out) noexcept {
    if (offset >= text.size()) {
        return false;
    }
    const auto lead = static_cast<std::uint8_t>(text[offset]);
    const std::size_t length = lead < 0x80   ? 1
                               : lead < 0xc0 ? 0
                               : lead < 0xe0 ? 2
                               : lead < 0xf0 ? 3
                               : lead < 0xf8 ? 4
                                             : 0;
    if (length == 0 || text.size() - offset < length) {
        return false;
    }
    char32_t c = length == 1 ? lead : lead & (0x7fu >> length);
    for (std::size_t i = 1; i < length; ++i) {
        const auto next = static_cast<std::uint8_t>(text[offset + i]);
        if ((next & 0xc0) != 0x80) {
            return false;
        }
        c = (c << 6) | (next & 0x3f);
    }
    constexpr std::array<char32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};  // else overlong
    if (c < kSmallest[length] || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff) {
        return false;
    }
    offset += length;
    out = c;
    return true;
}

constexpr bool is_utf8(std::string_view text) noexcept {
    std::size_t offset = 0;
    char32_t c = 0;
    while (next_code_point(text, offset, c)) {
    }
    return offset == text.size();
}

// C0 and C1 controls, DEL, and U+2028 and U+2029, which many readers take for the end of a line.
constexpr bool is_control_character(char32_t c) noexcept {
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x2028 || c == 0x2029;
}

// UTF-8 without control characters: it can neither break a line nor end a header.
constexpr bool is_plain_text(std::string_view text) noexcept {
    std::size_t offset = 0;
    char32_t c = 0;
    while (next_code_point(text, offset, c)) {
        if (is_control_character(c)) {
            return false;
        }
    }
    return offset == text.size();
}

}  // namespace sg
