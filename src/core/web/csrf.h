// The cross-site rule: may this request act with the session's authority? By Fetch metadata where
// the browser sends it, else by Origin; never by a token in a page.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace sg {

struct CsrfRequest {
    bool safe_method = false;          // GET, HEAD, OPTIONS, TRACE
    bool websocket_handshake = false;  // Upgrade: websocket
    bool https = false;                // the own origin's scheme when none is configured
    std::string_view host;             // the Host header as received (with port), or :authority
    // Header values; `has_` tells an absent header from an empty one. Several header lines of the
    // same name arrive joined by ", " and never match.
    bool has_sec_fetch_site = false;
    std::string_view sec_fetch_site;
    bool has_origin = false;
    std::string_view origin;
    bool has_referer = false;
    std::string_view referer;
};

enum class CsrfVerdict : std::uint8_t {
    pass,
    pass_unattested,  // no Sec-Fetch-Site, Origin or Referer: passed and counted
    refuse,
};

// `own_origins`: the realm's `origin` directive, each one is_origin; empty: scheme and host of the
// request. Rules (docs/security.md):
//   WebSocket handshake: Origin must be present and own, whatever Sec-Fetch-Site says; with an
//   unsafe
//           method the rules below hold besides.
//   safe method: pass.
//   unsafe: Sec-Fetch-Site same-origin or none: pass; same-site or cross-site: Origin must be own;
//           any other value: refuse. Header absent: Origin own: pass; other or "null": refuse;
//           absent: the Referer's origin instead; that absent too: pass_unattested.
// A Host that is missing or malformed makes no origin own.
CsrfVerdict check_csrf(const CsrfRequest& request,
                       std::span<const std::string_view> own_origins) noexcept;

// True when both are origins (see is_origin) and name the same scheme, host and port. The host
// compares case-insensitively, an explicit default port equals none; "example.com." is another host
// than "example.com", as it is for browsers.
bool same_origin(std::string_view origin, std::string_view own) noexcept;

// True for "http://" or "https://" (in lower case), a host as browsers serialise it (RFC 6454
// section 6.1: ASCII name, IPv4, or IPv6 in brackets), and at most ":" and a port 1..65535 without
// leading zeros. So never for "null", "", userinfo, a path or a trailing slash, a wildcard, blanks,
// a percent sign, or two origins in one value.
bool is_origin(std::string_view text) noexcept;

}  // namespace sg
