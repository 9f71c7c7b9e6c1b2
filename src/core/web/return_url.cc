#include "core/web/return_url.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/web/structured_field.h"

namespace sg {
namespace {

constexpr int kMaxRounds = 3;
constexpr std::size_t kEscape = 3;  // %XX
constexpr std::string_view kHexDigits = "0123456789ABCDEF";

// What to do with a '%' that starts no escape.
enum class Stray : std::uint8_t { refuse, keep };

constexpr int hex_value(char c) noexcept {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    const char lower = static_cast<char>(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// The byte an escape at in[at] stands for; -1: there is none.
int escaped_byte(std::string_view in, std::size_t at) noexcept {
    if (in[at] != '%' || in.size() - at < kEscape) {
        return -1;
    }
    const int high = hex_value(in[at + 1]);
    const int low = hex_value(in[at + 2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

std::size_t decode(std::string_view in, std::span<char> out, Stray stray) noexcept {
    std::size_t used = 0;
    std::size_t at = 0;
    while (at < in.size()) {
        const int byte = escaped_byte(in, at);
        if (used == out.size() || (byte < 0 && in[at] == '%' && stray == Stray::refuse)) {
            return SIZE_MAX;
        }
        out[used++] = byte < 0 ? in[at] : static_cast<char>(byte);
        at += byte < 0 ? 1 : kEscape;
    }
    return used;
}

bool is_blank_or_control(char c) noexcept {
    return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f;
}

bool is_c0_or_del(char c) noexcept {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

bool is_unreserved(char c) noexcept {
    const char lower = static_cast<char>(c | 0x20);
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_' || c == '~';
}

// Whether some way of merging slashes and removing dot segments could leave "//" in front.
bool may_resolve_to_double_slash(std::string_view path) noexcept {
    bool empty = false;
    bool dots = false;
    std::size_t begin = 1;
    while (begin < path.size()) {
        const std::size_t end = std::min(path.find('/', begin), path.size());
        const std::string_view segment = path.substr(begin, end - begin);
        empty = empty || segment.empty();
        dots = dots || segment == "." || segment == "..";
        begin = end + 1;
    }
    return empty && dots;
}

bool leads_to_own_path(std::string_view path) noexcept {
    return path.starts_with('/') && !path.starts_with("//") &&
           path.find('\\') == std::string_view::npos && !may_resolve_to_double_slash(path);
}

bool is_good_path(std::string_view path, std::span<char> work) noexcept {
    if (!leads_to_own_path(path)) {
        return false;
    }
    for (int round = 0; round < kMaxRounds; ++round) {
        const std::size_t size = decode(path, work, round == 0 ? Stray::refuse : Stray::keep);
        if (size == SIZE_MAX) {
            return false;
        }
        const bool unchanged = size == path.size();
        path = {work.data(), size};
        if (!is_plain_text(path) || !leads_to_own_path(path)) {
            return false;
        }
        if (unchanged) {
            return true;
        }
    }
    return decode(path, work, Stray::keep) == path.size();
}

bool is_harmless_query(std::string_view query, std::span<char> work) noexcept {
    for (int round = 0; round < kMaxRounds; ++round) {
        query = {work.data(), decode(query, work, Stray::keep)};
        if (std::any_of(query.begin(), query.end(), is_c0_or_del)) {
            return false;
        }
    }
    return true;
}

}  // namespace

bool is_own_origin_path(std::string_view uri) noexcept {
    if (uri.size() > kMaxReturnBytes || std::any_of(uri.begin(), uri.end(), is_blank_or_control)) {
        return false;
    }
    std::array<char, kMaxReturnBytes> work;
    const std::size_t path_size = std::min(uri.find_first_of("?#"), uri.size());
    return is_good_path(uri.substr(0, path_size), work) &&
           is_harmless_query(uri.substr(path_size), work);
}

std::size_t percent_decode(std::string_view in, std::span<char> out) noexcept {
    return decode(in, out, Stray::refuse);
}

std::size_t percent_encode(std::string_view in, std::span<char> out) noexcept {
    std::size_t used = 0;
    for (const char c : in) {
        const bool plain = is_unreserved(c) || c == '/';
        if (out.size() - used < (plain ? 1 : kEscape)) {
            return SIZE_MAX;
        }
        if (plain) {
            out[used++] = c;
            continue;
        }
        const auto byte = static_cast<std::uint8_t>(c);
        out[used++] = '%';
        out[used++] = kHexDigits[byte >> 4];
        out[used++] = kHexDigits[byte & 0x0f];
    }
    return used;
}

}  // namespace sg
