// The roster of a user: which sessions are the user's. Kept only where their number is limited
// (core/session_limit.h). A roster is a record like a session's, in the same table and the same
// store, so that it is as safe from killed writers, full zones and other nodes: its handle follows
// from the user's name, and no token opens it (its secret is random and told to nobody).
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

#include "core/bytes.h"
#include "core/random_pool.h"
#include "core/realm.h"
#include "core/rewrite.h"

namespace sg {

inline constexpr std::size_t kMostSessionsOfUser = 500;

struct Member {
    Handle handle{};
    std::uint8_t key_id = 0;
    TimeMs created = 0;  // of the login, or when it was renewed
    // What this node knows; not kept.
    TimeMs last_seen = 0;
};

struct Roster {
    Token token;
    bool exists = false;
    std::uint32_t counter = 0;
    std::uint64_t written = 0;  // names this state: the next one says which it was made from
    SessionLimit limit;         // that was asked for last; without the role
    std::size_t count = 0;
    // Two that were made from one state are merged: each may be full.
    std::array<Member, 2 * kMostSessionsOfUser> members;

    std::span<Member> view() noexcept { return std::span(members).first(count); }
    bool add(const Member& member) noexcept;  // false: it is there already, or there is no room
};

// Work space for the functions below that take it.
inline constexpr std::size_t kRosterBytes = 1024 + 24 * kMostSessionsOfUser;
inline constexpr std::size_t kRosterWorkBytes = 3 * kRosterBytes;

// Reads what this node has. An empty roster when it has none. False: OpenSSL failed, or the record
// is damaged.
bool read_roster(const Realm& realm, std::string_view user, ByteSpan work, Roster& roster) noexcept;

// The members of an encoded roster, added to those that are there already.
bool add_members(ByteView record, Roster& roster) noexcept;

// Takes out whoever is known to have left; a regenerated session is followed to its new handle.
// Sessions that only other nodes know stay until their absolute timeout.
void drop_gone(const Realm& realm, Roster& roster, TimeMs now) noexcept;

// Writes the roster back. gone: another worker has changed it since it was read.
Change write_roster(const Realm& realm, RandomPool& random, std::string_view user,
                    const Roster& roster, TimeMs now, ByteSpan work) noexcept;

// Of encoded records. A roster goes over no other than the one it was made from: this node may have
// changed it twice since another one did.
bool is_roster(ByteView record) noexcept;
bool roster_follows(ByteView record, std::uint64_t state) noexcept;

}  // namespace sg
