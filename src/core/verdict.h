// The closed list of outcomes of a check. Every refusal has exactly one name: it is what
// $session_status, $session_reason, Session-Status, the problem body and the log say.
#pragma once

#include <cstdint>
#include <string_view>

namespace sg {

enum class Status : std::uint8_t {
    none,  // no session cookie came with the request
    valid,
    malformed,    // not a token at all
    forged,       // the tag is not ours
    unknown_key,  // minted under a key that is not configured (any more)
    absent,       // genuine, but no such session
    expired_idle,
    expired_absolute,
    ended,              // logged out
    regenerated,        // replaced by a new session ID
    ambiguous,          // two different good sessions in one request
    insecure,           // the cookie came over plain http
    csrf,               // a cross-site request
    limited,            // a login: the user has as many sessions as may be
    store_unavailable,  // the store could not be asked
};

// "valid", "expired_idle" ...: the name as it is shown everywhere.
std::string_view status_name(Status status) noexcept;

// What a refusal with this status is answered with: 401, 403 or 503 (RFC 9110 section 15).
unsigned http_status(Status status) noexcept;

// A short title for humans, e.g. "Session expired".
std::string_view status_title(Status status) noexcept;

// Of two refusals, the one that tells the user more (a request may carry several cookies).
Status more_telling(Status a, Status b) noexcept;

// Whether the browser's cookie is certainly useless and may be expired on a refused document
// navigation. Never for what the proxy is not sure of: an unknown key or a store in trouble.
bool may_expire_cookie(Status status) noexcept;

}  // namespace sg
