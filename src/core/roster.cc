#include "core/roster.h"

#include <algorithm>
#include <utility>

#include "core/enforce.h"
#include "core/handover.h"
#include "core/journal.h"
#include "core/lifetime.h"
#include "core/record.h"
#include "core/second_tier.h"

namespace sg {
namespace {

constexpr std::string_view kAttribute = "members";
constexpr std::size_t kMemberBytes = 24;              // handle, key id, 0, created u48
constexpr std::size_t kHeadBytes = 4 + kMemberBytes;  // most u16, evict u8, step u8, who
constexpr int kMostHops = 64;                         // as in lifecycle.cc

void put_member(const Member& member, std::uint8_t* to) noexcept {
    std::copy(member.handle.begin(), member.handle.end(), to);
    std::array<std::uint8_t, 8> rest;
    store_le<std::uint64_t>(rest.data(),
                            static_cast<std::uint64_t>(member.created) << 16 | member.key_id);
    std::copy(rest.begin(), rest.end(), to + member.handle.size());
}

Member get_member(const std::uint8_t* from) noexcept {
    Member member;
    std::copy_n(from, member.handle.size(), member.handle.begin());
    const auto rest = load_le<std::uint64_t>(from + member.handle.size());
    member.created = static_cast<TimeMs>(rest >> 16);
    member.key_id = static_cast<std::uint8_t>(rest);
    member.last_seen = member.created;
    return member;
}

std::size_t put_members(const Roster& roster, ByteSpan out) noexcept {
    std::array<std::uint8_t, kHeadBytes + kMemberBytes * kMostMembers> value{};
    store_le<std::uint16_t>(value.data(), static_cast<std::uint16_t>(roster.limit.most));
    value[2] = static_cast<std::uint8_t>(roster.limit.evict);
    value[3] = static_cast<std::uint8_t>(roster.step);
    put_member(roster.who, value.data() + 4);
    for (std::size_t i = 0; i < roster.count; ++i) {
        put_member(roster.members[i], value.data() + kHeadBytes + i * kMemberBytes);
    }
    std::size_t used = 0;
    const ByteView bytes = ByteView(value).first(kHeadBytes + roster.count * kMemberBytes);
    return append_attribute(out, used, kAttribute, as_text(bytes)) ? used : 0;
}

// Under an older key there may be one from before the mark in the key file moved.
FindResult find_under_any_key(const Realm& realm, std::string_view user, ByteSpan record,
                              SessionView& view, bool& failed) noexcept {
    for (std::size_t i = 0; i < realm.keys->count(); ++i) {
        const std::uint8_t id = realm.keys->id(i);
        const auto handle = realm.keys->user_handle(id, user);
        failed = !handle;
        if (failed) {
            return FindResult::absent;
        }
        const FindResult found = look_up(realm, *handle, view, record);
        if (found != FindResult::absent) {
            return found;
        }
    }
    return FindResult::absent;
}

bool is_over(const Realm& realm, const SessionView& view, const Record& record,
             TimeMs now) noexcept {
    const Ages ages{.created = record.created, .last_seen = view.last_seen};
    const bool is_certain = !realm.has_store || was_certain(realm, view, now);
    const Expiry expiry = check_expiry(
        ages, effective_timeouts(realm.timeouts, record.idle_limit_s, record.absolute_limit_s),
        now);
    // Idle here may be active elsewhere.
    return expiry == Expiry::absolute || (expiry == Expiry::idle && is_certain);
}

bool may_be_elsewhere(const Realm& realm, const Member& member, TimeMs now) noexcept {
    if (!realm.has_store || find_departure(realm, member.handle, now) ||
        age(member.created, now) >= realm.timeouts.absolute) {
        return false;
    }
    if (realm.journal != nullptr) {
        Token token;
        token.key_id = member.key_id;
        token.handle = member.handle;
        realm.journal->wanted(token);
    }
    return true;
}

// Whether the member may still live; follows it to its newest handle.
bool may_live(const Realm& realm, Member& member, TimeMs now) noexcept {
    SessionView view;
    std::array<std::uint8_t, kTypicalRecordBytes> bytes;
    for (int hops = 0; hops < kMostHops; ++hops) {
        const FindResult found = look_up(realm, member.handle, view, bytes);
        if (found == FindResult::absent) {
            return may_be_elsewhere(realm, member, now);
        }
        if (found == FindResult::busy) {
            return true;
        }
        if (view.superseded_until == 0) {
            member.last_seen = view.last_seen;
            Record record;
            return view_numbers(bytes, record) && !is_over(realm, view, record, now);
        }
        member.handle = view.successor;
        member.key_id = realm.keys->current_id();  // it was made under that
    }
    return false;
}

}  // namespace

bool Roster::has(const Handle& handle) noexcept {
    return std::ranges::find(view(), handle, &Member::handle) != view().end();
}

bool Roster::add(const Member& member) noexcept {
    if (count == members.size() || has(member.handle)) {
        return false;
    }
    members[count++] = member;
    return true;
}

bool Roster::remove(const Handle& handle) noexcept {
    const auto all = view();
    const auto end = std::remove_if(all.begin(), all.end(), [&handle](const Member& member) {
        return member.handle == handle;
    });
    const std::size_t left = static_cast<std::size_t>(end - all.begin());
    return std::exchange(count, left) != left;
}

bool is_roster(ByteView record) noexcept {
    Record numbers;
    return view_numbers(record, numbers) && (numbers.flags & kRosterFlag) != 0;
}

bool roster_follows(ByteView record, std::uint64_t state) noexcept {
    Record numbers;
    return view_numbers(record, numbers) && numbers.authenticated == static_cast<TimeMs>(state);
}

bool decode_roster(ByteView bytes, Roster& roster) noexcept {
    const auto record = decode_record(bytes);
    const auto value = record ? find_attribute(record->attributes, kAttribute) : std::nullopt;
    roster.count = 0;
    if (!value || value->size() < kHeadBytes || (value->size() - kHeadBytes) % kMemberBytes != 0) {
        return false;
    }
    const auto* const from = reinterpret_cast<const std::uint8_t*>(value->data());
    roster.limit.most = load_le<std::uint16_t>(from);
    roster.limit.evict = static_cast<Evict>(from[2]);
    roster.step = static_cast<RosterStep>(from[3]);
    roster.who = get_member(from + 4);
    for (std::size_t at = kHeadBytes; at < value->size(); at += kMemberBytes) {
        roster.add(get_member(from + at));
    }
    return true;
}

bool read_roster(const Realm& realm, std::string_view user, TimeMs now, ByteSpan work,
                 Roster& roster) noexcept {
    roster.count = 0;
    roster.exists = false;
    roster.is_certain = !realm.has_store;
    roster.counter = 0;
    roster.written = 0;
    roster.parent = 0;
    SessionView view;
    bool failed = false;
    const ByteSpan bytes = work.first(kRosterBytes);
    const FindResult found = find_under_any_key(realm, user, bytes, view, failed);
    if (failed || found == FindResult::too_small || found == FindResult::busy) {
        return false;
    }
    const std::uint8_t current = realm.keys->current_id();
    if (found == FindResult::found) {
        const ByteView record = bytes.first(view.record_size);
        Record numbers;
        if (!decode_roster(record, roster) || !view_numbers(record, numbers)) {
            return false;
        }
        roster.exists = view.token.key_id == current;
        roster.is_certain = !realm.has_store || was_certain(realm, view, now);
        roster.counter = numbers.change_counter;
        roster.written = numbers.node;
        roster.parent = static_cast<std::uint64_t>(numbers.authenticated);
        roster.token = view.token;
    }
    if (roster.exists) {
        return true;
    }
    // (From the chain of a session whose seed is zero: there is none.)
    const auto handle = realm.keys->user_handle(current, user);
    const auto token = handle ? realm.keys->token_of(current, *handle, Seed{}, 0) : std::nullopt;
    roster.token = token.value_or(Token{});
    return token.has_value();
}

void drop_gone(const Realm& realm, Roster& roster, TimeMs now) noexcept {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < roster.count; ++i) {
        Member member = roster.members[i];
        const auto same = [&member](const Member& other) { return other.handle == member.handle; };
        if (may_live(realm, member, now) &&
            std::ranges::none_of(std::span(roster.members).first(kept), same)) {
            roster.members[kept++] = member;
        }
    }
    roster.count = kept;
}

