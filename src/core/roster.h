// The roster of a user: which sessions are the user's. Kept only where their number is limited
// (core/session_limit.h). A roster is a record like a session's, in the same table and the same
// store, so that it is as safe from killed writers, full zones and other nodes: its handle follows
// from the user's name, and no token opens it (its secret is told to nobody).
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

#include "core/bytes.h"
#include "core/realm.h"
#include "core/rewrite.h"

namespace sg {

inline constexpr std::size_t kMostSessionsOfUser = 500;  // as a limit
// With those who wait for the store to say whether they are too many.
inline constexpr std::size_t kMostMembers = kMostSessionsOfUser + 100;

struct Member {
    Handle handle{};
    std::uint8_t key_id = 0;
    TimeMs created = 0;    // of the login
    TimeMs last_seen = 0;  // as this node knows; not kept
};

// What a state of a roster was made for; made again when the store had another state meanwhile.
enum class RosterStep : std::uint8_t { trim, enter, leave };

struct Roster {
    Token token;
    bool exists = false;      // in the zone
    bool is_certain = false;  // nothing is known of other nodes' changes
    std::uint32_t counter = 0;
    std::uint64_t written = 0;  // names this state
    std::uint64_t parent = 0;   // names the one it was made from
    SessionLimit limit;         // that was asked for last; without the role
    RosterStep step = RosterStep::trim;
    Member who;  // that enters or leaves
    std::size_t count = 0;
    std::array<Member, kMostMembers> members;

    std::span<Member> view() noexcept { return std::span(members).first(count); }
    bool has(const Handle& handle) noexcept;
    bool add(const Member& member) noexcept;     // false: it is there already, or there is no room
    bool remove(const Handle& handle) noexcept;  // false: it is not there
};

// Work space for the functions below that take it.
inline constexpr std::size_t kRosterBytes = 1024 + 24 * kMostMembers;
inline constexpr std::size_t kRosterWorkBytes = 3 * kRosterBytes;

// Reads what this node has; an empty roster when it has none. False: OpenSSL failed, or the record
// is damaged.
bool read_roster(const Realm& realm, std::string_view user, TimeMs now, ByteSpan work,
                 Roster& roster) noexcept;

// Only limit, step, who and members, of an encoded roster. False: damaged.
bool decode_roster(ByteView record, Roster& roster) noexcept;

// Takes out whoever is known to have left; a regenerated session is followed to its new handle.
// What only other nodes know stays, until its absolute timeout at most; the store is asked about
// it, so that more is known the next time.
void drop_gone(const Realm& realm, Roster& roster, TimeMs now) noexcept;

// Takes these out as well, whatever they have been regenerated into.
void leave_out(const Realm& realm, Roster& roster, std::span<const Handle> handles,
               TimeMs now) noexcept;

// Writes the roster back. gone: another worker has changed it since it was read.
Change write_roster(const Realm& realm, std::string_view user, const Roster& roster, TimeMs now,
                    ByteSpan work) noexcept;

// Of encoded records. A roster goes over no other than the one it was made from: this node may have
// changed it twice since another one did.
bool is_roster(ByteView record) noexcept;
bool roster_follows(ByteView record, std::uint64_t state) noexcept;

}  // namespace sg
