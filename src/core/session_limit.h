// How many sessions a user may have at once: `limit_sessions`. Exact on one node, whatever its
// workers do at the same time. With a store, its order counts: whoever is let in is entered there
// first, and when the store has that, those who are too many are ended.
#pragma once

#include <span>

#include "core/realm.h"
#include "core/record.h"
#include "core/rewrite.h"

namespace sg {

// The smallest of the limits that concern somebody with these roles. nullptr: there is none.
const SessionLimit* limit_for(const Realm& realm, std::string_view roles) noexcept;

// Enters a session that has just been put into the zone into its user's roster, and ends those that
// are too many by it (without a store; else roster_kept does). limited: it is one too many itself.
// Whatever is not done: it is not entered and must go, nothing else has changed. `leaving`:
// sessions that it takes the place of, to be ended by the caller. `ended`: how many others had to
// go.
Change admit(const Realm& realm, const Token& token, const Record& record, TimeMs now,
             ByteSpan work, std::span<const Handle> leaving, std::size_t& ended) noexcept;

// The session has a new handle.
void follow_renewal(const Realm& realm, std::string_view user, const Handle& old,
                    const Token& token, TimeMs now, ByteSpan work) noexcept;

// The session with this handle ends, here and now: it is taken out of its user's roster, so that
// nodes that do not know it count it no longer. To be called before it is removed.
void leave_roster(const Realm& realm, const Handle& handle, TimeMs now) noexcept;

// Whether the zone has neither this roster, which the store has taken, nor one made from it, which
// is on its way: then it must learn it (second_tier.h).
bool is_behind(const Realm& realm, ByteView kept, TimeMs now, ByteSpan work) noexcept;

// The store has this roster of ours: those who are too many are ended. How many that were.
std::size_t roster_kept(const Realm& realm, ByteView kept, TimeMs now, ByteSpan work) noexcept;

// The store had another roster than the one that ours (`lost`) was made from: by now that is in the
// zone. What ours was made for is done there; if that is done already, what roster_kept does.
std::size_t roster_lost(const Realm& realm, ByteView lost, TimeMs now, ByteSpan work) noexcept;

}  // namespace sg
