#include "core/web/structured_field.h"

#include <algorithm>

namespace sg {
namespace {

constexpr std::size_t kMaxDigits = 15;

constexpr bool is_digit(char c) noexcept {
    return c >= '0' && c <= '9';
}

constexpr bool is_lower(char c) noexcept {
    return c >= 'a' && c <= 'z';
}

constexpr bool is_alpha(char c) noexcept {
    return is_lower(c) || (c >= 'A' && c <= 'Z');
}

constexpr bool is_printable(char c) noexcept {
    return c >= 0x20 && c <= 0x7e;
}

constexpr bool starts_token(char c) noexcept {
    return is_alpha(c) || c == '*';
}

// tchar of RFC 9110 section 5.6.2, and the two characters RFC 9651 adds.
constexpr bool continues_token(char c) noexcept {
    constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~:/";
    return is_alpha(c) || is_digit(c) || kMarks.find(c) != std::string_view::npos;
}

constexpr bool starts_key(char c) noexcept {
    return is_lower(c) || c == '*';
}

constexpr bool continues_key(char c) noexcept {
    return starts_key(c) || is_digit(c) || c == '_' || c == '-' || c == '.';
}

// Upper case is not allowed in a Display String. Negative: no digit.
constexpr int lower_hex(char c) noexcept {
    if (is_digit(c)) {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace

void SfItemReader::skip_spaces() noexcept {
    while (at(' ')) {
        ++at_;
    }
}

bool SfItemReader::refuse(const char* what, std::size_t offset, std::size_t length) noexcept {
    failed_ = true;
    error_ = {what, offset, text_.substr(offset, length)};
    return false;
}

// About the byte at the current place, or the end of the value.
bool SfItemReader::refuse_here(const char* what) noexcept {
    return refuse(what, at_, at_end() ? 0 : 1);
}

bool SfItemReader::put(char c) noexcept {
    if (used_ == scratch_.size()) {
        return refuse_here("too little work space");
    }
    scratch_[used_++] = c;
    return true;
}

std::string_view SfItemReader::scan_token() noexcept {
    const std::size_t begin = at_;
    while (!at_end() && continues_token(text_[at_])) {
        ++at_;
    }
    return text_.substr(begin, at_ - begin);
}

bool SfItemReader::read_token(std::string_view& token) noexcept {
    if (failed_) {
        return false;
    }
    skip_spaces();
    if (at_end()) {
        return refuse_here("empty");
    }
    if (!starts_token(text_[at_])) {
        return refuse_here("a token is expected");
    }
    token = scan_token();
    return true;
}

SfItemReader::Step SfItemReader::next(SfParameter& parameter) noexcept {
    if (failed_) {
        return Step::malformed;
    }
    if (!at(';')) {
        skip_spaces();
        if (at_end()) {
            return Step::end;
        }
        refuse(at(',') ? "a list is not allowed" : "unexpected text", at_, 1);
        return Step::malformed;
    }
    ++at_;
    skip_spaces();
    if (!read_key(parameter.key)) {
        return Step::malformed;
    }
    parameter.value = SfValue{};
    parameter.value.source = parameter.key;
    if (at('=')) {
        ++at_;
        if (!read_value(parameter.value)) {
            return Step::malformed;
        }
    }
    return Step::parameter;
}

bool SfItemReader::read_key(std::string_view& key) noexcept {
    if (at_end() || !starts_key(text_[at_])) {
        return refuse_here("a parameter name is expected");
    }
    const std::size_t begin = at_;
    while (!at_end() && continues_key(text_[at_])) {
        ++at_;
    }
    if (!at_end() && is_alpha(text_[at_])) {
        return refuse_here("a parameter name has no upper-case letters");
    }
    key = text_.substr(begin, at_ - begin);
    const auto seen_end = keys_.begin() + static_cast<std::ptrdiff_t>(key_count_);
    if (std::find(keys_.begin(), seen_end, key) != seen_end) {
        return refuse("repeated parameter", begin, key.size());
    }
    if (key_count_ == keys_.size()) {
        return refuse("too many parameters", begin, key.size());
    }
    keys_[key_count_++] = key;
    return true;
}

bool SfItemReader::read_value(SfValue& value) noexcept {
    if (at_end()) {
        return refuse_here("a value is expected");
    }
    const std::size_t begin = at_;
    const char first = text_[at_];
    bool read = false;
    if (first == '"') {
        read = read_string(value);
    } else if (first == '%') {
        read = read_display_string(value);
    } else if (first == '-' || is_digit(first)) {
        read = read_integer(value);
    } else if (first == '?') {
        read = read_boolean(value);
    } else if (starts_token(first)) {
        value.type = SfType::token;
        value.text = scan_token();
        read = true;
    } else if (first == ':') {
        return refuse_here("a byte sequence is not allowed");
    } else if (first == '@') {
        return refuse_here("a date is not allowed");
    } else if (first == '(') {
        return refuse_here("an inner list is not allowed");
    } else {
        return refuse_here("a value is expected");
    }
    value.source = text_.substr(begin, at_ - begin);
    return read;
}

bool SfItemReader::read_boolean(SfValue& value) noexcept {
    ++at_;
    if (!at('0') && !at('1')) {
        return refuse_here("a boolean is ?0 or ?1");
    }
    value.type = SfType::boolean;
    value.boolean = at('1');
    ++at_;
    return true;
}

bool SfItemReader::read_integer(SfValue& value) noexcept {
    const std::size_t begin = at_;
    const bool negative = at('-');
    at_ += negative ? 1 : 0;
    const std::size_t first_digit = at_;
    std::int64_t number = 0;
    while (!at_end() && is_digit(text_[at_])) {
        if (at_ - first_digit == kMaxDigits) {
            return refuse("an integer has at most 15 digits", begin, 0);
        }
        number = number * 10 + (text_[at_] - '0');
        ++at_;
    }
    if (at_ == first_digit) {
        return refuse_here("a digit is expected");
    }
    if (at('.')) {
        return refuse("a decimal is not allowed", begin, 0);
    }
    value.type = SfType::integer;
    value.integer = negative ? -number : number;
    return true;
}

bool SfItemReader::read_string(SfValue& value) noexcept {
    const std::size_t quote = at_++;
    const std::size_t begin = used_;
    while (!at('"')) {
        if (at('\\')) {
            ++at_;
            if (!at('"') && !at('\\')) {
                return refuse(R"(only \" and \\ may be escaped)", at_ - 1, 2);
            }
        }
        if (at_end()) {
            return refuse("the string does not end", quote, 1);
        }
        if (!is_printable(text_[at_])) {
            return refuse_here("not printable ASCII in a string");
        }
        if (!put(text_[at_])) {
            return false;
        }
        ++at_;
    }
    ++at_;
    value.type = SfType::string;
    value.text = {scratch_.data() + begin, used_ - begin};
    return true;
}

bool SfItemReader::read_display_string(SfValue& value) noexcept {
    const std::size_t percent = at_++;
    const std::size_t begin = used_;
    if (!at('"')) {
        return refuse_here("a quote is expected");
    }
    ++at_;
    while (!at('"')) {
        if (at_end()) {
            return refuse("the display string does not end", percent, 2);
        }
        if (!is_printable(text_[at_])) {
            return refuse_here("not printable ASCII in a display string");
        }
        if (at('%')) {
            if (!read_escaped_byte()) {
                return false;
            }
            continue;
        }
        if (!put(text_[at_])) {
            return false;
        }
        ++at_;
    }
    ++at_;
    value.type = SfType::display_string;
    value.text = {scratch_.data() + begin, used_ - begin};
    return is_utf8(value.text) || refuse("the display string is not UTF-8", percent, 2);
}

bool SfItemReader::read_escaped_byte() noexcept {
    constexpr std::size_t kEscape = 3;
    if (text_.size() - at_ < kEscape) {
        return refuse("% is followed by two lower-case hex digits", at_, kEscape);
    }
    const int high = lower_hex(text_[at_ + 1]);
    const int low = lower_hex(text_[at_ + 2]);
    if (high < 0 || low < 0) {
        return refuse("% is followed by two lower-case hex digits", at_, kEscape);
    }
    if (!put(static_cast<char>(high * 16 + low))) {
        return false;
    }
    at_ += kEscape;
    return true;
}

}  // namespace sg
