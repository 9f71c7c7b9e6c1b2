// The flow: cookies in, one verdict out.
#include "core/enforce.h"
#include "core/feed_state.h"

#include "core/zone/shard_lock.h"

#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "core/base64url.h"
#include "unit/support.h"

using namespace sg;
using namespace sg::test;
using namespace std::string_view_literals;

namespace {

constexpr TimeMs kWindow = kRegenerationWindow;

Token session_token(std::string_view roles = "editor admin") {
    return put_session(login_record(kNow, roles));
}

Token foreign_token() {  // genuine under a key this realm does not have
    static KeyRing ring;
    static RandomPool random(fake_random);
    load(ring, "app", kKeyC);
    const auto token = ring.mint(random);
    assert_true(token.has_value());
    assert_int_equal(world.keys.check(*token), TokenCheck::unknown_key);
    return *token;
}

Token forged_token() {
    Token token = genuine_token();
    token.tag[14] ^= 1;
    return token;
}

void is_none_without_a_cookie(void**) {
    fresh_world();
    const Outcome outcome = begin(world.realm, Candidates{}, kNow, {});
    assert_int_equal(outcome.step, Outcome::Step::decided);
    assert_status(outcome.status, Status::none);
}

// Would catch: anything but a token that reaches the table or the keys.
void is_malformed_for_anything_but_a_token(void**) {
    fresh_world(256 * 1024, true);
    for (const std::string_view value : {""sv, "x"sv, "deleted"sv, "null"sv}) {
        assert_status(status_of({value}, kNow), Status::malformed);
    }
}

// Threat: guessing or forging IDs. Would catch: a forged token that costs a store look-up.
void a_forged_token_never_needs_the_store(void**) {
    fresh_world(256 * 1024, true);
    for (int i = 0; i < 20000; ++i) {
        Token token;
        token.key_id = genuine_token().key_id;
        fake_random(token.handle);
        fake_random(token.secret);
        fake_random(token.tag);
        const TokenText text = text_of(token);
        const Outcome outcome = ask({text}, kNow, 0);
        assert_int_equal(outcome.step, Outcome::Step::decided);
        assert_status(outcome.status, Status::forged);
    }
}

// Would catch: users with a token of a retired key treated as attackers.
void a_token_of_another_key_is_unknown_key(void**) {
    fresh_world(256 * 1024, true);
    assert_status(status_of({text_of(foreign_token())}, kNow), Status::unknown_key);
}

// Would catch: a session that is there and not seen, or seen with another's data.
void a_known_session_is_valid_and_brings_its_record(void**) {
    fresh_world();
    Record record = login_record();
    record.level = Level::aal2;
    const Token token = put_session(record, kNow + kMinute);
    session_token();
    const Outcome outcome = ask({text_of(token)}, kNow + 2 * kMinute);
    assert_status(outcome.status, Status::valid);
    assert_true(same_token(outcome.token, token));
    assert_true(same_token(outcome.session.slot.token, token));
    assert_text(outcome.session.record.user, "alice");
    assert_text(outcome.session.record.roles, "editor admin");
    assert_int_equal(outcome.session.record.level, Level::aal2);
    assert_int_equal(outcome.session.ages.created, kNow);
    assert_int_equal(outcome.session.ages.last_seen, kNow + kMinute);
    assert_int_equal(outcome.session.timeouts.idle, kTimeouts.idle);
    assert_false(outcome.session.restricted);
    assert_true(world.table->touch(outcome.session.slot.slot, kNow + 2 * kMinute));
}

// Would catch: a limit that is off by one tick, and an idle session that a refused request keeps
// alive.
void expires_at_the_idle_and_the_absolute_limit(void**) {
    fresh_world();
    const TokenText text = text_of(session_token());
    assert_status(status_of({text}, kNow + kTimeouts.idle - 1), Status::valid);
    assert_status(status_of({text}, kNow + kTimeouts.idle), Status::expired_idle);
    assert_status(status_of({text}, kNow + kTimeouts.idle + kMinute), Status::expired_idle);

    const TokenText busy = text_of(put_session(login_record(), kNow + kTimeouts.absolute - 1));
    assert_status(status_of({busy}, kNow + kTimeouts.absolute - 1), Status::valid);
    assert_status(status_of({busy}, kNow + kTimeouts.absolute), Status::expired_absolute);
}

// Would catch: limits of the session that are not looked at, or that lengthen.
void the_sessions_own_limits_count_when_shorter(void**) {
    fresh_world();
    Record record = login_record();
    record.idle_limit_s = 60;
    record.absolute_limit_s = UINT32_MAX;
    const TokenText text = text_of(put_session(record));
    assert_status(status_of({text}, kNow + kMinute - 1), Status::valid);
    assert_status(status_of({text}, kNow + kMinute), Status::expired_idle);
    assert_status(status_of({text}, kNow + kTimeouts.absolute), Status::expired_absolute);
}

// Would catch: everybody out after the clock was set back.
void a_clock_that_steps_back_keeps_sessions(void**) {
    fresh_world();
    const TokenText text = text_of(session_token());
    assert_status(status_of({text}, kNow - 24 * kHour), Status::valid);
    assert_status(status_of({text}, 0), Status::valid);
}

// Would catch: "no such session" where the user logged out or was given a new one.
void a_tombstone_says_why_it_is_gone(void**) {
    fresh_world();
    struct {
        Departure why;
        Status status;
    } const kDepartures[] = {{Departure::ended, Status::ended},
                             {Departure::regenerated, Status::regenerated},
                             {Departure::expired_idle, Status::expired_idle},
                             {Departure::expired_absolute, Status::expired_absolute}};
    for (const auto& each : kDepartures) {
        const Token token = session_token();
        remove(token, each.why, kNow + kHour);
        assert_status(status_of({text_of(token)}, kNow + kHour - 1), each.status);
        assert_status(status_of({text_of(token)}, kNow + kHour), Status::absent);
        // Only for who knows the token: a handle alone is answered as forged.
        Token guess = token;
        guess.tag[0] ^= 1;
        assert_status(status_of({text_of(guess)}, kNow), Status::forged);
    }
}

// Threat: guessing IDs. Would catch: a compare that does not cover secret or tag, or none at all
// for a handle that is in the table.
void a_live_session_with_any_bit_changed_is_refused(void**) {
    fresh_world(256 * 1024, true);
    const Token token = session_token();
    confirm(token, kNow);
    const TokenText text = text_of(token);
    assert_status(status_of({text}, kNow), Status::valid);
    for (std::size_t bit = 0; bit < kTokenBytes * 8; ++bit) {
        std::array<std::uint8_t, kTokenBytes> wire;
        assert_true(base64url_decode(text, wire));
        wire[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
        TokenText flipped;
        base64url_encode(wire, flipped.chars);
        const Status status = status_of({flipped}, kNow);
        assert_true(status == Status::forged || (bit < 8 && status == Status::unknown_key));
    }
    assert_status(status_of({text}, kNow), Status::valid);
}

// Would catch: a record of a newer program that is called "no such session", which would cost the
// cookie.
void a_record_it_cannot_read_is_unknown_not_absent(void**) {
    fresh_world();
    for (const std::uint8_t version : {2, 0}) {
        std::array<std::uint8_t, 512> bytes;
        const std::size_t size = encode_record(login_record(), bytes);
        bytes[0] = version;
        const Token token = genuine_token();
        {
            LockedShard shard = world.table->lock(token.handle);
            world.table->insert(shard, token, ByteView(bytes).first(size), kNow, kLimits, kNow);
        }
        assert_status(status_of({text_of(token)}, kNow), Status::store_unavailable);
    }
}

// ---- several candidates

enum class Kind { malformed, forged, unknown_key, absent, idle, ended, good, again, other };

TokenText text_of_kind(Kind kind) {
    static Token good;
    static Token other;
    if (kind == Kind::malformed) {
        TokenText text;
        text.chars.fill('!');
        return text;
    }
    switch (kind) {
        case Kind::forged:
            return text_of(forged_token());
        case Kind::unknown_key:
            return text_of(foreign_token());
        case Kind::idle:
            return text_of(put_session(login_record(kNow - kHour), kNow - kHour));
        case Kind::ended: {
            const Token token = session_token();
            remove(token, Departure::ended, kNow + kHour);
            return text_of(token);
        }
        case Kind::good:
            good = session_token();
            return text_of(good);
        case Kind::again:
            return text_of(good);
        case Kind::other:
            other = session_token("reader");
            return text_of(other);
        default:
            return text_of(genuine_token());
    }
}

struct Several {
    std::vector<Kind> kinds;
    Status status;
};

// Threat: cookie tossing. Would catch: an attacker's second cookie that locks a user out or is
// preferred, and a verdict that depends on the order: every order of every line must give the same.
void several_candidates_give_one_verdict_in_every_order(void**) {
    using enum Kind;
    static const std::vector<Several> kLines{
        {{good, malformed}, Status::valid},
        {{good, forged}, Status::valid},
        {{good, unknown_key}, Status::valid},
        {{good, absent}, Status::valid},
        {{good, idle}, Status::valid},
        {{good, ended}, Status::valid},
        {{good, malformed, forged, idle}, Status::valid},
        {{good, other}, Status::ambiguous},
        {{good, other, malformed}, Status::ambiguous},
        {{good, other, again}, Status::ambiguous},
        {{good, again, idle, forged}, Status::valid},
        {{good, other, idle, forged}, Status::ambiguous},
        {{malformed, forged}, Status::forged},
        {{malformed, absent}, Status::absent},
        {{forged, unknown_key}, Status::unknown_key},
        {{absent, ended}, Status::ended},
        {{ended, idle}, Status::expired_idle},
        {{malformed, forged, absent, idle}, Status::expired_idle},
    };
    static std::vector<TokenText> texts;
    static std::vector<std::size_t> order;
    for (const Several& line : kLines) {
        fresh_world();
        texts.clear();
        order.clear();
        for (const Kind kind : line.kinds) {
            order.push_back(texts.size());
            texts.push_back(text_of_kind(kind));
        }
        do {
            Candidates candidates;
            for (const std::size_t i : order) {
                candidates.values[candidates.count++] = texts[i];
            }
            const Outcome outcome = begin(world.realm, candidates, kNow, exact_bytes(4096));
            assert_int_equal(outcome.step, Outcome::Step::decided);
            assert_status(outcome.status, line.status);
            if (outcome.status == Status::valid) {
                assert_text(text_of(outcome.token), texts[0], "the good one");
                assert_text(outcome.session.record.user, "alice");
                assert_text(outcome.session.record.roles, "editor admin");
            }
        } while (std::next_permutation(order.begin(), order.end()));
    }
}

// Would catch: a browser that sends the same cookie twice locked out as ambiguous.
void the_same_session_twice_is_one(void**) {
    fresh_world();
    const TokenText text = text_of(session_token());
    assert_status(status_of({text, text, text, text}, kNow), Status::valid);
}

// ---- regenerated sessions

struct Pair {
    Token old;
    Token fresh;
};

// Regenerated at kNow; `editor admin` and aal2 before, `admin root` and aal1 after.
Pair regenerated() {
    Record before = login_record(kNow - kMinute, "editor admin");
    before.level = Level::aal2;
    Record after = login_record(kNow - kMinute, "admin root");
    after.level = Level::aal1;
    const Pair pair{.old = put_session(before, kNow - kMinute), .fresh = put_session(after)};
    supersede(pair.old, pair.fresh, kNow + kWindow);
    return pair;
}

// Would catch: rights just taken away that a parallel request still has, or that a thief's copy of
// the old cookie gains from a step-up.
void the_old_handle_passes_restricted_with_what_both_may(void**) {
    fresh_world();
    const Pair pair = regenerated();
    const Outcome outcome = ask({text_of(pair.old)}, kNow + kWindow - 1);
    assert_status(outcome.status, Status::valid);
    assert_true(outcome.session.restricted);
    assert_text(outcome.session.record.roles, "admin");
    assert_int_equal(outcome.session.record.level, Level::aal1);
    assert_text(outcome.session.record.user, "alice");
    assert_true(same_token(outcome.token, pair.old));
    // It must not learn the new token.
    assert_false(same_token(outcome.session.slot.token, pair.fresh));

    const Outcome fresh = ask({text_of(pair.fresh)}, kNow + kWindow - 1);
    assert_status(fresh.status, Status::valid);
    assert_false(fresh.session.restricted);
    assert_text(fresh.session.record.roles, "admin root");
}

// Would catch: a lower level before that becomes a higher one through the successor.
void the_lower_level_counts_in_both_directions(void**) {
    fresh_world();
    Record before = login_record();
    Record after = login_record();
    after.level = Level::aal3;
    const Token old = put_session(before);
    const Token fresh = put_session(after);
    supersede(old, fresh, kNow + kWindow);
    assert_int_equal(ask({text_of(old)}, kNow).session.record.level, Level::aal1);
}

// Would catch: an old handle that stays good, and one that is called "no such session" (which would
// cost a cookie that may be the new one already).
void the_old_handle_is_regenerated_after_the_window(void**) {
    fresh_world(256 * 1024, true);
    const Pair pair = regenerated();
    confirm(pair.fresh, kNow + kWindow);
    assert_status(status_of({text_of(pair.old)}, kNow + kWindow), Status::regenerated);
    assert_status(status_of({text_of(pair.old)}, kNow + kHour), Status::regenerated);
    assert_status(status_of({text_of(pair.fresh)}, kNow + kWindow), Status::valid);
}

// Would catch: a clock that steps back and opens the window again, for as long as it stepped.
void the_window_does_not_grow_when_the_clock_steps_back(void**) {
    fresh_world();
    const Pair pair = regenerated();
    assert_status(status_of({text_of(pair.old)}, kNow), Status::valid);
    assert_status(status_of({text_of(pair.old)}, kNow - 1), Status::regenerated);
    assert_status(status_of({text_of(pair.old)}, kNow - kHour), Status::regenerated);
    assert_status(status_of({text_of(pair.fresh)}, kNow - kHour), Status::valid);
}

// Threat: logout that does not end it. Would catch: an old handle that outlives the session.
void the_old_handle_dies_with_its_successor(void**) {
    fresh_world();
    const Pair pair = regenerated();
    remove(pair.fresh, Departure::ended, kNow + kHour);
    assert_status(status_of({text_of(pair.old)}, kNow), Status::ended);
}

// Would catch: an old handle whose own stopped idle clock, or whose successor's, is not looked at.
void the_idle_clock_of_the_successor_counts(void**) {
    fresh_world();
    const Token old = put_session(login_record(kNow - kHour), kNow - kTimeouts.idle - kSecond);
    const Token fresh = put_session(login_record(kNow - kHour), kNow);
    supersede(old, fresh, kNow + kWindow);
    const Outcome outcome = ask({text_of(old)}, kNow + kSecond);
    assert_status(outcome.status, Status::valid);
    assert_int_equal(outcome.session.ages.last_seen, kNow);

    const Token idle = put_session(login_record(kNow - kHour), kNow - kTimeouts.idle);
    const Token before = put_session(login_record(kNow - kHour), kNow);
    supersede(before, idle, kNow + kWindow);
    assert_status(status_of({text_of(before)}, kNow), Status::expired_idle);
}

// Would catch: a tampered old token that passes because only its handle is looked at.
void an_old_handle_needs_its_whole_token(void**) {
    fresh_world();
    Pair pair = regenerated();
    pair.old.secret[3] ^= 4;
    assert_status(status_of({text_of(pair.old)}, kNow), Status::forged);
}

// Would catch: a walk along successors without end, or rights of one in the middle. Each was
// regenerated within the window of the one before.
void follows_four_successors_and_not_one_more(void**) {
    fresh_world();
    std::array<Token, kMaxSuccessors + 2> chain;
    for (std::size_t i = 0; i < chain.size(); ++i) {
        chain[i] = session_token(i == 0 || i + 1 == chain.size() ? "admin editor" : "editor");
        if (i > 0) {
            supersede(chain[i - 1], chain[i], kNow + kWindow);
        }
    }
    assert_status(status_of({text_of(chain[0])}, kNow), Status::regenerated);
    const Outcome outcome = ask({text_of(chain[1])}, kNow);
    assert_status(outcome.status, Status::valid);
    assert_true(outcome.session.restricted);
    assert_text(outcome.session.record.roles, "editor");
}

// Would catch: a chain that leads back to itself (damage) walked for ever.
void a_chain_that_bites_its_tail_is_refused(void**) {
    fresh_world();
    const Token one = session_token();
    const Token two = session_token();
    supersede(one, two, kNow + kWindow);
    supersede(two, one, kNow + kWindow);
    assert_status(status_of({text_of(one)}, kNow), Status::regenerated);
}

// Would catch: a browser that sends old and new cookie (other path, other domain) locked out for 10
// s.
void the_successor_wins_over_its_predecessor_in_both_orders(void**) {
    fresh_world();
    const Pair pair = regenerated();
    const TokenText old = text_of(pair.old);
    const TokenText fresh = text_of(pair.fresh);
    for (const auto& order : {std::array{old, fresh}, std::array{fresh, old}}) {
        const Outcome outcome = ask({order[0], order[1]}, kNow);
        assert_status(outcome.status, Status::valid);
        assert_true(same_token(outcome.token, pair.fresh));
        assert_false(outcome.session.restricted);
        assert_text(outcome.session.record.roles, "admin root");
    }
    // Beside a stranger it is a second session like any other.
    const TokenText stranger = text_of(session_token());
    assert_status(status_of({old, stranger}, kNow), Status::ambiguous);
    assert_status(status_of({stranger, old}, kNow), Status::ambiguous);
}

// ---- the store

// Would catch: a session of another node refused without asking, and a store asked twice for one
// request.
void a_genuine_absent_token_needs_the_store_once(void**) {
    fresh_world(256 * 1024, true);
    const Token first = genuine_token();
    const Token second = genuine_token();
    const Outcome outcome = ask({text_of(first), text_of(second)}, kNow);
    assert_int_equal(outcome.step, Outcome::Step::needs_store);
    assert_true(same_token(outcome.token, first));

    const Outcome behind = ask({text_of(forged_token()), "rubbish", text_of(second)}, kNow);
    assert_int_equal(behind.step, Outcome::Step::needs_store);
    assert_true(same_token(behind.token, second));

    // Where a session is here already, and was confirmed a moment ago, nothing is asked.
    const Token here = session_token();
    confirm(here, kNow);
    const TokenText live = text_of(here);
    assert_status(status_of({live, text_of(first)}, kNow), Status::valid);
    assert_status(status_of({text_of(first), live}, kNow), Status::valid);

    world.realm.has_store = false;
    assert_status(status_of({text_of(first)}, kNow), Status::absent);
}

void assert_asks_for_successor(const Outcome& outcome, Status status, const Pair& pair) {
    assert_int_equal(outcome.step, Outcome::Step::needs_successor);
    assert_status(outcome.status, status);
    assert_true(outcome.session.slot.successor == pair.fresh.handle);
}

// Would catch: parallel requests thrown out because the session was regenerated on another node;
// and an old handle that goes on here although its successor was ended or lost a role there.
void a_successor_that_is_not_here_or_not_fresh_is_asked_about(void**) {
    fresh_world(256 * 1024, true);
    Pair pair{.old = session_token(), .fresh = genuine_token()};
    supersede(pair.old, pair.fresh, kNow + kWindow);
    assert_asks_for_successor(ask({text_of(pair.old)}, kNow), Status::ended, pair);

    pair = regenerated();
    confirm(pair.fresh, kNow);
    assert_int_equal(ask({text_of(pair.old)}, kNow + kRevalidate).step, Outcome::Step::decided);
    const TimeMs late = kNow + kRevalidate + 1;
    assert_asks_for_successor(ask({text_of(pair.old)}, late), Status::valid, pair);
    remove(pair.fresh, Departure::ended, kNow + kHour);
    assert_int_equal(ask({text_of(pair.old)}, late).step, Outcome::Step::decided);
    assert_status(ask({text_of(pair.old)}, late).status, Status::ended);

    pair = regenerated();
    world.realm.has_store = false;
    assert_int_equal(ask({text_of(pair.old)}, late).step, Outcome::Step::decided);
}

// Threat: logout that does not end it. Would catch: a store that brings back what has been ended
// here.
void a_tombstone_is_believed_before_the_store(void**) {
    fresh_world(256 * 1024, true);
    const Token token = session_token();
    remove(token, Departure::ended, kNow + kHour);
    assert_status(status_of({text_of(token)}, kNow), Status::ended);
}

// Would catch: a session that ended on another node and goes on here for ever; and a store that is
// asked at every request.
void a_copy_is_asked_about_again_when_it_was_confirmed_too_long_ago(void**) {
    fresh_world(256 * 1024, true);
    const Token token = session_token();
    const auto asked = [&](TimeMs now) {
        const Outcome outcome = ask({text_of(token)}, now);
        assert_status(outcome.status, Status::valid);  // what the zone alone would say
        return outcome.step == Outcome::Step::needs_store;
    };
    assert_true(asked(kNow));  // never confirmed
    confirm(token, kNow);
    assert_false(asked(kNow));
    assert_false(asked(kNow + kRevalidate));
    assert_true(asked(kNow + kRevalidate + 1));
    assert_true(asked(kNow - kHour));  // the clock stepped back: it may have been long ago

    FeedState feed;
    feed.missed(kNow - 1);
    feed.followed(kNow + kMinute);
    world.realm.feed = &feed;
    assert_false(asked(kNow + kMinute));  // the feed would have told
    assert_true(asked(kNow + kMinute + kRevalidate + 1));
    world.realm.feed = nullptr;
    world.realm.has_store = false;
    assert_false(asked(kNow + kRevalidate + 1));
}

// Would catch: a key taken out of the file that ends, as "store unavailable", what goes on without
// a store.
void a_session_without_its_key_is_not_asked_about(void**) {
    fresh_world(256 * 1024, true);
    const TokenText text = text_of(session_token());
    load(world.keys, "app", kKeyB);
    assert_status(status_of({text}, kNow + kMinute), Status::valid);
    assert_status(status_of({text}, kNow + kTimeouts.idle), Status::expired_idle);
}

// Would catch: a user thrown out as idle here who is busy on another node; and an absolute timeout
// that depends on a store.
void the_store_is_asked_before_a_session_is_refused_as_idle(void**) {
    fresh_world(256 * 1024, true);
    const Token token = session_token();
    const TimeMs idle = kNow + kTimeouts.idle;
    confirm(token, idle);
    const Outcome outcome = ask({text_of(token)}, idle);
    assert_status(outcome.status, Status::expired_idle);
    assert_int_equal(outcome.step, Outcome::Step::needs_store);
    const Outcome over = ask({text_of(token)}, kNow + kTimeouts.absolute);
    assert_status(over.status, Status::expired_absolute);
    assert_int_equal(over.step, Outcome::Step::decided);
}

ByteView encoded(const Record& record) {
    static std::array<std::uint8_t, 1024> bytes;
    return ByteView(bytes).first(encode_record(record, bytes));
}

// Where the zone has no room the store's copy decides. Would catch: limits that do not hold then,
// and a record of a newer or damaged kind called absent.
void an_entry_alone_is_judged_like_a_session_of_the_zone(void**) {
    fresh_world(256 * 1024, true);
    const Token token = genuine_token();
    const ByteView record = encoded(login_record());
    StoreEntry entry;
    entry.token = token;
    entry.last_seen = kNow;
    const auto status = [&](TimeMs now) {
        return resume(world.realm, token, entry, record, now).status;
    };
    assert_status(status(kNow), Status::valid);
    assert_text(resume(world.realm, token, entry, record, kNow).session.record.user, "alice");
    assert_status(status(kNow + kTimeouts.idle - 1), Status::valid);
    assert_status(status(kNow + kTimeouts.idle), Status::expired_idle);
    assert_status(status(kNow + kTimeouts.absolute), Status::expired_absolute);
    assert_status(resume(world.realm, token, entry, record.first(record.size() - 1), kNow).status,
                  Status::store_unavailable);
    assert_status(resume(world.realm, token, entry, {}, kNow).status, Status::store_unavailable);
}

// ---- the buffer

Record large_record(std::size_t attribute_bytes) {
    static std::array<std::uint8_t, 40000> packed;
    static const std::string value(40000, 'v');
    std::size_t used = 0;
    assert_true(
        append_attribute(packed, used, "x", std::string_view(value).substr(0, attribute_bytes)));
    Record record = login_record();
    record.attributes = ByteView(packed).first(used);
    return record;
}

// Repeats the question as the module does; how often it had to.
Outcome ask_patiently(const Candidates& candidates, int& rounds) {
    std::size_t size = kTypicalRecordBytes;
    for (rounds = 1; rounds <= 12; ++rounds) {
        const Outcome outcome = begin(world.realm, candidates, kNow, exact_bytes(size));
        if (outcome.step != Outcome::Step::needs_buffer) {
            return outcome;
        }
        assert_true(outcome.needed_bytes > size);
        size = outcome.needed_bytes;
    }
    fail_msg("no end of asking for a larger buffer");
    return {};
}

// Would catch: a large session refused, cut, or asked for again and again.
void a_large_record_asks_for_a_larger_buffer_once(void**) {
    fresh_world();
    for (const std::size_t bytes : {400u, 500u, 1000u, 32u * 1024}) {
        const Token token = put_session(large_record(bytes));
        int rounds = 0;
        const Outcome outcome = ask_patiently(candidates_of({text_of(token)}), rounds);
        assert_status(outcome.status, Status::valid);
        assert_int_equal(rounds, encoded_size(large_record(bytes)) > kTypicalRecordBytes ? 2 : 1);
        assert_int_equal(find_attribute(outcome.session.record.attributes, "x")->size(), bytes);
    }
}

// Would catch: two candidates that write over each other's record, or never get room.
void several_large_records_each_have_their_part_of_the_buffer(void**) {
    fresh_world();
    const Token large = put_session(large_record(3000));
    const Token small = session_token();
    const Token larger = put_session(large_record(9000));
    int rounds = 0;
    const auto three =
        ask_patiently(candidates_of({text_of(large), text_of(small), text_of(larger)}), rounds);
    assert_status(three.status, Status::ambiguous);
    remove(small, Departure::ended, kNow + kHour);
    remove(larger, Departure::ended, kNow + kHour);
    const auto one =
        ask_patiently(candidates_of({text_of(larger), text_of(small), text_of(large)}), rounds);
    assert_status(one.status, Status::valid);
    assert_int_equal(find_attribute(one.session.record.attributes, "x")->size(), 3000);
}

// Would catch: a restricted session whose successor's record has no room and is refused for it.
void a_restricted_session_with_large_records_finds_room(void**) {
    fresh_world();
    for (const std::size_t before : {0u, 430u, 3000u}) {
        for (const std::size_t after : {0u, 430u, 3000u, 20000u}) {
            const Token old = put_session(large_record(before));
            const Token fresh = put_session(large_record(after));
            supersede(old, fresh, kNow + kWindow);
            int rounds = 0;
            const Outcome outcome = ask_patiently(candidates_of({text_of(old)}), rounds);
            assert_status(outcome.status, Status::valid);
            assert_true(outcome.session.restricted);
            assert_text(outcome.session.record.roles, "editor admin");
            assert_int_equal(find_attribute(outcome.session.record.attributes, "x")->size(),
                             before);
            assert_true(rounds <= 3);
            remove(old, Departure::ended, kNow + 1);
            remove(fresh, Departure::ended, kNow + 1);
        }
    }
}

// Would catch: a buffer of any size written beyond its end (the sanitizer sees it), or an endless
// demand.
void no_buffer_is_too_small_to_be_asked_with(void**) {
    fresh_world();
    const Pair pair = regenerated();
    const TokenText old = text_of(pair.old);
    const TokenText fresh = text_of(pair.fresh);
    for (std::size_t size = 0; size < 600; ++size) {
        for (const auto& candidates :
             {candidates_of({old}), candidates_of({fresh}), candidates_of({old, fresh})}) {
            const Outcome outcome = begin(world.realm, candidates, kNow, exact_bytes(size));
            if (outcome.step == Outcome::Step::needs_buffer) {
                assert_true(outcome.needed_bytes > size);
            } else {
                assert_status(outcome.status, Status::valid);
            }
        }
    }
}

// ---- a writer that was killed

int stores_left;

void die_at_store() {
    if (stores_left-- == 0) {
        _exit(0);
    }
}

// Threat: a worker killed at any instant. Would catch: a bystander's session refused because a
// writer died in the same bucket: the look-up has to repair and ask again.
void a_writer_killed_at_any_store_costs_no_other_session(void**) {
    fresh_world(Table::minimum_bytes());  // 16 buckets
    static std::array<Token, 8> bystanders;
    for (Token& token : bystanders) {
        token = session_token();
    }
    for (int n = 0; n < 200; ++n) {
        const Token victim = genuine_token();
        std::array<std::uint8_t, 512> bytes;
        const std::size_t size = encode_record(login_record(), bytes);
        const pid_t child = fork();
        if (child == 0) {
            stores_left = n;
            sg_on_store = die_at_store;
            LockedShard shard = world.table->lock(victim.handle);
            world.table->insert(shard, victim, ByteView(bytes).first(size), kNow, kLimits, kNow);
            _exit(1);
        }
        int status = 0;
        waitpid(child, &status, 0);
        for (const Token& token : bystanders) {
            assert_status(status_of({text_of(token)}, kNow), Status::valid);
        }
        const Status own = status_of({text_of(victim)}, kNow);
        assert_true(own == Status::valid || own == Status::absent);
        remove(victim, Departure::ended, kNow + kHour);
        if (WEXITSTATUS(status) == 1) {
            assert_true(n > 10);
            return;
        }
    }
    fail_msg("the insertion never got through");
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(is_none_without_a_cookie),
        cmocka_unit_test(is_malformed_for_anything_but_a_token),
        cmocka_unit_test(a_forged_token_never_needs_the_store),
        cmocka_unit_test(a_token_of_another_key_is_unknown_key),
        cmocka_unit_test(a_known_session_is_valid_and_brings_its_record),
        cmocka_unit_test(expires_at_the_idle_and_the_absolute_limit),
        cmocka_unit_test(the_sessions_own_limits_count_when_shorter),
        cmocka_unit_test(a_clock_that_steps_back_keeps_sessions),
        cmocka_unit_test(a_tombstone_says_why_it_is_gone),
        cmocka_unit_test(a_live_session_with_any_bit_changed_is_refused),
        cmocka_unit_test(a_record_it_cannot_read_is_unknown_not_absent),
        cmocka_unit_test(several_candidates_give_one_verdict_in_every_order),
        cmocka_unit_test(the_same_session_twice_is_one),
        cmocka_unit_test(the_old_handle_passes_restricted_with_what_both_may),
        cmocka_unit_test(the_lower_level_counts_in_both_directions),
        cmocka_unit_test(the_old_handle_is_regenerated_after_the_window),
        cmocka_unit_test(the_window_does_not_grow_when_the_clock_steps_back),
        cmocka_unit_test(the_old_handle_dies_with_its_successor),
        cmocka_unit_test(the_idle_clock_of_the_successor_counts),
        cmocka_unit_test(an_old_handle_needs_its_whole_token),
        cmocka_unit_test(follows_four_successors_and_not_one_more),
        cmocka_unit_test(a_chain_that_bites_its_tail_is_refused),
        cmocka_unit_test(the_successor_wins_over_its_predecessor_in_both_orders),
        cmocka_unit_test(a_genuine_absent_token_needs_the_store_once),
        cmocka_unit_test(a_successor_that_is_not_here_or_not_fresh_is_asked_about),
        cmocka_unit_test(a_tombstone_is_believed_before_the_store),
        cmocka_unit_test(a_copy_is_asked_about_again_when_it_was_confirmed_too_long_ago),
        cmocka_unit_test(a_session_without_its_key_is_not_asked_about),
        cmocka_unit_test(the_store_is_asked_before_a_session_is_refused_as_idle),
        cmocka_unit_test(an_entry_alone_is_judged_like_a_session_of_the_zone),
        cmocka_unit_test(a_large_record_asks_for_a_larger_buffer_once),
        cmocka_unit_test(several_large_records_each_have_their_part_of_the_buffer),
        cmocka_unit_test(a_restricted_session_with_large_records_finds_room),
        cmocka_unit_test(no_buffer_is_too_small_to_be_asked_with),
        cmocka_unit_test(a_writer_killed_at_any_store_costs_no_other_session),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
