// Rotation: the same new token for all who hold the old one, the old one good until the new one has
// come back and for a grace after that, and whoever comes with an older one ends the session.
#include "core/rotation.h"

#include "core/enforce.h"
#include "core/feed_state.h"
#include "core/handover.h"
#include "core/lifecycle.h"
#include "core/second_tier.h"
#include "unit/support.h"

namespace sg::test {
namespace {

constexpr TimeMs kRotate = 10 * kMinute;
constexpr TimeMs kGrace = 30 * kSecond;
std::array<std::uint8_t, kWorkBytes> work;

Token login(bool has_store = false) {
    fresh_world(256 * 1024, has_store);
    world.realm.rotate = kRotate;
    world.realm.rotation_grace = kGrace;
    world.realm.node = 7;
    ControlCommand command;
    command.verb = ControlVerb::create;
    command.user = "alice";
    const Changed changed = open_session(world.realm, world.random, command, kNow, work);
    assert_int_equal(changed.result, Change::done);
    return *changed.token;
}

// Keeps the session alive meanwhile.
void seen_at(const Token& token, TimeMs now) {
    const Outcome outcome = ask({text_of(token)}, now);
    touch_session(world.realm, outcome.session.slot, now);
    confirm(token, now);
}

Token next_of(const Token& token, TimeMs now) {
    const auto next = token_to_hand_out(world.realm, token, now);
    assert_true(next.has_value());
    assert_false(same_token(*next, token));
    assert_true(next->handle == token.handle);
    return *next;
}

void assert_nothing_to_hand_out(const Token& token, TimeMs now) {
    assert_false(token_to_hand_out(world.realm, token, now).has_value());
}

void assert_holds(const Token& token, Holding holding, TimeMs now) {
    const Outcome outcome = ask({text_of(token)}, now);
    assert_status(outcome.status, Status::valid);
    assert_int_equal(outcome.step, Outcome::Step::decided);
    assert_int_equal(outcome.session.holding, holding);
}

void assert_reused(const Token& token, TimeMs now) {
    const Outcome outcome = ask({text_of(token)}, now);
    assert_status(outcome.status, Status::ended);
    assert_true(outcome.reused);
}

// One rotation, seen at this moment.
Token rotated(const Token& token, TimeMs now) {
    seen_at(token, now);
    const Token next = next_of(token, now);
    assert_true(note_seen(world.realm, next, now, work));
    return next;
}

void a_token_is_replaced_when_it_is_old_enough(void**) {
    const Token token = login();
    assert_nothing_to_hand_out(token, kNow);
    assert_nothing_to_hand_out(token, kNow + kRotate - 1);
    next_of(token, kNow + kRotate);
    world.realm.rotate = 0;
    assert_nothing_to_hand_out(token, kNow + kRotate);
}

// Would catch: parallel requests, or nodes, that hand out different tokens, of which all but one
// are thrown out.
void all_who_hold_the_old_token_are_handed_the_same_new_one(void**) {
    const Token token = login();
    const Token one = next_of(token, kNow + kRotate);
    assert_true(same_token(one, next_of(token, kNow + kRotate + kMinute)));
    assert_int_equal(world.keys.check(one), TokenCheck::genuine);
}

// Would catch: a user thrown out because a response got lost.
void the_old_token_stays_good_until_the_new_one_has_come_back(void**) {
    const Token token = login();
    for (TimeMs now = kNow; now < kNow + 4 * kRotate; now += kMinute) {
        assert_holds(token, Holding::current, now);
        seen_at(token, now);
    }
}

void the_old_token_stays_good_for_the_grace_after_that(void**) {
    const Token old = login();
    const TimeMs seen = kNow + kRotate;
    const Token next = next_of(old, seen);
    assert_holds(next, Holding::next, seen);
    assert_true(note_seen(world.realm, next, seen, work));
    assert_holds(next, Holding::current, seen);
    assert_holds(old, Holding::previous, seen + kGrace - 1);
    assert_true(same_token(*token_to_hand_out(world.realm, old, seen + kGrace - 1), next));
    assert_nothing_to_hand_out(next, seen + kGrace);
    assert_reused(old, seen + kGrace);
}

// Threat: a copied cookie. Would catch: a thief, or a user after a thief, who stays in.
void a_token_of_any_age_is_reuse(void**) {
    const Token first = login();
    Token current = first;
    TimeMs now = kNow;
    for (int n = 0; n < 20; ++n) {
        now += kRotate;
        current = rotated(current, now);
    }
    assert_reused(first, now);
    assert_holds(current, Holding::current, now);  // it is the glue that ends it
}

// Threat: a bad guess ends somebody's session. Would catch: anything but the tag deciding first.
void a_forged_token_does_nothing_to_the_session(void**) {
    const Token old = login();
    const Token current = rotated(old, kNow + kRotate);
    Token forged = old;
    forged.tag[0] ^= 1;
    Outcome outcome = ask({text_of(forged)}, kNow + 2 * kRotate);
    assert_status(outcome.status, Status::forged);
    assert_false(outcome.reused);
    forged = old;
    forged.secret[3] ^= 1;
    assert_status(ask({text_of(forged)}, kNow + 2 * kRotate).status, Status::forged);
    assert_holds(current, Holding::current, kNow + kRotate);
}

// Another node has seen some rotations. Would catch: the browser that is ahead taken for a thief.
void a_copy_that_is_behind_accepts_what_is_ahead(void**) {
    const Token token = login();
    SessionView view;
    std::array<std::uint8_t, 512> bytes;
    look_up(world.realm, token.handle, view, bytes);
    const Record record = decode_record(ByteView(bytes).first(view.record_size)).value();
    const auto third = world.keys.token_of(token.key_id, token.handle, record.seed, 3);
    assert_holds(*third, Holding::next, kNow);
    assert_true(note_seen(world.realm, *third, kNow + kMinute, work));
    assert_holds(*third, Holding::current, kNow + kMinute);
    const auto second = world.keys.token_of(token.key_id, token.handle, record.seed, 2);
    assert_holds(*second, Holding::previous, kNow + kMinute);
    assert_reused(token, kNow + kMinute);
}

void a_seen_token_is_noted_once(void**) {
    const Token old = login();
    const TimeMs now = kNow + kRotate;
    const Token next = next_of(old, now);
    assert_true(note_seen(world.realm, next, now, work));
    assert_false(note_seen(world.realm, next, now, work));
    assert_false(note_seen(world.realm, old, now, work));
}

// Would catch: a rotation that loses data, the idle clock, or other times.
void rotation_changes_nothing_else(void**) {
    const Token old = login();
    const Outcome before = ask({text_of(old)}, kNow);
    const std::string user(before.session.record.user);
    const PublicId id = before.session.record.public_id;
    const Token current = rotated(old, kNow + kRotate);
    const Outcome after = ask({text_of(current)}, kNow + kRotate);
    assert_text(after.session.record.user, user);
    assert_true(after.session.record.public_id == id);
    assert_int_equal(after.session.ages.created, kNow);
    assert_int_equal(after.session.ages.last_seen, kNow + kRotate);
    assert_int_equal(after.session.record.generation, 1);
    assert_int_equal(after.session.record.change_counter, 1);
    assert_int_equal(after.session.record.node, 7);
}

// Threat: an old cookie of a wider path beside the new one. Would catch: the user's own browser
// taken for a thief's.
void of_several_tokens_of_a_session_the_newest_counts(void**) {
    const Token old = login();
    const TimeMs now = kNow + kRotate;
    const Token current = rotated(old, now);
    for (const TimeMs later : {now, now + kGrace}) {
        for (const bool first : {true, false}) {
            const Outcome outcome = first ? ask({text_of(old), text_of(current)}, later)
                                          : ask({text_of(current), text_of(old)}, later);
            assert_status(outcome.status, Status::valid);
            assert_true(same_token(outcome.token, current));
            assert_false(outcome.reused);
        }
    }
    seen_at(current, now + kRotate);
    const Token next = next_of(current, now + kRotate);
    const Outcome outcome = ask({text_of(current), text_of(next)}, now + kRotate);
    assert_true(same_token(outcome.token, next));
}

// A request took so long at this node that its browser has had two rotations at another one. Would
// catch: the browser given an old token back, and thrown out with it.
void a_copy_that_may_be_two_rotations_behind_hands_out_nothing(void**) {
    const Token token = login(true);
    const TimeMs now = kNow + kRotate;
    confirm(token, now - kRotate / 2);
    next_of(token, now);
    confirm(token, now - kRotate / 2 - 1);
    assert_nothing_to_hand_out(token, now);
    FeedState feed;  // it would have told
    feed.missed(kNow - kRotate);
    feed.followed(now);
    world.realm.feed = &feed;
    next_of(token, now);
    feed.told(token.handle, false, now);
    confirm(token, now - 1);
    assert_nothing_to_hand_out(token, now);
    world.realm.feed = nullptr;
}

// Threat: a late response brings back what logout took away. Would catch: a token handed out for a
// session that has ended, or has another handle by now.
void nothing_is_handed_out_for_a_session_that_is_gone(void**) {
    const Token token = login();
    const TimeMs now = kNow + kRotate;
    next_of(token, now);
    ControlCommand renew;
    renew.verb = ControlVerb::renew;
    const Changed changed =
        change_session(world.realm, world.random, token.handle, renew, kMaxData, now, work);
    assert_nothing_to_hand_out(token, now);
    assert_nothing_to_hand_out(*changed.token, now);  // it is new
    end_session(world.realm, changed.token->handle, Departure::ended, now);
    assert_nothing_to_hand_out(*changed.token, now + kRotate);
}

// A new handle begins a chain of its own. Would catch: one whose tokens the old holder can tell.
void a_new_handle_has_a_new_chain(void**) {
    const Token token = login();
    const Token current = rotated(token, kNow + kRotate);
    ControlCommand renew;
    renew.verb = ControlVerb::renew;
    const TimeMs now = kNow + kRotate;
    const Changed changed =
        change_session(world.realm, world.random, current.handle, renew, kMaxData, now, work);
    const Outcome outcome = ask({text_of(*changed.token)}, now);
    assert_int_equal(outcome.session.record.generation, 0);
    assert_nothing_to_hand_out(*changed.token, now + kRotate - kSecond);
    seen_at(*changed.token, now + kRotate);
    next_of(*changed.token, now + kRotate);
    // The old handle passes restricted, with the token before its last one too, and is no reuse.
    assert_true(ask({text_of(token)}, now).session.restricted);
    assert_status(ask({text_of(token)}, now + kGrace).status, Status::regenerated);
    assert_false(ask({text_of(token)}, now + kGrace).reused);
}

// Would catch: a logout that the browser sends with the token before the last one, and is not
// heeded.
void a_logout_with_the_token_before_ends_the_session(void**) {
    const Token old = login();
    const TimeMs now = kNow + kRotate;
    const Token next = next_of(old, now);
    assert_true(holds_session(world.realm, next, now));  // it has not been seen yet
    assert_true(is_live(world.realm, next, now));
    assert_false(is_replaced(world.realm, next, now));
    assert_true(note_seen(world.realm, next, now, work));
    assert_true(holds_session(world.realm, old, now));
    assert_false(is_live(world.realm, old, now));
    assert_true(is_replaced(world.realm, old, now));
    assert_false(holds_session(world.realm, old, now + kGrace));
}

// Would catch: theft told by one node's copy alone, which may be the one that is wrong.
void reuse_is_asked_of_the_store_first(void**) {
    const Token old = login(true);
    const Token current = rotated(old, kNow + kRotate);
    confirm(current, kNow + kRotate);
    const TimeMs now = kNow + kRotate + kGrace;
    const Outcome outcome = ask({text_of(old)}, now);
    assert_int_equal(outcome.step, Outcome::Step::needs_store);
    assert_true(outcome.reused);
}

// The token is judged by what the store has, when the zone does not have the session.
void what_the_store_has_decides_which_token_it_is(void**) {
    const Token old = login(true);
    const Token current = rotated(old, kNow + kRotate);
    SessionView view;
    static std::array<std::uint8_t, 512> bytes;
    look_up(world.realm, current.handle, view, bytes);
    const ByteView record = ByteView(bytes).first(view.record_size);
    const StoreEntry entry = session_entry(world.realm, view, record).value();
    const TimeMs now = kNow + kRotate + kGrace;
    assert_status(resume(world.realm, current, entry, record, now).status, Status::valid);
    const Outcome reuse = resume(world.realm, old, entry, record, now);
    assert_status(reuse.status, Status::ended);
    assert_true(reuse.reused);
    const Outcome grace = resume(world.realm, old, entry, record, now - 1);
    assert_status(grace.status, Status::valid);
    assert_int_equal(grace.session.holding, Holding::previous);
}

// Would catch: somebody thrown out because OpenSSL, or a key that is gone, could not tell.
void what_cannot_be_told_ends_nothing(void**) {
    const Token old = login();
    rotated(old, kNow + kRotate);
    const Token stranger = old;
    load(world.keys, "app", kKeyB);
    const Outcome outcome = ask({text_of(stranger)}, kNow + 2 * kRotate);
    assert_status(outcome.status, Status::unknown_key);
    assert_false(outcome.reused);
}

}  // namespace
}  // namespace sg::test

