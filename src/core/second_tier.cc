#include "core/second_tier.h"

#include <algorithm>

#include "core/enforce.h"
#include "core/feed_state.h"
#include "core/handover.h"
#include "core/journal.h"
#include "core/lifecycle.h"
#include "core/rewrite.h"

namespace sg {
namespace {

Lesson gone(Status status) noexcept {
    return {.learned = Learned::gone, .status = status};
}

constexpr Lesson kKnown{.learned = Learned::known};
constexpr Lesson kKnownInStore{.learned = Learned::known, .in_store = true};
constexpr Lesson kUnknown{};

// No change that is on its way brings a replaced session back.
Version version_of(const Record& record, bool superseded) noexcept {
    const std::uint32_t counter = record.change_counter & ~Version::kReplaced;
    return {.counter = superseded ? counter | Version::kReplaced : counter, .node = record.node};
}

// What this node has, read under the shard's lock.
struct Here {
    FindResult found = FindResult::absent;
    SessionView view;
    std::optional<Record> record;

    bool is_there() const noexcept { return found == FindResult::found && record.has_value(); }
    bool is_live() const noexcept { return is_there() && view.superseded_until == 0; }
};

Here look_here(LockedHome& home, const Handle& handle, ByteSpan work) noexcept {
    Here here;
    here.found = home.table().find_locked(home.shard(), handle, here.view, work);
    if (here.found == FindResult::found) {
        here.record = decode_record(work.first(here.view.record_size));
    }
    return here;
}

bool has_expired(const Realm& realm, const Here& here, TimeMs now) noexcept {
    const Timeouts timeouts = effective_timeouts(realm.timeouts, here.record->idle_limit_s,
                                                 here.record->absolute_limit_s);
    const Ages ages{.created = here.record->created, .last_seen = here.view.last_seen};
    return check_expiry(ages, timeouts, now) != Expiry::alive;
}

// While nobody can be asked such a copy goes on as after `revalidate`.
TimeMs overdue_at(const Realm& realm, TimeMs now) noexcept {
    return std::max<TimeMs>(now - realm.revalidate - 1, 0);
}

// `sent`: when the question was. The answer may be overtaken by what the feed has told since.
void confirm(const Realm& realm, LockedHome& home, const Handle& handle, TimeMs sent) noexcept {
    const TimeMs at = realm.feed != nullptr
                          ? realm.feed->confirmable(handle, sent, overdue_at(realm, sent))
                          : sent;
    home.table().confirm(home.shard(), handle, at);
}

Lesson learn_ended(const Realm& realm, const Token& token, const StoreEntry& entry,
                   TimeMs now) noexcept {
    if (!find_departure(realm, token.handle, now)) {
        remove_session(realm, token.handle, entry.why, entry.expires);
    }
    return gone(status_of(entry.why));
}

// The store has it, this node had not a moment ago.
Lesson take_in(const Realm& realm, const Reply& reply, TimeMs now) noexcept {
    const StoreEntry& entry = reply.entry;
    const bool replaced = entry.superseded_until != 0;
    if (replaced && now >= entry.superseded_until) {
        return gone(Status::regenerated);
    }
    const Handle& handle = entry.token.handle;
    LockedHome home(realm, handle, entry.record.size());
    if (const auto why = find_departure(realm, handle, now)) {
        return gone(status_of(*why));
    }
    const InsertResult result = home.table().insert(home.shard(), entry.token, entry.record,
                                                    entry.last_seen, sweep_limits(realm), now);
    if (result == InsertResult::exists) {
        return kKnownInStore;  // another worker was quicker
    }
    if (result != InsertResult::inserted) {
        return replaced ? kUnknown : Lesson{.learned = Learned::no_room};
    }
    if (replaced) {
        home.table().supersede(home.shard(), handle, entry.successor, entry.superseded_until);
    }
    confirm(realm, home, handle, reply.sent);
    home.table().hold(home.shard(), handle, entry.version.counter);
    return kKnownInStore;
}

enum class Newer : std::uint8_t { here, there, neither };

Newer compare(const Realm& realm, const Here& here, const StoreEntry& entry,
              ByteView record) noexcept {
    const auto ours = session_entry(realm, here.view, record);
    if (ours && overtakes(*ours, entry)) {
        return Newer::here;
    }
    return ours && ours->version == entry.version ? Newer::neither : Newer::there;
}

// False: there is no room for the newer record. What is here is nobody's proof of anything then.
bool follow(const Realm& realm, LockedHome& home, const StoreEntry& entry, TimeMs now) noexcept {
    const Handle& handle = entry.token.handle;
    const auto replaced =
        home.table().replace(home.shard(), entry.token, entry.record, sweep_limits(realm), now);
    if (entry.superseded_until != 0) {
        home.table().supersede(home.shard(), handle, entry.successor, entry.superseded_until);
        return true;
    }
    if (replaced && replaced != InsertResult::inserted) {
        home.table().confirm(home.shard(), handle, 0);
        return false;
    }
    return true;
}

// Last seen is a maximum over all nodes.
void advance(LockedHome& home, const StoreEntry& entry) noexcept {
    SessionView view;
    if (home.table().find_locked(home.shard(), entry.token.handle, view, {}) !=
        FindResult::absent) {
        home.table().touch(view.slot, entry.last_seen);
    }
}

Lesson learn_session(const Realm& realm, const Token& token, const Reply& reply, TimeMs now,
                     ByteSpan work) noexcept {
    const StoreEntry& entry = reply.entry;
    // (Which of the session's secrets was presented is judged by the zone's copy.) What this build
    // cannot read is nobody's proof of anything.
    if (entry.token.handle != token.handle || !decode_record(entry.record)) {
        return kUnknown;
    }
    Here here;
    Newer newer = Newer::neither;
    {
        LockedHome home(realm, token.handle);
        if (const auto why = find_departure(realm, token.handle, now)) {
            return gone(status_of(*why));
        }
        here = look_here(home, token.handle, work);
        if (here.is_there()) {
            newer = compare(realm, here, entry, work.first(here.view.record_size));
            advance(home, entry);
            if (newer == Newer::there && !follow(realm, home, entry, now)) {
                return {.learned = Learned::no_room};
            }
            confirm(realm, home, token.handle, reply.sent);
            home.table().hold(home.shard(), token.handle, entry.version.counter);
        }
    }
    if (!here.is_there()) {
        return here.found == FindResult::absent ? take_in(realm, reply, now) : kUnknown;
    }
    if (newer == Newer::here && realm.journal != nullptr) {
        realm.journal->saved(here.view, work.first(here.view.record_size));
    }
    return kKnownInStore;
}

Lesson learn_absent(const Realm& realm, const Token& token, TimeMs sent, TimeMs now,
                    ByteSpan work) noexcept {
    Here here;
    {
        LockedHome home(realm, token.handle);
        if (const auto why = find_departure(realm, token.handle, now)) {
            return gone(status_of(*why));
        }
        here = look_here(home, token.handle, work);
        if (!here.is_there()) {
            return gone(Status::absent);
        }
        confirm(realm, home, token.handle, sent);
    }
    // A logout leaves a tombstone: what the store has simply lost, or never got, is written again.
    if (here.is_live() && !has_expired(realm, here, now) && realm.journal != nullptr) {
        realm.journal->saved(here.view, work.first(here.view.record_size));
    }
    return kKnown;
}

}  // namespace

std::optional<StoreEntry> session_entry(const Realm& realm, const SessionView& view,
                                        ByteView bytes) noexcept {
    const auto record = decode_record(bytes);
    if (!record) {
        return std::nullopt;
    }
    const Timeouts timeouts =
        effective_timeouts(realm.timeouts, record->idle_limit_s, record->absolute_limit_s);
    StoreEntry entry;
    entry.kind = EntryKind::session;
    entry.version = version_of(*record, view.superseded_until != 0);
    entry.expires = record->created + timeouts.absolute + kTombstoneSlack;
    entry.token = view.token;
    entry.last_seen = view.last_seen;
    entry.superseded_until = view.superseded_until;
    entry.successor = view.successor;
    entry.record = bytes;
    return entry;
}

void note_held(const Realm& realm, const StoreEntry& entry) noexcept {
    if (entry.kind == EntryKind::session && entry.superseded_until == 0) {
        LockedHome home(realm, entry.token.handle);
        home.table().hold(home.shard(), entry.token.handle, entry.version.counter);
    }
}

StoreEntry ended_entry(Departure why, TimeMs until) noexcept {
    StoreEntry entry;
    entry.kind = EntryKind::ended;
    entry.why = why;
    entry.expires = until;
    return entry;
}

Lesson learn(const Realm& realm, const Token& token, const Reply& reply, TimeMs now,
             ByteSpan work) noexcept {
    switch (reply.answer) {
        case StoreAnswer::unknown:
            return kUnknown;
        case StoreAnswer::absent:
            return learn_absent(realm, token, reply.sent, now, work);
        case StoreAnswer::found:
            break;
    }
    return reply.entry.kind == EntryKind::ended ? learn_ended(realm, token, reply.entry, now)
                                                : learn_session(realm, token, reply, now, work);
}

bool was_certain(const Realm& realm, const SessionView& view, TimeMs then) noexcept {
    return view.superseded_until == 0 && view.confirmed > 0 &&
           (age(view.confirmed, then) <= realm.revalidate ||
            (realm.feed != nullptr && realm.feed->vouched(view.confirmed, then)));
}

void hear_of(const Realm& realm, const FeedNote& note, TimeMs now) noexcept {
    const bool ended = note.what == FeedWhat::ended;
    LockedHome home(realm, note.handle);
    SessionView view;
    const bool is_there =
        home.table().find_locked(home.shard(), note.handle, view, {}) != FindResult::absent;
    TimeMs at = ended ? 0 : overdue_at(realm, now);
    if (realm.feed != nullptr) {
        if (is_there && realm.feed->has_told(note.handle, view.confirmed)) {
            at = std::min(at, view.confirmed);  // told before, and not asked about since
        }
        realm.feed->told(note.handle, ended, now);
    }
    home.table().confirm(home.shard(), note.handle, at);
}

}  // namespace sg
