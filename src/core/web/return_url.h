// `return=`: where a browser goes after login or logout. Only a path of the own origin is accepted,
// judged after decoding, so that no spelling leads to another site (open redirect).
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace sg {

inline constexpr std::size_t kMaxReturnBytes = 2048;

// True when `uri` (as it stands in a request line, percent-encoding intact; a query argument is
// decoded once before) is a path of the own origin, at most kMaxReturnBytes long. What counts is
// what any reader may make of it, so it is judged as it stands and after each of up to 3 rounds of
// percent-decoding (enough for a proxy, an application and a careless second decoding).
//
// Everywhere: no blank and no control character as it stands; behind any round no C0 control and no
// DEL. The path, up to the first literal '?' or '#', behind every round:
//   starts with exactly one '/'; contains no '\\';
//   is UTF-8 without C1 controls, U+2028 and U+2029 once decoded: overlong forms are refused, and
//   so are paths in other charsets; does not have both an empty segment and a dot segment
//   ("/..//evil", "/./%2fevil", but also
//   "/a//../b"): whoever resolves it may end with "//" in front; a trailing '/' is no empty
//   segment; its own escapes are well-formed (those that only appear by decoding need not be:
//   "/100%25" is fine), and after 3 rounds nothing is left to decode.
// The query and the fragment lead nowhere, so they may hold anything else: "//", "http://", '\\', a
// stray '%', other charsets.
bool is_own_origin_path(std::string_view uri) noexcept;

// Percent-decodes one layer into `out` (at least in.size() bytes; may be the memory of `in`);
// returns bytes written, or SIZE_MAX on a malformed escape or when `out` is too small. '+' is left
// alone.
std::size_t percent_decode(std::string_view in, std::span<char> out) noexcept;

// Percent-encodes for use as the value of a query argument: everything but unreserved
// characters (RFC 3986 section 2.3) and '/'. Returns bytes written; `out` needs 3 * in.size(), else
// SIZE_MAX is returned where it does not suffice.
std::size_t percent_encode(std::string_view in, std::span<char> out) noexcept;

}  // namespace sg
