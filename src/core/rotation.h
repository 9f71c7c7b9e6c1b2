// Rotation: the secret of a session is replaced now and then, so that a copied cookie does not stay
// good beside the real one. All secrets of a session come from one seed, so that every node hands
// out the same next one. It is handed out until it comes back once; then the one before is good for
// a grace. Whoever comes with an older one has a copy. See docs/formats.md.
#pragma once

#include <cstdint>
#include <optional>

#include "core/realm.h"
#include "core/record.h"
#include "core/token.h"
#include "core/zone/table.h"

namespace sg {

enum class Holding : std::uint8_t {
    current,
    next,      // it has been handed out, and this copy of the session has not seen it yet
    previous,  // the new one has been seen, and the grace is not over
    behind,    // replaced for longer: two browsers have had it
    unknown,   // cannot be told: OpenSSL failed
};

struct Held {
    Holding holding = Holding::unknown;
    std::uint32_t generation = 0;  // of the token's secret; not with behind, unknown
};

// What this token is to the session with its handle. It must be genuine, unless it is the current
// one. Of the record only the numbers count. Derives up to ten secrets where it is not current.
Held holding_of(const Realm& realm, const SessionView& view, const Record& record,
                const Token& token, TimeMs now) noexcept;

// When the session's current secret was first seen.
inline TimeMs rotated_at(const Record& record) noexcept {
    return record.created + static_cast<TimeMs>(record.rotated_s) * kSecond;
}

// Whether the current secret has been good for as long as it may.
inline bool is_rotation_due(const Realm& realm, const Record& record, TimeMs now) noexcept {
    return realm.rotate != 0 && age(rotated_at(record), now) >= realm.rotate;
}

// Whether a response should carry the cookie though the token stays: the login's had SameSite=Lax.
inline bool owes_second_cookie(const Record& record) noexcept {
    return (record.flags & kFirstCookieFlag) != 0;
}

// The cookie has been sent once more. `work` is scratch of kWorkBytes (lifecycle.h).
void note_second_cookie(const Realm& realm, const Token& token, TimeMs now, ByteSpan work) noexcept;

// The token that whoever came with this one should have from now on: asked just before a response
// is sent. nullopt: the one that it has; or the session is gone, or has another handle by now.
std::optional<Token> token_to_hand_out(const Realm& realm, const Token& token, TimeMs now) noexcept;

// A token that had been handed out has come back: it is the current one from now on, here and, told
// through the journal, elsewhere. `work` is scratch of kWorkBytes (lifecycle.h). False: it is not
// the next one any more, or there is no room to note it; nothing depends on it.
bool note_seen(const Realm& realm, const Token& token, TimeMs now, ByteSpan work) noexcept;

}  // namespace sg