void leave_out(const Realm& realm, Roster& roster, std::span<const Handle> handles,
               TimeMs now) noexcept {
    for (const Handle& handle : handles) {
        Member leaving{.handle = handle};
        may_live(realm, leaving, now);
        roster.remove(leaving.handle);
    }
}

namespace {

// Names a state by what is in it (handles are random) and what it was made from: a node may come
// back to a state, and make another one of it.
std::uint64_t state_of(const Roster& roster, ByteView members) noexcept {
    std::uint64_t mixed = roster.written + roster.counter;
    for (std::size_t at = 0; at < members.size(); at += 8) {
        std::array<std::uint8_t, 8> word{};
        const ByteView rest = members.subspan(at);
        std::copy_n(rest.begin(), std::min(rest.size(), word.size()), word.begin());
        mixed = (mixed ^ load_le<std::uint64_t>(word.data())) * 0x9e3779b97f4a7c15ULL;
        mixed ^= mixed >> 32;
    }
    return mixed >> 2 | 1;  // a time that is not negative: see roster_follows
}

Change insert_roster(const Realm& realm, const Token& token, ByteView bytes, TimeMs now) noexcept {
    {
        LockedHome home(realm, token.handle, bytes.size());
        const InsertResult result =
            home.table().insert(home.shard(), token, bytes, now, sweep_limits(realm), now);
        if (result != InsertResult::inserted) {
            return result == InsertResult::exists ? Change::gone : from_insert(result);
        }
    }
    if (realm.journal != nullptr) {
        SessionView view;
        view.token = token;
        view.last_seen = now;
        realm.journal->opened(view, bytes);
    }
    return Change::done;
}

}  // namespace

Change write_roster(const Realm& realm, std::string_view user, const Roster& roster, TimeMs now,
                    ByteSpan work) noexcept {
    const ByteSpan members = work.first(kRosterBytes);
    const ByteSpan out = work.subspan(kRosterBytes, kRosterBytes);
    const auto public_id = realm.keys->public_id(roster.token);
    if (!public_id) {
        return Change::no_random;
    }
    Record record;
    record.flags = kRosterFlag;
    record.created = now;
    record.public_id = *public_id;
    record.user = user;
    record.authenticated = static_cast<TimeMs>(roster.written);  // see roster_follows
    record.change_counter = roster.counter + (roster.exists ? 1 : 0);
    record.attributes = members.first(put_members(roster, members));
    record.node = state_of(roster, record.attributes);
    if (roster.exists) {
        return rewrite(realm, roster.token, record, now, out, work.subspan(2 * kRosterBytes));
    }
    const std::size_t size = encode_record(record, out);
    return size > 0 ? insert_roster(realm, roster.token, out.first(size), now) : Change::too_large;
}

}  // namespace sg