int main() {
    using namespace sg::test;
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_token_is_replaced_when_it_is_old_enough),
        cmocka_unit_test(all_who_hold_the_old_token_are_handed_the_same_new_one),
        cmocka_unit_test(the_old_token_stays_good_until_the_new_one_has_come_back),
        cmocka_unit_test(the_old_token_stays_good_for_the_grace_after_that),
        cmocka_unit_test(a_token_of_any_age_is_reuse),
        cmocka_unit_test(a_forged_token_does_nothing_to_the_session),
        cmocka_unit_test(a_copy_that_is_behind_accepts_what_is_ahead),
        cmocka_unit_test(a_seen_token_is_noted_once),
        cmocka_unit_test(rotation_changes_nothing_else),
        cmocka_unit_test(of_several_tokens_of_a_session_the_newest_counts),
        cmocka_unit_test(a_copy_that_may_be_two_rotations_behind_hands_out_nothing),
        cmocka_unit_test(nothing_is_handed_out_for_a_session_that_is_gone),
        cmocka_unit_test(a_new_handle_has_a_new_chain),
        cmocka_unit_test(a_logout_with_the_token_before_ends_the_session),
        cmocka_unit_test(reuse_is_asked_of_the_store_first),
        cmocka_unit_test(what_the_store_has_decides_which_token_it_is),
        cmocka_unit_test(what_cannot_be_told_ends_nothing),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
