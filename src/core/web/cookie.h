// Cookie request headers: find the session cookies, and take them out.
// Names match exactly and case-sensitively: browsers treat __Host- in any case as a prefix, so a
// sibling host may set a __hOsT- twin that only a case-sensitive server tells apart (RFC 6265bis).
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace sg {

// One cookie-pair of a Cookie header value. Views into the header.
struct CookiePair {
    std::string_view name;   // trimmed; empty for a pair without "="
    std::string_view value;  // trimmed, quotes kept
    std::size_t begin = 0;   // the pair's place in the header, up to and with its ";"
    std::size_t end = 0;
};

// Walks a header pair by pair; `offset` starts at 0. False at the end.
bool next_cookie(std::string_view header, std::size_t& offset, CookiePair& out) noexcept;

// Copies the header without the pairs whose name satisfies `take(name, value)`; returns the bytes
// written, `out` needs header.size(). A leftover separator at either end is dropped.
template <typename Take>
std::size_t copy_without(std::string_view header, std::span<char> out, Take take) noexcept {
    std::size_t used = 0;
    std::size_t offset = 0;
    CookiePair pair;
    while (next_cookie(header, offset, pair)) {
        if (!pair.name.empty() && take(pair.name, pair.value)) {
            continue;
        }
        used += header.copy(out.data() + used, pair.end - pair.begin, pair.begin);
    }
    while (used > 0 && (out[used - 1] == ' ' || out[used - 1] == '\t' || out[used - 1] == ';')) {
        --used;
    }
    return used;
}

}  // namespace sg
