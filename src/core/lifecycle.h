// What happens to a session between login and end: opened, changed, regenerated, ended. Every
// operation re-reads the session first, because it runs when a response arrives, long after the
// request was let in: what has been ended meanwhile stays ended.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "core/bytes.h"
#include "core/enforce.h"
#include "core/random_pool.h"
#include "core/realm.h"
#include "core/rewrite.h"
#include "core/web/control.h"

namespace sg {

struct Changed {
    Change result = Change::gone;
    std::optional<Token> token;  // the new credential, to be sent to the client
    std::size_t ended = 0;       // other sessions of the user, which were too many
};

// A tombstone outlives the session it stands for by this much (clock differences between nodes).
inline constexpr TimeMs kTombstoneSlack = 5 * kMinute;

// `create`: a new session under a new handle that is linked to nothing. `leaving`: the handles that
// it takes the place of, which the caller ends when it is there; they do not count for limits.
Changed open_session(const Realm& realm, RandomPool& random, const ControlCommand& command,
                     TimeMs now, ByteSpan work, std::span<const Handle> leaving = {}) noexcept;

// `update`, `renew`, `reauth` on the session with this handle. renew, reauth and any update of
// roles or level move the data to a new handle (Changed::token); an update of attributes alone does
// not. When the session has been regenerated since the request was let in, roles, level and
// attributes are applied to its successor in place, and no token is handed out.
Changed change_session(const Realm& realm, RandomPool& random, const Handle& handle,
                       const ControlCommand& command, std::size_t max_data, TimeMs now,
                       ByteSpan work) noexcept;

// The same once more, because the second tier held another node's change already: to what is in the
// zone now, in place; whoever asked for it has the token of the first time.
Changed change_again(const Realm& realm, RandomPool& random, const Handle& handle,
                     const ControlCommand& command, std::size_t max_data, TimeMs now,
                     ByteSpan work) noexcept;

// Ends the session and everything it was regenerated into. True when something was live. A
// tombstone is left either way.
bool end_session(const Realm& realm, const Handle& handle, Departure why, TimeMs now) noexcept;

// The same for what another node has replaced an ended handle with: perhaps not known here, and
// only its handle is. Under which key it was made nobody says: under each.
void end_successor(const Realm& realm, const Handle& handle, Departure why, TimeMs now) noexcept;

// Ends what this genuine credential may stand for elsewhere, where neither the zone nor, just now,
// the store knows it.
void end_unknown(const Realm& realm, const Token& token, Departure why, TimeMs now) noexcept;

// Whether this credential still passes for a session: live, or regenerated less than the window
// ago; its secret not rotated away. An older one may not even end what it was regenerated into: it
// may be in a thief's hands.
bool holds_session(const Realm& realm, const Token& token, TimeMs now) noexcept;

// Whether this node has the session, live or replaced.
bool is_there(const Realm& realm, const Handle& handle) noexcept;

// Whether this credential is good at this moment: asked again just before a Set-Cookie goes out.
bool is_live(const Realm& realm, const Token& token, TimeMs now) noexcept;

// Whether a newer login or token has taken this credential's place: its holder's browser has
// another cookie by now.
bool is_replaced(const Realm& realm, const Token& token, TimeMs now) noexcept;

}  // namespace sg
