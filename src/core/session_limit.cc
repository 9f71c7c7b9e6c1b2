#include "core/session_limit.h"

#include <algorithm>

#include "core/handover.h"
#include "core/lifecycle.h"
#include "core/roster.h"

namespace sg {
namespace {

// Each time that a worker is outrun, another one has come through.
constexpr int kMostRounds = 256;

void end_members(const Realm& realm, std::span<const Member> members, TimeMs now) noexcept {
    for (const Member& member : members) {
        end_successor(realm, member.handle, Departure::ended, now);
    }
}

// Whether `a` has to go before `b`, which was entered later.
bool goes_first(const Member& a, const Member& b, Evict evict) noexcept {
    switch (evict) {
        case Evict::idlest:
            return a.last_seen <= b.last_seen;
        case Evict::deny:  // whoever came last should not have come in
            return a.created > b.created;
        case Evict::oldest:
            break;
    }
    return a.created <= b.created;
}

// Takes out those who are too many; they lie behind the others then. `spared` is not among them.
std::span<const Member> pick_victims(Roster& roster, const Handle& spared) noexcept {
    const std::span<Member> all = roster.view();
    const std::size_t most = roster.limit.most;
    while (roster.count > most) {
        Member* victim = nullptr;
        for (Member& member : roster.view()) {
            const bool may_go = member.handle != spared;
            if (may_go && (victim == nullptr || !goes_first(*victim, member, roster.limit.evict))) {
                victim = &member;
            }
        }
        if (victim == nullptr) {
            break;
        }
        std::rotate(victim, victim + 1, &roster.view().back() + 1);
        --roster.count;
    }
    return all.subspan(roster.count);
}

// One state made of another, until no other worker comes between. `step` changes the roster;
// nothing is written when it says so. What it was then.
template <typename Step>
Change change_roster(const Realm& realm, std::string_view user, TimeMs now, ByteSpan work,
                     Roster& roster, Step&& step) noexcept {
    for (int round = 0; round < kMostRounds; ++round) {
        if (!read_roster(realm, user, now, work, roster)) {
            return Change::damaged;
        }
        const Change wanted = step();
        if (wanted != Change::done) {
            return wanted;
        }
        const Change written = write_roster(realm, user, roster, now, work);
        if (written != Change::gone) {
            return written;
        }
    }
    return Change::damaged;
}

// Those who are too many are ended, unless the roster has another state by now: that is on its way
// to the store itself.
std::size_t trim(const Realm& realm, std::string_view user, std::uint64_t state, TimeMs now,
                 ByteSpan work) noexcept {
    Roster roster;
    std::span<const Member> victims;
    const Change result = change_roster(realm, user, now, work, roster, [&] {
        const std::size_t most = roster.limit.most;
        if (roster.written != state || most == 0 || roster.count <= most) {
            return Change::gone;
        }
        drop_gone(realm, roster, now);
        victims = pick_victims(roster, Handle{});
        roster.step = RosterStep::trim;
        return Change::done;
    });
    if (result != Change::done) {
        return 0;
    }
    end_members(realm, victims, now);
    return victims.size();
}

// What a state was made for. False: it is done already.
bool do_again(const Roster& ours, Roster& roster) noexcept {
    switch (ours.step) {
        case RosterStep::trim:
            return false;
        case RosterStep::leave:
            if (!roster.remove(ours.who.handle)) {
                return false;
            }
            break;
        case RosterStep::enter:
            if (!roster.add(ours.who)) {
                return false;
            }
            roster.limit = ours.limit;
            break;
    }
    roster.step = ours.step;
    roster.who = ours.who;
    return true;
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

Change admit(const Realm& realm, const Token& token, const Record& record, TimeMs now,
             ByteSpan work, std::span<const Handle> leaving, std::size_t& ended) noexcept {
    const SessionLimit* const limit = limit_for(realm, record.roles);
    if (limit == nullptr) {
        return Change::done;
    }
    Roster roster;
    std::span<const Member> victims;
    const Change result = change_roster(realm, record.user, now, work, roster, [&] {
        drop_gone(realm, roster, now);
        leave_out(realm, roster, leaving, now);
        roster.limit = *limit;
        if (limit->evict == Evict::deny && roster.count >= limit->most && roster.is_certain) {
            return Change::limited;
        }
        roster.step = RosterStep::enter;
        roster.who = {.handle = token.handle,
                      .key_id = token.key_id,
                      .created = record.created,
                      .last_seen = now};
        if (!roster.add(roster.who)) {
            return Change::limited;
        }
        if (!realm.has_store) {
            victims = pick_victims(roster, token.handle);
        }
        return Change::done;
    });
    if (result == Change::done) {
        end_members(realm, victims, now);
        ended = victims.size();
    }
    return result;
}

void follow_renewal(const Realm& realm, std::string_view user, const Handle& old,
                    const Token& token, TimeMs now, ByteSpan work) noexcept {
    Roster roster;
    change_roster(realm, user, now, work, roster, [&] {
        const auto member = std::ranges::find(roster.view(), old, &Member::handle);
        if (!roster.exists || member == roster.view().end()) {
            return Change::gone;  // followed by another login already, or none that counts
        }
        member->handle = token.handle;
        member->key_id = token.key_id;
        roster.step = RosterStep::enter;
        roster.who = *member;
        return Change::done;
    });
}

void leave_roster(const Realm& realm, const Handle& handle, TimeMs now) noexcept {
    std::array<std::uint8_t, kLargestRecordBytes> bytes;
    std::array<std::uint8_t, kRosterWorkBytes> work;
    SessionView view;
    if (look_up(realm, handle, view, bytes) != FindResult::found) {
        return;
    }
    const auto record = decode_record(ByteView(bytes).first(view.record_size));
    if (!record || (record->flags & kRosterFlag) != 0 ||
        limit_for(realm, record->roles) == nullptr) {
        return;
    }
    Roster roster;
    change_roster(realm, record->user, now, work, roster, [&] {
        // The store may have one that this node has not seen.
        if (!roster.remove(handle) && (roster.exists || !realm.has_store)) {
            return Change::gone;
        }
        roster.step = RosterStep::leave;
        roster.who = {.handle = handle, .key_id = view.token.key_id};
        return Change::done;
    });
}

bool is_behind(const Realm& realm, ByteView kept, TimeMs now, ByteSpan work) noexcept {
    const auto record = decode_record(kept);
    Roster roster;
    return record && read_roster(realm, record->user, now, work, roster) &&
           roster.written != record->node && roster.parent != record->node;
}

std::size_t roster_kept(const Realm& realm, ByteView kept, TimeMs now, ByteSpan work) noexcept {
    const auto record = decode_record(kept);
    return record ? trim(realm, record->user, record->node, now, work) : 0;
}

std::size_t roster_lost(const Realm& realm, ByteView lost, TimeMs now, ByteSpan work) noexcept {
    const auto record = decode_record(lost);
    Roster ours;
    if (!record || !decode_roster(lost, ours)) {
        return 0;
    }
    Roster roster;
    const Change result = change_roster(realm, record->user, now, work, roster, [&] {
        return do_again(ours, roster) ? Change::done : Change::gone;
    });
    return result == Change::gone ? trim(realm, record->user, roster.written, now, work) : 0;
}

}  // namespace sg
