// How many sessions a user may have at once: `limit_sessions`. Exact on one node, whatever its
// workers do at the same time; nodes that let in at the same moment merge their rosters when the
// store has put them in an order, and end what is over the limit then.
#pragma once

#include "core/random_pool.h"
#include "core/realm.h"
#include "core/record.h"
#include "core/rewrite.h"

namespace sg {

// The smallest of the limits that concern somebody with these roles. nullptr: there is none.
const SessionLimit* limit_for(const Realm& realm, std::string_view roles) noexcept;

// Enters a session that has just been put into the zone into its user's roster, and ends those that
// are too many by it. limited: it is one too many itself, and must go; nothing else has changed.
// Others than done: not entered, it must go, too. `ended`: how many others had to.
Change admit(const Realm& realm, RandomPool& random, const Token& token, const Record& record,
             TimeMs now, ByteSpan work, std::size_t& ended) noexcept;

// The session has a new handle.
void follow_renewal(const Realm& realm, RandomPool& random, std::string_view user,
                    const Handle& old, const Token& token, TimeMs now, ByteSpan work) noexcept;

// The store had a newer roster than the one this node wrote (`lost`): by now it is in the zone. Who
// is in this one only is entered there. False: nothing was left to write.
bool admit_again(const Realm& realm, RandomPool& random, ByteView lost, TimeMs now, ByteSpan work,
                 std::size_t& ended) noexcept;

}  // namespace sg
