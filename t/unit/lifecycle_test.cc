// Sessions between login and end.
#include "core/lifecycle.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "unit/support.h"

using namespace sg;
using namespace sg::test;
using namespace std::string_view_literals;

namespace {

ByteSpan work() {
    static std::unique_ptr<std::uint8_t[]> bytes;
    bytes.reset(new std::uint8_t[kWorkBytes]);  // exactly what is promised, nothing left of before
    std::fill_n(bytes.get(), kWorkBytes, std::uint8_t{0xcc});
    return {bytes.get(), kWorkBytes};
}

Changed create(std::string_view header = "create; user=\"alice\"; roles=\"editor admin\"",
               TimeMs now = kNow) {
    return open_session(world.realm, world.random, command(header), now, work());
}

Token created(std::string_view header = "create; user=\"alice\"; roles=\"editor admin\"",
              TimeMs now = kNow) {
    const Changed changed = create(header, now);
    assert_int_equal(changed.result, Change::done);
    assert_true(changed.token.has_value());
    return *changed.token;
}

Changed change(const Token& token, std::string_view header, TimeMs now = kNow + kSecond) {
    return change_session(world.realm, world.random, token.handle, command(header), kMaxData, now,
                          work());
}

// The new credential; the change must give one.
Token moved(const Token& token, std::string_view header, TimeMs now = kNow + kSecond) {
    const Changed changed = change(token, header, now);
    assert_int_equal(changed.result, Change::done);
    assert_true(changed.token.has_value());
    assert_true(changed.token->handle != token.handle && changed.token->secret != token.secret);
    assert_int_equal(world.keys.check(*changed.token), TokenCheck::genuine);
    return *changed.token;
}

void assert_done_in_place(const Changed& changed) {
    assert_int_equal(changed.result, Change::done);
    assert_false(changed.token.has_value());
}

void assert_refused(const Changed& changed, Change why) {
    assert_int_equal(changed.result, why);
    assert_false(changed.token.has_value());
}

// The session as the next request sees it. Good until the next question.
Session session_of(const Token& token, TimeMs now = kNow + kSecond) {
    const Outcome outcome = ask({text_of(token)}, now, 64 * 1024);
    assert_int_equal(outcome.step, Outcome::Step::decided);
    assert_status(outcome.status, Status::valid);
    return outcome.session;
}

Status status_of_token(const Token& token, TimeMs now = kNow + kSecond) {
    return status_of({text_of(token)}, now);
}

std::string_view attribute_of(const Session& session, std::string_view name) {
    return find_attribute(session.record.attributes, name).value_or("(none)");
}

std::uint64_t live_sessions() {
    return world.table->stats().live;
}

// ---- create

// Would catch: something the application said at login that is lost.
void create_stores_what_the_application_said(void**) {
    fresh_world();
    const Token token = created(
        R"(create; user="alice"; roles="editor admin"; level=aal2; idle=60; absolute=600; data.theme="dark")");
    const Session session = session_of(token, kNow);
    assert_text(session.record.user, "alice");
    assert_text(session.record.roles, "editor admin");
    assert_int_equal(session.record.level, Level::aal2);
    assert_int_equal(session.record.idle_limit_s, 60);
    assert_int_equal(session.record.absolute_limit_s, 600);
    assert_int_equal(session.timeouts.idle, kMinute);
    assert_int_equal(session.timeouts.absolute, 10 * kMinute);
    assert_text(attribute_of(session, "theme"), "dark");
    assert_int_equal(session.ages.created, kNow);
    assert_int_equal(session.ages.last_seen, kNow);
    assert_int_equal(session.record.authenticated, kNow);
    assert_true(session.record.public_id == world.keys.public_id(token));
    assert_int_equal(world.keys.check(token), TokenCheck::genuine);
    assert_false(session.restricted);
}

// Would catch: a level or rights that nobody gave.
void create_gives_the_least_where_nothing_is_said(void**) {
    fresh_world();
    const Session session = session_of(created("create; user=\"bob\""), kNow);
    assert_int_equal(session.record.level, Level::aal1);
    assert_text(session.record.roles, "");
    assert_int_equal(session.record.attributes.size(), 0);
}

// Threat: session fixation. Would catch: a login that is linked to an earlier session, or ends
// another one by itself.
void create_links_nothing(void**) {
    fresh_world();
    const Token first = created();
    const Token second = created();
    assert_true(first.handle != second.handle && first.secret != second.secret);
    assert_int_equal(session_of(first).slot.superseded_until, 0);
    assert_int_equal(session_of(second).slot.superseded_until, 0);
    assert_true(end_session(world.realm, first.handle, Departure::ended, kNow));
    assert_status(status_of_token(first), Status::ended);
    assert_status(status_of_token(second), Status::valid);
}

// Would catch: a session under a handle that is not random.
void nothing_is_created_without_random_bytes(void**) {
    fresh_world();
    random_works = false;
    assert_refused(create(), Change::no_random);
    assert_int_equal(live_sessions(), 0);
    random_works = true;
    created();
}

// Would catch: a session without keys, or a crash.
void nothing_is_created_without_keys(void**) {
    fresh_world();
    static const KeyRing empty;
    world.realm.keys = &empty;
    assert_refused(create(), Change::no_random);
    assert_int_equal(live_sessions(), 0);
}

// Threat: memory exhaustion. Would catch: live users thrown out by logins, or a login that seems to
// work.
void a_full_zone_refuses_logins_and_keeps_sessions(void**) {
    fresh_world(Table::minimum_bytes());
    static std::array<Token, 64> tokens;
    std::size_t count = 0;
    Changed changed;
    for (; count < tokens.size(); ++count) {
        changed = create();
        if (changed.result != Change::done) {
            break;
        }
        tokens[count] = *changed.token;
    }
    assert_refused(changed, Change::full);
    assert_true(count >= 16);
    for (std::size_t i = 0; i < count; ++i) {
        assert_status(status_of_token(tokens[i]), Status::valid);
    }
    // A change that needs a cell is refused and changes nothing.
    assert_refused(change(tokens[0], "renew"), Change::full);
    assert_refused(change(tokens[0], "update; roles=\"root\""), Change::full);
    assert_refused(change(tokens[0], "update; data.x=\"1\""), Change::full);
    assert_status(status_of_token(tokens[0]), Status::valid);
    assert_text(session_of(tokens[0]).record.roles, "editor admin");
    assert_false(session_of(tokens[0]).restricted);
    assert_int_equal(live_sessions(), count);
    // An ended session makes room.
    assert_true(end_session(world.realm, tokens[1].handle, Departure::ended, kNow));
    created();
    assert_refused(create(), Change::full);
    // And so do expired ones.
    created("create; user=\"carol\"", kNow + kTimeouts.idle);
    assert_status(status_of_token(tokens[0], kNow + kTimeouts.idle), Status::expired_idle);
}

// ---- renew, reauth, update

// Would catch: a renewed session that has lost or gained something.
void renew_moves_everything_to_a_new_handle(void**) {
    fresh_world();
    const Token old = created(
        R"(create; user="alice"; roles="editor"; level=aal2; idle=60; absolute=600; data.theme="dark")");
    const Session before = session_of(old, kNow + 30 * kSecond);
    world.table->touch(before.slot.slot, kNow + 30 * kSecond);
    const Token fresh = moved(old, "renew", kNow + 40 * kSecond);
    const Session session = session_of(fresh, kNow + 40 * kSecond);
    assert_text(session.record.user, "alice");
    assert_text(session.record.roles, "editor");
    assert_int_equal(session.record.level, Level::aal2);
    assert_int_equal(session.record.idle_limit_s, 60);
    assert_int_equal(session.record.absolute_limit_s, 600);
    assert_text(attribute_of(session, "theme"), "dark");
    assert_int_equal(session.ages.created, kNow);
    assert_int_equal(session.ages.last_seen, kNow + 30 * kSecond);
    assert_int_equal(session.record.authenticated, kNow);
    assert_true(session.record.public_id == world.keys.public_id(fresh));
    assert_int_equal(session.record.change_counter, 1);
    assert_false(session.restricted);
}

// Would catch: an old handle that stays good, is good for longer, or is cut off under parallel
// requests.
void after_renew_the_old_handle_passes_restricted_for_ten_seconds(void**) {
    fresh_world();
    const Token old = created();
    const Token fresh = moved(old, "renew", kNow);
    assert_true(session_of(old, kNow).restricted);
    assert_true(session_of(old, kNow + 10 * kSecond - 1).restricted);
    assert_status(status_of_token(old, kNow + 10 * kSecond), Status::regenerated);
    assert_status(status_of_token(fresh, kNow + 10 * kSecond), Status::valid);
}

// Would catch: a re-authentication that does not count, lowers a level, or can raise one without
// being told.
void reauth_sets_the_authentication_time_and_the_level(void**) {
    fresh_world();
    const Token first = created("create; user=\"alice\"; level=aal2");
    const Token second = moved(first, "reauth", kNow + kMinute);
    assert_int_equal(session_of(second, kNow + kMinute).record.authenticated, kNow + kMinute);
    assert_int_equal(session_of(second, kNow + kMinute).record.level, Level::aal2);
    const Token third = moved(second, "reauth; level=aal3", kNow + 2 * kMinute);
    const Session session = session_of(third, kNow + 2 * kMinute);
    assert_int_equal(session.record.level, Level::aal3);
    assert_int_equal(session.record.authenticated, kNow + 2 * kMinute);
    // A thief's copy of the old cookie gains nothing by the step-up.
    assert_int_equal(session_of(second, kNow + 2 * kMinute).record.level, Level::aal2);
}

// Would catch: a session that lives for ever because it is renewed now and then.
void no_change_extends_the_absolute_timeout(void**) {
    fresh_world();
    Token token = created();
    TimeMs now = kNow;
    const char* const headers[] = {"renew", "reauth; level=aal2", "update; roles=\"x\"",
                                   "update; roles=\"y\"; data.a=\"1\""};
    for (int i = 0; now + 10 * kMinute < kNow + kTimeouts.absolute; ++i) {
        now += 10 * kMinute;
        world.table->touch(session_of(token, now).slot.slot, now);
        token = moved(token, headers[i % 4], now);
        assert_int_equal(session_of(token, now).ages.created, kNow);
    }
    world.table->touch(session_of(token, now).slot.slot, kNow + kTimeouts.absolute - 1);
    assert_status(status_of_token(token, kNow + kTimeouts.absolute - 1), Status::valid);
    assert_status(status_of_token(token, kNow + kTimeouts.absolute), Status::expired_absolute);
    assert_refused(change(token, "renew", kNow + kTimeouts.absolute), Change::gone);
}

// Would catch: a change by a slow response that counts as activity of the user.
void a_change_is_no_activity(void**) {
    fresh_world();
    const Token old = created();
    const Token fresh = moved(old, "renew", kNow + kTimeouts.idle - 1);
    assert_status(status_of_token(fresh, kNow + kTimeouts.idle - 1), Status::valid);
    assert_status(status_of_token(fresh, kNow + kTimeouts.idle), Status::expired_idle);
    const Token other = created();
    assert_done_in_place(change(other, "update; data.x=\"1\"", kNow + kTimeouts.idle - 1));
    assert_status(status_of_token(other, kNow + kTimeouts.idle), Status::expired_idle);
}

// Would catch: a cookie changed by every preference that is stored.
void an_update_of_attributes_keeps_the_handle(void**) {
    fresh_world();
    const Token token =
        created(R"(create; user="alice"; roles="r"; data.theme="dark"; data.x="1")");
    assert_done_in_place(change(token, R"(update; data.theme="light"; data.x=""; data.y="2")"));
    const Session session = session_of(token);
    assert_text(attribute_of(session, "theme"), "light");
    assert_text(attribute_of(session, "x"), "(none)");
    assert_text(attribute_of(session, "y"), "2");
    assert_text(session.record.user, "alice");
    assert_text(session.record.roles, "r");
    assert_false(session.restricted);
    assert_int_equal(session.ages.last_seen, kNow);
    assert_int_equal(session.record.change_counter, 1);
    assert_int_equal(live_sessions(), 1);
}

// Threat: session fixation. Would catch: new rights under a token that may be known to somebody
// else.
void an_update_of_roles_or_level_regenerates(void**) {
    fresh_world();
    const Token first = created();
    const Token second = moved(first, "update; roles=\"root\"; data.x=\"1\"");
    assert_text(session_of(second).record.roles, "root");
    assert_text(attribute_of(session_of(second), "x"), "1");
    assert_int_equal(session_of(second).record.level, Level::aal1);
    assert_text(session_of(first).record.roles, "");  // both: nothing
    const Token third = moved(second, "update; level=aal3");
    assert_int_equal(session_of(third).record.level, Level::aal3);
    assert_text(session_of(third).record.roles, "root");
    assert_int_equal(session_of(second).record.level, Level::aal1);
    const Token fourth = moved(third, "update; roles=\"\"");
    assert_text(session_of(fourth).record.roles, "");
    assert_int_equal(session_of(fourth).record.authenticated, kNow);
}

// Would catch: two slow responses of one page that both regenerate: the browser keeps the token of
// the one that lost, and the user is out.
void a_second_change_through_the_old_handle_goes_to_the_successor(void**) {
    fresh_world();
    const Token old = created(R"(create; user="alice"; roles="a b"; data.x="1")");
    const Token fresh = moved(old, "renew");
    assert_done_in_place(change(old, R"(update; roles="b"; level=aal2; data.x="2")"));
    const Session session = session_of(fresh);
    assert_text(session.record.roles, "b");
    assert_int_equal(session.record.level, Level::aal2);
    assert_text(attribute_of(session, "x"), "2");
    assert_false(session.restricted);
    assert_done_in_place(change(old, "renew"));
    assert_done_in_place(change(old, "update; data.x=\"3\""));
    assert_text(attribute_of(session_of(fresh), "x"), "3");
    // However late: rights taken away are taken away.
    assert_done_in_place(change(old, "update; roles=\"\"", kNow + kMinute));
    assert_text(session_of(fresh, kNow + kMinute).record.roles, "");
    assert_int_equal(live_sessions(), 2);
}

// Would catch: a change that is made again, for it came second on another node, and hands out a
// token that nobody is sent: the user is thrown out.
void a_change_made_again_keeps_the_handle_whatever_it_changes(void**) {
    fresh_world();
    const Token token = created();
    for (const std::string_view header :
         {"update; roles=\"reader\"; data.x=\"1\"", "renew", "reauth; level=aal3"}) {
        assert_done_in_place(change_again(world.realm, world.random, token.handle, command(header),
                                          kMaxData, kNow + kSecond, work()));
    }
    const Session session = session_of(token);
    assert_text(session.record.roles, "reader");
    assert_int_equal(session.record.level, Level::aal3);
    assert_int_equal(session.record.change_counter, 3);
    assert_int_equal(session.slot.superseded_until, 0);
    assert_int_equal(live_sessions(), 1);
}

// Would catch: a second successor of one handle, of which one would never be ended; and rights
// taken away by a late response that are not, because the session has moved on too often.
void a_second_change_follows_the_whole_chain(void**) {
    fresh_world();
    const Token first = created();
    Token last = first;
    for (std::uint64_t i = 1; i <= 10; ++i) {
        last = moved(last, "renew");
        assert_done_in_place(
            change(first, i % 2 == 0 ? "update; roles=\"a\"" : "update; roles=\"\""));
        assert_text(session_of(last).record.roles, i % 2 == 0 ? "a" : "");
        assert_int_equal(live_sessions(), i + 1);
    }
}

// Would catch: a damaged chain that leads back to itself, walked for ever.
void a_chain_that_bites_its_tail_is_gone_and_can_be_ended(void**) {
    fresh_world();
    const Token one = created();
    const Token two = created();
    supersede(one, two, kNow + kRegenerationWindow);
    supersede(two, one, kNow + kRegenerationWindow);
    assert_refused(change(one, "renew"), Change::gone);
    assert_true(end_session(world.realm, one.handle, Departure::ended, kNow));
    assert_int_equal(live_sessions(), 0);
}

// Would catch: attributes over max_data, or a write beyond the work space (the sanitizer sees it).
void attributes_over_the_limit_change_nothing(void**) {
    fresh_world();
    static const std::string half(kMaxData / 2 - 8, 'v');
    static std::string header;
    header = "update; data.a=\"" + half + "\"; data.b=\"" + half + "\"";
    const Token token = created(R"(create; user="alice"; data.c="1")");
    assert_done_in_place(change(token, "update; data.c=\"\""));
    assert_done_in_place(change(token, header));
    assert_int_equal(attribute_of(session_of(token), "b").size(), half.size());
    assert_refused(change(token, "update; data.c=\"123456789\"; data.d=\"123456789\""),
                   Change::too_large);
    assert_refused(change(token, "update; roles=\"x\"; data.d=\"123456789\""), Change::too_large);
    const Session session = session_of(token);
    assert_text(attribute_of(session, "c"), "(none)");
    assert_text(session.record.roles, "");
    moved(token, "renew");
}

// Would catch: a session of the greatest size that can be created and then not changed.
void the_largest_session_can_be_changed(void**) {
    fresh_world();
    static std::string header;
    header = "create; user=\"" + std::string(255, 'u') + "\"; roles=\"";
    for (int i = 0; i < 32; ++i) {
        header += (i > 0 ? " " : "") + std::string(62, 'r') + std::to_string(10 + i);
    }
    header += "\"; data.a=\"" + std::string(kMaxData - 4, 'v') + "\"";
    const Token token = created(header);
    const Token fresh = moved(token, "reauth; level=aal3");
    assert_int_equal(attribute_of(session_of(fresh), "a").size(), kMaxData - 4);
    assert_done_in_place(change(fresh, "update; data.a=\"\""));
    assert_int_equal(session_of(fresh).record.roles.size(), 32 * 65 - 1);
}

// Would catch: sessions that can no longer be renewed after a reload that lowered max_data; they
// may stay as large as they are, but not grow.
void a_session_over_a_lowered_limit_can_be_changed(void**) {
    fresh_world();
    static std::string header;
    header = "create; user=\"alice\"; data.a=\"" + std::string(8000, 'v') + "\"";
    Token token = created(header);
    const auto with_limit = [&](std::string_view text) {
        return change_session(world.realm, world.random, token.handle, command(text), 256, kNow,
                              work());
    };
    const Changed renewed = with_limit("renew");
    assert_int_equal(renewed.result, Change::done);
    token = *renewed.token;
    assert_int_equal(attribute_of(session_of(token), "a").size(), 8000);
    assert_refused(with_limit("update; data.b=\"1\""), Change::too_large);
    assert_done_in_place(with_limit("update; data.a=\"\"; data.b=\"1\""));
    assert_text(attribute_of(session_of(token), "b"), "1");
}

// Would catch: a login or renewal with yesterday's bytes, or one that leaves the old session half
// changed.
void without_random_bytes_a_renewal_changes_nothing(void**) {
    fresh_world();
    const Token token = created();
    world.random = RandomPool(fake_random);
    random_works = false;
    assert_refused(change(token, "renew"), Change::no_random);
    assert_refused(change(token, "update; roles=\"root\""), Change::no_random);
    assert_text(session_of(token).record.roles, "editor admin");
    assert_false(session_of(token).restricted);
    // What needs no handle needs no random bytes.
    assert_done_in_place(change(token, "update; data.x=\"1\""));
    random_works = true;
    moved(token, "renew");
}

// Would catch: a record that cannot be read overwritten by what is believed to be in it.
void a_record_it_cannot_read_is_not_changed(void**) {
    fresh_world();
    const Token token = genuine_token();
    std::array<std::uint8_t, 512> bytes;
    const std::size_t size = encode_record(login_record(), bytes);
    bytes[0] = 2;
    {
        LockedShard shard = world.table->lock(token.handle);
        world.table->insert(shard, token, ByteView(bytes).first(size), kNow, kLimits, kNow);
    }
    assert_refused(change(token, "renew"), Change::damaged);
    assert_refused(change(token, "update; data.x=\"1\""), Change::damaged);
    assert_true(is_live(world.realm, token, kNow));
    // Ended it can be all the same.
    assert_true(end_session(world.realm, token.handle, Departure::ended, kNow));
    assert_false(is_live(world.realm, token, kNow));
}

// ---- what has ended stays ended

// Threat: resurrection by a slow request. Would catch: a session brought back by a late response.
void a_late_change_does_not_bring_an_ended_session_back(void**) {
    fresh_world();
    const char* const headers[] = {"renew", "reauth; level=aal3", "update; roles=\"root\"",
                                   "update; data.x=\"1\""};
    for (const char* const header : headers) {
        const Token token = created();
        assert_true(end_session(world.realm, token.handle, Departure::ended, kNow));
        assert_refused(change(token, header), Change::gone);
        assert_status(status_of_token(token), Status::ended);
    }
    const Token never = genuine_token();
    assert_refused(change(never, "renew"), Change::gone);
    const Token idle = created();
    for (const char* const header : headers) {
        assert_refused(change(idle, header, kNow + kTimeouts.idle), Change::gone);
    }
    assert_int_equal(live_sessions(), 1);
}

// What another worker does between the reading of the session and the writing of the change: random
// bytes are asked for just then.
void (*meanwhile)() = nullptr;
Token raced;

bool random_meanwhile(ByteSpan out) noexcept {
    if (meanwhile != nullptr) {
        meanwhile();
        meanwhile = nullptr;
    }
    return fake_random(out);
}

Changed change_while(const Token& token, std::string_view header, void (*other)()) {
    raced = token;
    meanwhile = other;
    static RandomPool random(random_meanwhile);
    random = RandomPool(random_meanwhile);
    const ByteSpan space = work();
    static std::array<std::uint8_t, kWorkBytes> own;  // `other` uses work() too
    std::copy(space.begin(), space.end(), own.begin());
    return change_session(world.realm, random, token.handle, command(header), kMaxData,
                          kNow + kSecond, own);
}

// Threat: resurrection by a slow request. Would catch: a new handle that outlives a logout on
// another worker.
void a_session_ended_during_a_renewal_stays_ended(void**) {
    fresh_world();
    const Changed changed = change_while(
        created(), "renew", [] { end_session(world.realm, raced.handle, Departure::ended, kNow); });
    assert_refused(changed, Change::gone);
    assert_int_equal(live_sessions(), 0);
    assert_status(status_of_token(raced), Status::ended);
}

// Would catch: two successors of one handle, and rights taken away that are not because another
// worker renewed at the same moment.
void a_session_renewed_during_an_update_is_updated_all_the_same(void**) {
    fresh_world();
    static Token fresh;
    const Changed changed =
        change_while(created(), "update; roles=\"reader\"", [] { fresh = moved(raced, "renew"); });
    assert_done_in_place(changed);
    assert_text(session_of(fresh).record.roles, "reader");
    assert_int_equal(live_sessions(), 2);
    assert_true(session_of(raced).restricted);
    assert_text(session_of(raced).record.roles, "");
}

// Would catch: what another worker stored a moment ago overwritten by the copy a renewal was made
// of.
void an_update_during_an_update_of_rights_is_not_lost(void**) {
    fresh_world();
    const Changed changed = change_while(created(), "update; roles=\"reader\"", [] {
        assert_done_in_place(change(raced, "update; data.theme=\"dark\""));
    });
    assert_int_equal(changed.result, Change::done);
    assert_true(changed.token.has_value());
    assert_text(session_of(*changed.token).record.roles, "reader");
    assert_text(attribute_of(session_of(*changed.token), "theme"), "dark");
    assert_int_equal(live_sessions(), 2);
}

// One worker of the next test: true when each change that was confirmed is still there after it.
bool changes_stay(const Token& token, const char* name) {
    static std::array<char, 64> header;
    for (int i = 0; i < 20'000; ++i) {
        std::snprintf(header.data(), header.size(), "update; data.%s=\"%d\"", name, i);
        if (change(token, header.data()).result != Change::done) {
            continue;  // the others were quicker four times
        }
        const Outcome outcome = ask({text_of(token)}, kNow + kSecond, 64 * 1024);
        if (outcome.status != Status::valid ||
            attribute_of(outcome.session, name) != std::to_string(i)) {
            return false;
        }
    }
    return true;
}

// Would catch: two slow responses at once, of which one undoes what the other has stored.
void updates_by_two_workers_do_not_undo_each_other(void**) {
    fresh_world();
    const Token token = created();
    const pid_t other = fork();
    if (other == 0) {
        _exit(changes_stay(token, "one") ? 0 : 1);
    }
    const bool stayed = changes_stay(token, "two");
    int status = 0;
    assert_int_equal(waitpid(other, &status, 0), other);
    assert_int_equal(status, 0);
    assert_true(stayed);
}

// Threat: logout that does not end it. Would catch: a successor that outlives the logout, from
// whichever handle of the chain the logout comes, however long the chain has become.
void end_ends_every_successor(void**) {
    for (const std::size_t length : {2u, 3u, 5u, 6u, 12u}) {
        fresh_world();
        static std::array<Token, 12> chain;
        chain[0] = created();
        for (std::size_t i = 1; i < length; ++i) {
            chain[i] = moved(chain[i - 1], "renew");
        }
        const Token stranger = created();
        assert_true(end_session(world.realm, chain[0].handle, Departure::ended, kNow));
        for (std::size_t i = 0; i < length; ++i) {
            assert_status(status_of_token(chain[i]), Status::ended);
            assert_false(holds_session(world.realm, chain[i], kNow));
        }
        assert_status(status_of_token(stranger), Status::valid);
        assert_int_equal(live_sessions(), 1);
    }
}

// Would catch: an old handle good for ten more seconds after the logout of the new one.
void ending_the_successor_ends_the_old_handle(void**) {
    fresh_world();
    const Token old = created();
    const Token fresh = moved(old, "renew");
    assert_true(end_session(world.realm, fresh.handle, Departure::ended, kNow));
    assert_status(status_of_token(old), Status::ended);
    assert_refused(change(old, "update; data.x=\"1\""), Change::gone);
}

// Would catch: a logout of a session that is not here (it may be in the store, or arrive late)
// forgotten.
void ending_what_is_not_here_leaves_a_tombstone(void**) {
    fresh_world(256 * 1024, true);
    const Token token = genuine_token();
    assert_false(end_session(world.realm, token.handle, Departure::ended, kNow));
    assert_status(status_of_token(token), Status::ended);
    assert_false(end_session(world.realm, token.handle, Departure::ended, kNow));
}

// Would catch: a tombstone that is gone while the session it stands for could still be alive
// elsewhere.
void a_tombstone_outlives_the_absolute_timeout(void**) {
    fresh_world();
    const Token token = created();
    end_session(world.realm, token.handle, Departure::ended, kNow);
    const TimeMs until = kNow + kTimeouts.absolute + kTombstoneSlack;
    assert_status(status_of_token(token, until - 1), Status::ended);
    assert_status(status_of_token(token, until), Status::absent);
}

// Would catch: `create` telling the old session's user "logged out" instead of "replaced".
void the_reason_of_the_end_is_kept(void**) {
    fresh_world();
    const Token token = created();
    end_session(world.realm, token.handle, Departure::regenerated, kNow);
    assert_status(status_of_token(token), Status::regenerated);
}

// ---- is it live

// Would catch: a Set-Cookie sent for a session that a logout ended while the response was under
// way.
void is_live_is_true_for_the_current_credential_only(void**) {
    fresh_world();
    const Token old = created();
    assert_true(is_live(world.realm, old, kNow));
    assert_true(holds_session(world.realm, old, kNow));
    const Token fresh = moved(old, "renew");
    assert_false(is_live(world.realm, old, kNow));
    assert_true(holds_session(world.realm, old, kNow));
    assert_true(is_live(world.realm, fresh, kNow));
    Token tampered = fresh;
    tampered.secret[0] ^= 1;
    assert_false(is_live(world.realm, tampered, kNow));
    assert_false(holds_session(world.realm, tampered, kNow));
    end_session(world.realm, fresh.handle, Departure::ended, kNow);
    assert_false(is_live(world.realm, fresh, kNow));
    assert_false(holds_session(world.realm, fresh, kNow));
    assert_false(is_live(world.realm, genuine_token(), kNow));
}

// Would catch: a large session that is not live because its record does not fit a small buffer.
void is_live_and_end_work_for_large_sessions(void**) {
    fresh_world();
    static std::string header;
    header = "create; user=\"alice\"; data.a=\"" + std::string(4000, 'v') + "\"";
    const Token token = created(header);
    assert_true(is_live(world.realm, token, kNow));
    const Token fresh = moved(token, "renew");
    assert_true(is_live(world.realm, fresh, kNow));
    assert_true(end_session(world.realm, token.handle, Departure::ended, kNow));
    assert_false(is_live(world.realm, fresh, kNow));
}

// Would catch: cells lost on any way, until the zone is full of nothing.
void no_cell_is_lost_over_many_lives(void**) {
    fresh_world(64 * 1024);
    static std::string header;
    header = "update; data.a=\"" + std::string(1500, 'v') + "\"";
    for (int i = 0; i < 500; ++i) {
        const Token token = created();
        const Token second = moved(token, "renew");
        assert_done_in_place(change(second, header));
        const Token third = moved(second, "update; roles=\"x\"; data.a=\"\"");
        assert_done_in_place(change(third, "update; data.b=\"1\""));
        assert_true(end_session(world.realm, token.handle, Departure::ended, kNow));
        assert_int_equal(world.table->stats().cells_used, 0);
    }
    assert_null(broken_invariant(*world.table));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(create_stores_what_the_application_said),
        cmocka_unit_test(create_gives_the_least_where_nothing_is_said),
        cmocka_unit_test(create_links_nothing),
        cmocka_unit_test(nothing_is_created_without_random_bytes),
        cmocka_unit_test(nothing_is_created_without_keys),
        cmocka_unit_test(a_full_zone_refuses_logins_and_keeps_sessions),
        cmocka_unit_test(renew_moves_everything_to_a_new_handle),
        cmocka_unit_test(after_renew_the_old_handle_passes_restricted_for_ten_seconds),
        cmocka_unit_test(reauth_sets_the_authentication_time_and_the_level),
        cmocka_unit_test(no_change_extends_the_absolute_timeout),
        cmocka_unit_test(a_change_is_no_activity),
        cmocka_unit_test(an_update_of_attributes_keeps_the_handle),
        cmocka_unit_test(an_update_of_roles_or_level_regenerates),
        cmocka_unit_test(a_second_change_through_the_old_handle_goes_to_the_successor),
        cmocka_unit_test(a_change_made_again_keeps_the_handle_whatever_it_changes),
        cmocka_unit_test(a_second_change_follows_the_whole_chain),
        cmocka_unit_test(a_chain_that_bites_its_tail_is_gone_and_can_be_ended),
        cmocka_unit_test(attributes_over_the_limit_change_nothing),
        cmocka_unit_test(the_largest_session_can_be_changed),
        cmocka_unit_test(a_session_over_a_lowered_limit_can_be_changed),
        cmocka_unit_test(without_random_bytes_a_renewal_changes_nothing),
        cmocka_unit_test(a_record_it_cannot_read_is_not_changed),
        cmocka_unit_test(a_late_change_does_not_bring_an_ended_session_back),
        cmocka_unit_test(a_session_ended_during_a_renewal_stays_ended),
        cmocka_unit_test(a_session_renewed_during_an_update_is_updated_all_the_same),
        cmocka_unit_test(an_update_during_an_update_of_rights_is_not_lost),
        cmocka_unit_test(updates_by_two_workers_do_not_undo_each_other),
        cmocka_unit_test(end_ends_every_successor),
        cmocka_unit_test(ending_the_successor_ends_the_old_handle),
        cmocka_unit_test(ending_what_is_not_here_leaves_a_tombstone),
        cmocka_unit_test(a_tombstone_outlives_the_absolute_timeout),
        cmocka_unit_test(the_reason_of_the_end_is_kept),
        cmocka_unit_test(is_live_is_true_for_the_current_credential_only),
        cmocka_unit_test(is_live_and_end_work_for_large_sessions),
        cmocka_unit_test(no_cell_is_lost_over_many_lives),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
