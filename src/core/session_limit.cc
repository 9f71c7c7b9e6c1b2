#include "core/session_limit.h"

#include <algorithm>

#include "core/lifecycle.h"
#include "core/roster.h"

namespace sg {
namespace {

// Each time that a worker is outrun, another one has come through.
constexpr int kMostRounds = 256;

void end_members(const Realm& realm, std::span<const Member> members, TimeMs now) noexcept {
    for (const Member& member : members) {
        end_elsewhere(realm, member.key_id, member.handle, Departure::ended, now);
    }
}

// Those who must go are the last ones then. Behind the first `spared`.
std::span<const Member> pick_victims(Roster& roster, std::size_t spared,
                                     const SessionLimit& limit) {
    const std::span<Member> all = roster.view().subspan(spared);
    const std::size_t over =
        std::min(all.size(), roster.count > limit.most ? roster.count - limit.most : 0);
    const std::span<Member> victims = all.last(over);
    std::ranges::nth_element(all, victims.begin(), [&limit](const Member& a, const Member& b) {
        switch (limit.evict) {
            case Evict::idlest:
                return a.last_seen > b.last_seen;
            case Evict::deny:  // whoever came last should not have come in
                return a.created < b.created;
            case Evict::oldest:
                break;
        }
        return a.created > b.created;
    });
    roster.count -= over;
    return victims;
}

}  // namespace

const SessionLimit* limit_for(const Realm& realm, std::string_view roles) noexcept {
    const SessionLimit* strictest = nullptr;
    for (const SessionLimit& limit : realm.limits) {
        const bool concerns = limit.role.empty() || has_role(roles, limit.role);
        if (concerns && (strictest == nullptr || limit.most < strictest->most)) {
            strictest = &limit;
        }
    }
    return strictest;
}

Change admit(const Realm& realm, RandomPool& random, const Token& token, const Record& record,
             TimeMs now, ByteSpan work, std::size_t& ended) noexcept {
    const SessionLimit* const limit = limit_for(realm, record.roles);
    if (limit == nullptr) {
        return Change::done;
    }
    Roster roster;
    for (int round = 0; round < kMostRounds; ++round) {
        if (!read_roster(realm, record.user, work, roster)) {
            return Change::damaged;
        }
        drop_gone(realm, roster, now);
        if (limit->evict == Evict::deny && roster.count >= limit->most) {
            return Change::limited;
        }
        roster.limit = *limit;
        roster.add({.handle = token.handle,
                    .key_id = token.key_id,
                    .created = record.created,
                    .last_seen = now});
        std::swap(roster.members[0], roster.members[roster.count - 1]);
        const auto victims = pick_victims(roster, 1, *limit);
        const Change written = write_roster(realm, random, record.user, roster, now, work);
        if (written == Change::done) {
            end_members(realm, victims, now);
            ended = victims.size();
        }
        if (written != Change::gone) {
            return written;
        }
    }
    return Change::damaged;
}

void follow_renewal(const Realm& realm, RandomPool& random, std::string_view user,
                    const Handle& old, const Token& token, TimeMs now, ByteSpan work) noexcept {
    Roster roster;
    for (int round = 0; round < kMostRounds; ++round) {
        if (!read_roster(realm, user, work, roster) || !roster.exists) {
            return;
        }
        const auto member = std::ranges::find(roster.view(), old, &Member::handle);
        if (member == roster.view().end()) {
            return;  // another login has followed it already, or it is none that counts
        }
        member->handle = token.handle;
        member->key_id = token.key_id;
        if (write_roster(realm, random, user, roster, now, work) != Change::gone) {
            return;
        }
    }
}

bool admit_again(const Realm& realm, RandomPool& random, ByteView lost, TimeMs now, ByteSpan work,
                 std::size_t& ended) noexcept {
    const auto record = decode_record(lost);
    Roster roster;
    for (int round = 0; record && round < kMostRounds; ++round) {
        if (!read_roster(realm, record->user, work, roster)) {
            return false;
        }
        const std::size_t there = roster.count;
        if (!add_members(lost, roster)) {
            return false;
        }
        const bool is_more = roster.count > there;
        drop_gone(realm, roster, now);
        const auto victims = pick_victims(roster, 0, roster.limit);
        if (!is_more && victims.empty()) {
            return false;
        }
        const Change written = write_roster(realm, random, record->user, roster, now, work);
        if (written == Change::done) {
            end_members(realm, victims, now);
            ended = victims.size();
        }
        if (written != Change::gone) {
            return written == Change::done;
        }
    }
    return false;
}

}  // namespace sg
