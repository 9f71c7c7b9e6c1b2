// What core/ needs to know of one realm. Built once per configuration by glue, read-only
// afterwards; everything it points to lives at least as long.
#pragma once

#include <span>
#include <string_view>

#include "core/keys.h"
#include "core/lifetime.h"
#include "core/zone/table.h"

namespace sg {

class FeedState;  // core/feed_state.h
class Journal;    // core/journal.h

enum class Evict : std::uint8_t { oldest, idlest, deny };

// `limit_sessions`: see core/session_limit.h.
struct SessionLimit {
    std::size_t most = 0;
    Evict evict = Evict::oldest;
    std::string_view role{};  // concerns users with this role; empty: all
};

inline constexpr std::size_t kMostSessionLimits = 16;

struct Realm {
    std::string_view name;
    const KeyRing* keys = nullptr;
    const Table* table = nullptr;
    // Tables of earlier configurations whose workers may live, oldest first: core/handover.h.
    std::span<const Table> older{};
    Timeouts timeouts;
    TimeMs rotate = 0;          // how old a secret gets; 0: it is not replaced
    TimeMs rotation_grace = 0;  // how long the one before stays good when the new one has been seen
    bool has_store = false;     // a genuine token that is not in the zone may live in the store
    TimeMs revalidate = 0;      // a copy that the store confirmed longer ago is asked about again
    std::span<const SessionLimit> limits{};
    bool lax_first = false;      // a login's cookie is sent with other attributes than later ones
    std::uint64_t node = 0;      // names this node in what it changes
    Journal* journal = nullptr;  // follows every change for the store; none without one
    FeedState* feed = nullptr;   // what other nodes tell through the store; may be none
};

}  // namespace sg
