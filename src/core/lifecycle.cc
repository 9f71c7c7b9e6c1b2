#include "core/lifecycle.h"

#include <algorithm>
#include <array>

#include "core/handover.h"
#include "core/journal.h"
#include "core/rewrite.h"
#include "core/rotation.h"
#include "core/session_limit.h"

namespace sg {
namespace {

TimeMs tombstone_until(const Realm& realm, TimeMs now) noexcept {
    return now + realm.timeouts.absolute + kTombstoneSlack;
}

// A session just made, and the bytes of its record.
struct Inserted : Changed {
    SessionView view;
    ByteView record;
};

void note_opened(const Realm& realm, const Inserted& fresh) noexcept {
    if (realm.journal != nullptr) {
        realm.journal->opened(fresh.view, fresh.record);
    }
}

void note_ended(const Realm& realm, const Token& token, Departure why, TimeMs now) noexcept {
    if (realm.journal != nullptr) {
        realm.journal->ended(token, why, tombstone_until(realm, now));
    }
}

// Inserts `record` under a fresh credential. The record's public id is filled in here. The second
// tier hears of it from the caller.
Inserted insert_new(const Realm& realm, RandomPool& random, Record& record, TimeMs last_seen,
                    TimeMs now, ByteSpan out) noexcept {
    Inserted changed;
    const auto token = realm.keys->mint(random);
    const auto public_id = token ? realm.keys->public_id(*token) : std::nullopt;
    if (!public_id) {
        changed.result = Change::no_random;
        return changed;
    }
    record.public_id = *public_id;
    record.seed = token->seed;
    record.generation = 0;
    record.rotated_s = static_cast<std::uint32_t>(age(record.created, now) / kSecond);
    const std::size_t size = encode_record(record, out);
    if (size == 0) {
        changed.result = Change::too_large;
        return changed;
    }
    LockedHome home(realm, token->handle, size);
    changed.result = from_insert(home.table().insert(home.shard(), *token, out.first(size),
                                                     last_seen, sweep_limits(realm), now));
    if (changed.result == Change::done) {
        home.table().confirm(home.shard(), token->handle, now);
        changed.token = token;
        changed.view.token = *token;
        changed.view.last_seen = last_seen;
        changed.record = out.first(size);
    }
    return changed;
}

// A response may come late, after many regenerations; the limit is for a damaged chain only.
constexpr int kMostHops = 64;
constexpr int kMostRounds = 4;

// The session as it is now: itself when live, else the newest one it was regenerated into.
struct Current {
    Change state = Change::gone;
    SessionView view;
    Record record;
    bool is_successor = false;
};

Current read_current(const Realm& realm, Handle handle, TimeMs now, ByteSpan buffer) noexcept {
    Current current;
    for (int hops = 0; hops <= kMostHops; ++hops) {
        const FindResult found = look_up(realm, handle, current.view, buffer);
        if (found == FindResult::too_small) {
            current.state = Change::damaged;
            return current;
        }
        if (found != FindResult::found) {
            return current;
        }
        if (current.view.superseded_until == 0) {
            break;
        }
        handle = current.view.successor;
        current.is_successor = true;
    }
    const auto record = decode_record(buffer.first(current.view.record_size));
    if (current.view.superseded_until != 0 || !record) {
        current.state = record ? Change::gone : Change::damaged;
        return current;
    }
    current.record = *record;
    const Ages ages{.created = record->created, .last_seen = current.view.last_seen};
    const Timeouts timeouts =
        effective_timeouts(realm.timeouts, record->idle_limit_s, record->absolute_limit_s);
    const bool alive = check_expiry(ages, timeouts, now) == Expiry::alive;
    current.state = alive ? Change::done : Change::gone;
    return current;
}

// Applies what the command says to the copy of the record. `merged` receives the attributes.
bool apply(const Realm& realm, const ControlCommand& command, std::size_t max_data, TimeMs now,
           ByteSpan merged, Record& record) noexcept {
    const auto size = merge_attributes(record.attributes, command.attributes, max_data, merged);
    if (!size) {
        return false;
    }
    record.attributes = merged.first(*size);
    record.roles = command.roles.value_or(record.roles);
    record.level = command.level.value_or(record.level);
    if (command.verb == ControlVerb::reauth) {
        record.authenticated = now;
    }
    ++record.change_counter;
    record.node = realm.node;
    return true;
}

bool needs_new_handle(const ControlCommand& command) noexcept {
    return command.verb != ControlVerb::update || command.roles.has_value() ||
           command.level.has_value();
}

// New handle first, then the old one is marked in one step; two shards are never locked at once. If
// the old one was ended or changed in between, the new one must not outlive it.
Changed regenerate(const Realm& realm, RandomPool& random, const Handle& old, Record& record,
                   TimeMs last_seen, TimeMs now, ByteSpan out, ByteSpan scratch) noexcept {
    {
        LockedHome home(realm, old);
        home.table().unhold(home.shard(), old);  // room for the new one is not made at its cost
    }
    record.flags &= static_cast<std::uint8_t>(~kFirstCookieFlag);
    const Inserted fresh = insert_new(realm, random, record, last_seen, now, out);
    if (fresh.result != Change::done) {
        return fresh;
    }
    SessionView replaced;
    bool marked = false;
    const Handle& successor = fresh.token->handle;
    {
        LockedHome home(realm, old);
        marked = is_edition(home, old, record.change_counter - 1, scratch, replaced) &&
                 home.table().supersede(home.shard(), old, successor, now + kRegenerationWindow);
    }
    if (!marked) {
        remove_session(realm, successor, Departure::ended, tombstone_until(realm, now));
        return Changed{};
    }
    note_opened(realm, fresh);
    replaced.superseded_until = now + kRegenerationWindow;
    replaced.successor = successor;
    tell_saved(realm, replaced, scratch.first(replaced.record_size));
    return fresh;
}

// What this credential is to a session that is there, live or replaced; nullopt: nothing.
std::optional<Holding> find_credential(const Realm& realm, const Token& token, SessionView& view,
                                       TimeMs now) noexcept {
    std::array<std::uint8_t, kTypicalRecordBytes> bytes;
    const FindResult found = look_up(realm, token.handle, view, bytes);
    if (found != FindResult::found && found != FindResult::too_small) {
        return std::nullopt;
    }
    if (same_token(view.token, token)) {
        return Holding::current;
    }
    Record record;
    if (!view_numbers(bytes, record) || realm.keys->check(token) != TokenCheck::genuine) {
        return std::nullopt;
    }
    return holding_of(realm, view, record, token, now).holding;
}

enum class NewHandle : std::uint8_t { as_needed, never };

// A second round when another worker has ended, regenerated or changed the session since it was
// read: then it is gone, or the successor's turn, or the operation is applied to what is there now.
Changed change(const Realm& realm, RandomPool& random, const Handle& handle,
               const ControlCommand& command, std::size_t max_data, NewHandle new_handle,
               TimeMs now, ByteSpan work) noexcept {
    const ByteSpan stored = work.first(kLargestRecordBytes);
    const ByteSpan out = work.subspan(kLargestRecordBytes, kLargestRecordBytes);
    const ByteSpan merged = work.subspan(2 * kLargestRecordBytes);
    Changed changed;
    for (int round = 0; round < kMostRounds && changed.result == Change::gone; ++round) {
        const Current current = read_current(realm, handle, now, stored);
        if (current.state != Change::done) {
            changed.result = current.state;
            return changed;
        }
        Record record = current.record;
        if (!apply(realm, command, max_data, now, merged, record)) {
            changed.result = Change::too_large;
            return changed;
        }
        const bool in_place =
            new_handle == NewHandle::never || current.is_successor || !needs_new_handle(command);
        changed = in_place
                      ? Changed{rewrite(realm, current.view.token, record, now, out, stored), {}}
                      : regenerate(realm, random, current.view.token.handle, record,
                                   current.view.last_seen, now, out, stored);
        if (changed.token && !realm.limits.empty()) {
            std::array<char, RecordLimits::kUserBytes> name;
            const std::size_t size = record.user.copy(name.data(), name.size());
            follow_renewal(realm, {name.data(), size}, current.view.token.handle, *changed.token,
                           now, work);
        }
    }
    return changed;
}

}  // namespace

Changed open_session(const Realm& realm, RandomPool& random, const ControlCommand& command,
                     TimeMs now, ByteSpan work, std::span<const Handle> leaving) noexcept {
    Record record;
    record.created = now;
    record.node = realm.node;
    record.authenticated = now;
    record.user = command.user.value_or(std::string_view{});
    record.roles = command.roles.value_or(std::string_view{});
    record.level = command.level.value_or(Level::aal1);
    record.idle_limit_s = command.idle_s.value_or(0);
    record.absolute_limit_s = command.absolute_s.value_or(0);
    record.attributes = command.attributes;
    record.flags = realm.lax_first ? kFirstCookieFlag : 0;
    Inserted opened = insert_new(realm, random, record, now, now, work);
    if (opened.result != Change::done) {
        return opened;
    }
    opened.result = admit(realm, *opened.token, record, now, work.subspan(kLargestRecordBytes),
                          leaving, opened.ended);
    if (opened.result != Change::done) {
        remove_session(realm, opened.token->handle, Departure::ended, tombstone_until(realm, now));
        opened.token.reset();
        return opened;
    }
    note_opened(realm, opened);
    return opened;
}

Changed change_session(const Realm& realm, RandomPool& random, const Handle& handle,
                       const ControlCommand& command, std::size_t max_data, TimeMs now,
                       ByteSpan work) noexcept {
    return change(realm, random, handle, command, max_data, NewHandle::as_needed, now, work);
}

Changed change_again(const Realm& realm, RandomPool& random, const Handle& handle,
                     const ControlCommand& command, std::size_t max_data, TimeMs now,
                     ByteSpan work) noexcept {
    return change(realm, random, handle, command, max_data, NewHandle::never, now, work);
}

bool end_session(const Realm& realm, const Handle& handle, Departure why, TimeMs now) noexcept {
    bool was_live = false;
    Handle next = handle;
    for (;;) {  // ends: what has been removed is not found again
        if (!realm.limits.empty()) {
            leave_roster(realm, next, now);
        }
        const auto removed = remove_session(realm, next, why, tombstone_until(realm, now));
        if (!removed) {
            return was_live;
        }
        was_live = true;
        note_ended(realm, removed->token, why, now);
        if (removed->superseded_until == 0) {
            return true;
        }
        next = removed->successor;
    }
}

void end_successor(const Realm& realm, const Handle& handle, Departure why, TimeMs now) noexcept {
    if (end_session(realm, handle, why, now)) {
        return;
    }
    Token token;
    token.handle = handle;
    for (std::size_t i = 0; i < realm.keys->count(); ++i) {
        token.key_id = realm.keys->id(i);
        note_ended(realm, token, why, now);  // the note in the zone has been left already
    }
}

void end_unknown(const Realm& realm, const Token& token, Departure why, TimeMs now) noexcept {
    if (realm.has_store && realm.keys->check(token) == TokenCheck::genuine) {
        remove_session(realm, token.handle, why, tombstone_until(realm, now));
        note_ended(realm, token, why, now);
    }
}

bool holds_session(const Realm& realm, const Token& token, TimeMs now) noexcept {
    SessionView view;
    const auto holding = find_credential(realm, token, view, now);
    return holding && *holding <= Holding::previous &&
           (view.superseded_until == 0 || now < view.superseded_until);
}

bool is_there(const Realm& realm, const Handle& handle) noexcept {
    SessionView view;
    const FindResult found = look_up(realm, handle, view, {});
    return found == FindResult::found || found == FindResult::too_small;
}

bool is_replaced(const Realm& realm, const Token& token, TimeMs now) noexcept {
    SessionView view;
    if (const auto holding = find_credential(realm, token, view, now)) {
        return view.superseded_until != 0 || *holding > Holding::next;
    }
    return find_departure(realm, token.handle, now) == Departure::regenerated;
}

bool is_live(const Realm& realm, const Token& token, TimeMs now) noexcept {
    SessionView view;
    const auto holding = find_credential(realm, token, view, now);
    return holding && *holding <= Holding::next && view.superseded_until == 0;
}

}  // namespace sg
