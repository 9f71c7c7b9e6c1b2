#include "core/enforce.h"

#include <algorithm>

#include "core/feed_state.h"
#include "core/handover.h"

namespace sg {
namespace {

[[gnu::noinline, gnu::cold]] Outcome refused(Status status, const Token& token) noexcept {
    Outcome outcome;
    outcome.status = status;
    outcome.token = token;
    return outcome;
}

[[gnu::noinline, gnu::cold]] Outcome needs_buffer(std::size_t bytes) noexcept {
    Outcome outcome;
    outcome.step = Outcome::Step::needs_buffer;
    outcome.needed_bytes = bytes;
    return outcome;
}

// The zone does not have this token: only now its tag is worth computing, so that a forged or
// guessed one never reaches a store, and does nothing to a session. valid: it is genuine.
Status check_tag(const Realm& realm, const Token& token) noexcept {
    switch (realm.keys->check(token)) {
        case TokenCheck::forged:
            return Status::forged;
        case TokenCheck::unknown_key:
            return Status::unknown_key;
        case TokenCheck::genuine:
            break;
    }
    return Status::valid;
}

[[gnu::noinline, gnu::cold]] Outcome not_in_zone(const Realm& realm, const Token& token,
                                                 TimeMs now) noexcept {
    if (const Status status = check_tag(realm, token); status != Status::valid) {
        return refused(status, token);
    }
    if (const auto why = find_departure(realm, token.handle, now)) {
        return refused(status_of(*why), token);
    }
    Outcome outcome = refused(Status::absent, token);
    if (realm.has_store) {
        outcome.step = Outcome::Step::needs_store;
    }
    return outcome;
}

// (Workers of an earlier configuration note confirmations by what the feed has told themselves.)
bool is_stale(const Realm& realm, const Handle& handle, TimeMs confirmed, TimeMs now) noexcept {
    return realm.feed == nullptr || !realm.feed->vouches(confirmed, now, realm.revalidate) ||
           realm.feed->has_told(handle, confirmed);
}

// Without its key a session has no name in the store: the zone alone knows it.
[[gnu::noinline, gnu::cold]] bool may_ask(const Realm& realm, const SessionView& view,
                                          Status status, TimeMs now) noexcept {
    const bool wants =
        status == Status::expired_idle ||
        (status == Status::valid && is_stale(realm, view.token.handle, view.confirmed, now));
    return wants && realm.keys->knows(view.token.key_id);
}

// Another node may have seen the user since, or ended the session.
[[gnu::always_inline]] inline bool must_ask(const Realm& realm, const SessionView& view,
                                            Status status, TimeMs now) noexcept {
    const bool is_fresh =
        status == Status::valid && is_recent(view.confirmed, now, realm.revalidate);
    return realm.has_store && !is_fresh && may_ask(realm, view, status, now);
}

// Fills `session` from a snapshot. A record this build cannot read is *unknown*, never *absent*.
[[gnu::always_inline]] inline Status read_session(const Realm& realm, const SessionView& view,
                                                  ByteView bytes, TimeMs now,
                                                  Session& session) noexcept {
    if (!view_record(bytes, session.record)) {
        return Status::store_unavailable;
    }
    if (&session.slot != &view) {
        session.slot = view;
    }
    const Record& record = session.record;
    session.ages = {.created = record.created, .last_seen = view.last_seen};
    session.timeouts =
        effective_timeouts(realm.timeouts, record.idle_limit_s, record.absolute_limit_s);
    switch (check_expiry(session.ages, session.timeouts, now)) {
        case Expiry::idle:
            return Status::expired_idle;
        case Expiry::absolute:
            return Status::expired_absolute;
        case Expiry::alive:
            break;
    }
    return Status::valid;
}

// A session that was regenerated on another node may have been ended or idle there only.
bool may_be_elsewhere(const Realm& realm, const Handle& handle, TimeMs now) noexcept {
    return realm.has_store && !find_departure(realm, handle, now);
}

// `status` is what it is without an answer.
Outcome needs_successor(const Session& old, const Handle& successor) noexcept {
    Outcome outcome = refused(Status::ended, old.slot.token);
    outcome.step = Outcome::Step::needs_successor;
    outcome.session.slot.successor = successor;
    return outcome;
}

// More than the window is left when the clock has stepped back: then it is over.
bool window_is_over(TimeMs until, TimeMs now) noexcept {
    return now >= until || until - now > kRegenerationWindow;
}

// The old handle of a regenerated session: good for a few seconds while its newest successor lives,
// with what both may do. `rest` is the buffer behind the old record.
[[gnu::noinline, gnu::cold]] Outcome through_successor(const Realm& realm, const Token& token,
                                                       const Session& old, TimeMs now,
                                                       ByteSpan rest) noexcept {
    SessionView next = old.slot;
    Session newest;
    for (int hops = 0; next.superseded_until != 0; ++hops) {
        if (hops == kMaxSuccessors || window_is_over(next.superseded_until, now)) {
            return refused(Status::regenerated, token);
        }
        const Handle handle = next.successor;
        const FindResult found = look_up(realm, handle, next, rest);
        if (found == FindResult::absent && may_be_elsewhere(realm, handle, now)) {
            return needs_successor(old, handle);
        }
        if (found == FindResult::too_small) {
            return needs_buffer(2 * (old.slot.record_size + next.record_size) +
                                kTypicalRecordBytes);
        }
        if (found != FindResult::found) {
            return refused(Status::ended, token);
        }
    }
    const Status status = read_session(realm, next, rest.first(next.record_size), now, newest);
    const bool asks = must_ask(realm, next, status, now);
    if (status != Status::valid) {
        return asks ? needs_successor(old, next.token.handle) : refused(status, token);
    }
    const ByteSpan roles = rest.subspan(next.record_size);
    if (roles.size() < old.record.roles.size()) {
        return needs_buffer(2 * (old.slot.record_size + next.record_size) + kTypicalRecordBytes);
    }
    Outcome outcome;
    outcome.status = Status::valid;
    outcome.token = token;
    outcome.session = old;
    outcome.step = asks ? Outcome::Step::needs_successor : Outcome::Step::decided;
    outcome.session.restricted = true;
    outcome.session.slot.successor = next.token.handle;
    outcome.session.slot.confirmed = next.confirmed;
    outcome.session.ages = newest.ages;
    outcome.session.timeouts = newest.timeouts;
    outcome.session.record.level = std::min(old.record.level, newest.record.level);
    char* const text = reinterpret_cast<char*>(roles.data());
    outcome.session.record.roles = {
        text, intersect_roles(old.record.roles, newest.record.roles, {text, roles.size()})};
    return outcome;
}

// Another secret than the zone's: the one before, the next one, or an old one. True: good for now.
// Else `outcome` says what it is; an old one counts only when the store has the session, too.
bool judge_secret(const Realm& realm, const Record& record, TimeMs now, Outcome& outcome) noexcept {
    const SessionView& view = outcome.session.slot;
    const Held held = holding_of(realm, view, record, outcome.token, now);
    outcome.session.holding = held.holding;
    outcome.session.generation = held.generation;
    if (held.holding == Holding::next || held.holding == Holding::previous) {
        return true;
    }
    const bool is_behind = held.holding == Holding::behind;
    const bool is_reuse = is_behind && view.superseded_until == 0;
    const Status status = is_reuse    ? Status::ended
                          : is_behind ? Status::regenerated
                                      : Status::store_unavailable;
    const Token token = outcome.token;
    outcome = refused(status, token);
    outcome.reused = is_reuse;
    return false;
}

[[gnu::noinline, gnu::cold]] bool pass_with_other_secret(const Realm& realm, ByteView record,
                                                         TimeMs now, Outcome& outcome) noexcept {
    if (const Status status = check_tag(realm, outcome.token); status != Status::valid) {
        outcome = refused(status, Token(outcome.token));
        return false;
    }
    const SessionView view = outcome.session.slot;
    Session& session = outcome.session;
    const Status status = read_session(realm, view, record, now, session);
    const bool is_alive = status == Status::valid || view.superseded_until != 0;
    if (!is_alive) {
        outcome = refused(status, Token(outcome.token));
        if (must_ask(realm, view, status, now)) {
            outcome.step = Outcome::Step::needs_store;
        }
        return false;
    }
    if (judge_secret(realm, Record(session.record), now, outcome)) {
        return true;
    }
    if (outcome.reused && realm.has_store) {
        outcome.step = Outcome::Step::needs_store;
    }
    return false;
}

// `outcome` comes fresh and is filled in place: a Session is large.
void judge(const Realm& realm, TimeMs now, ByteSpan buffer, Outcome& outcome) noexcept {
    const Token& token = outcome.token;
    SessionView& view = outcome.session.slot;
    switch (look_up(realm, token.handle, view, buffer)) {
        case FindResult::found:
            break;
        case FindResult::too_small:
            outcome = needs_buffer(view.record_size);
            return;
        case FindResult::absent:
            outcome = not_in_zone(realm, token, now);
            return;
        case FindResult::busy:
            outcome = refused(Status::store_unavailable, token);
            return;
    }
    const ByteView record = buffer.first(view.record_size);
    if (!same_token(view.token, token) && !pass_with_other_secret(realm, record, now, outcome)) {
        return;
    }
    outcome.status = read_session(realm, view, record, now, outcome.session);
    if (view.superseded_until == 0) {
        if (must_ask(realm, view, outcome.status, now)) {
            outcome.step = Outcome::Step::needs_store;
        }
        return;
    }
    // Its own idle clock stopped when it was replaced; what counts is the successor's.
    if (outcome.status == Status::store_unavailable) {
        outcome = refused(outcome.status, token);
        return;
    }
    const Session old = outcome.session;
    outcome = through_successor(realm, token, old, now, buffer.subspan(view.record_size));
}

// Two valid candidates: the same session twice, or an old handle beside its successor, are fine.
bool same_session(const Outcome& a, const Outcome& b) noexcept {
    return a.token.handle == b.token.handle;
}

// Cookies of one session: the newest counts. (Until next one is noted, it is the newest.)
bool has_newer_secret(const Outcome& a, const Outcome& b) noexcept {
    const auto rank = [](const Outcome& of) noexcept {
        switch (of.session.holding) {
            case Holding::next:
                return 2;
            case Holding::current:
                return 1;
            default:
                return 0;
        }
    };
    return rank(a) != rank(b) ? rank(a) > rank(b)
                              : rank(a) == 2 && a.session.generation > b.session.generation;
}

bool succeeds(const Outcome& newer, const Outcome& older) noexcept {
    return older.session.restricted && !newer.session.restricted &&
           older.session.slot.successor == newer.token.handle;
}

// Folds the decision about one more candidate into the decision so far.
Outcome choose(const Outcome& sofar, const Outcome& next) noexcept {
    const bool sofar_valid = sofar.status == Status::valid;
    const bool next_valid = next.status == Status::valid;
    if (sofar_valid && next_valid) {
        if (same_session(sofar, next)) {
            return has_newer_secret(next, sofar) ? next : sofar;
        }
        if (succeeds(sofar, next)) {
            return sofar;
        }
        return succeeds(next, sofar) ? next : refused(Status::ambiguous, next.token);
    }
    if (sofar.status == Status::ambiguous || sofar_valid) {
        return sofar;
    }
    if (next_valid) {
        return next;
    }
    // At most one of them is asked about; the first that needs it.
    if (sofar.step != Outcome::Step::decided) {
        return sofar;
    }
    if (next.step != Outcome::Step::decided) {
        return next;
    }
    return more_telling(sofar.status, next.status) == sofar.status ? sofar : next;
}

void judge_text(const Realm& realm, std::string_view text, TimeMs now, ByteSpan buffer,
                Outcome& outcome) noexcept {
    if (parse_token_into(text, outcome.token)) {
        judge(realm, now, buffer, outcome);
    } else {
        outcome = refused(Status::malformed, Token{});
    }
}

[[gnu::noinline]] void begin_several(const Realm& realm, const Candidates& candidates, TimeMs now,
                                     ByteSpan buffer, Outcome& outcome) noexcept {
    const std::size_t count = candidates.count;
    const std::size_t share = count > 0 ? buffer.size() / count : 0;
    for (std::size_t i = 0; i < count; ++i) {
        Outcome next;
        judge_text(realm, candidates.values[i], now, buffer.subspan(i * share, share), next);
        if (next.step == Outcome::Step::needs_buffer) {
            outcome = needs_buffer(count * next.needed_bytes);
            return;
        }
        outcome = i == 0 ? next : choose(outcome, next);
    }
}

}  // namespace

Status status_of(Departure why) noexcept {
    switch (why) {
        case Departure::ended:
            return Status::ended;
        case Departure::regenerated:
            return Status::regenerated;
        case Departure::expired_idle:
            return Status::expired_idle;
        case Departure::expired_absolute:
            return Status::expired_absolute;
    }
    return Status::absent;
}

void begin(const Realm& realm, const Candidates& candidates, TimeMs now, ByteSpan buffer,
           Outcome& outcome) noexcept {
    const std::size_t count = candidates.count;
    if (count == 1) {
        judge_text(realm, candidates.values[0], now, buffer, outcome);
        return;
    }
    begin_several(realm, candidates, now, buffer, outcome);
}

Outcome begin(const Realm& realm, const Candidates& candidates, TimeMs now,
              ByteSpan buffer) noexcept {
    Outcome outcome;
    begin(realm, candidates, now, buffer, outcome);
    return outcome;
}

void review(const Realm& realm, const Token& token, TimeMs now, ByteSpan buffer,
            Outcome& outcome) noexcept {
    SessionView view;
    const FindResult found = look_up(realm, token.handle, view, {});
    const bool is_there = found == FindResult::found || found == FindResult::too_small;
    outcome.token = is_there ? view.token : token;
    judge(realm, now, buffer, outcome);
}

Outcome resume(const Realm& realm, const Token& token, const StoreEntry& entry, ByteView record,
               TimeMs now) noexcept {
    Outcome outcome;
    outcome.token = token;
    outcome.session.slot.token = entry.token;
    outcome.session.slot.last_seen = entry.last_seen;
    outcome.session.slot.record_size = record.size();
    outcome.status = decode_record(record)
                         ? read_session(realm, outcome.session.slot, record, now, outcome.session)
                         : Status::store_unavailable;
    if (outcome.status == Status::valid && !same_token(entry.token, token)) {
        judge_secret(realm, Record(outcome.session.record), now, outcome);
    }
    return outcome;
}

}  // namespace sg
