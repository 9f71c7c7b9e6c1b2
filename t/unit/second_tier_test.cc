// What a store's answer means for the zone.
#include "core/second_tier.h"
#include "core/feed_state.h"

#include <string>
#include <vector>

#include "core/handover.h"
#include "core/journal.h"
#include "core/zone/shard_lock.h"
#include "unit/support.h"

using namespace sg;
using namespace sg::test;

namespace {

constexpr TimeMs kLater = kNow + kMinute;

// Remembers what it was told.
class Notebook final : public Journal {
  public:
    struct Note {
        Token token;
        bool ended = false;
        StoreEntry entry;  // of what was saved, without its record
    };
    void saved(const SessionView& view, ByteView record) noexcept override {
        Note note;
        note.token = view.token;
        const auto entry = session_entry(world.realm, view, record);
        if (entry) {
            note.entry = *entry;
            note.entry.record = {};
        }
        notes.push_back(note);
    }
    void ended(const Token& token, Departure why, TimeMs until) noexcept override {
        notes.push_back({.token = token, .ended = true, .entry = ended_entry(why, until)});
    }
    std::vector<Note> notes;
};

Notebook notebook;
std::array<std::uint8_t, kWorkBytes> work;

void fresh() {
    fresh_world(256 * 1024, true);
    notebook.notes.clear();
    world.realm.journal = &notebook;
}

ByteView encoded(const Record& record) {
    static std::array<std::uint8_t, 2048> bytes;
    return ByteView(bytes).first(encode_record(record, bytes));
}

Record changed_record(std::uint32_t counter, std::string_view roles = "editor admin") {
    Record record = login_record(kNow, roles);
    record.change_counter = counter;
    return record;
}

StoreEntry entry_of(const Token& token, const Record& record, TimeMs last_seen = kNow) {
    SessionView view;
    view.token = token;
    view.last_seen = last_seen;
    return session_entry(world.realm, view, encoded(record)).value();
}

Lesson learn_found(const Token& token, const StoreEntry& entry, TimeMs now = kLater) {
    return learn(world.realm, token, {StoreAnswer::found, entry, now}, now, work);
}

Lesson learn_nothing(const Token& token, StoreAnswer answer, TimeMs now) {
    return learn(world.realm, token, {answer, {}, now}, now, work);
}

void assert_known(const Lesson& lesson) {
    assert_int_equal(lesson.learned, Learned::known);
}

void assert_gone(const Lesson& lesson, Status status) {
    assert_int_equal(lesson.learned, Learned::gone);
    assert_status(lesson.status, status);
}

struct Here {
    FindResult found = FindResult::absent;
    SessionView view;
    Record record;
};

Here here(const Token& token) {
    static std::array<std::uint8_t, 2048> bytes;
    Here now;
    now.found = look_up(world.realm, token.handle, now.view, bytes);
    if (now.found == FindResult::found) {
        now.record = decode_record(ByteView(bytes).first(now.view.record_size)).value();
    }
    return now;
}

// Would catch: a session of another node, or of the time before a restart, that is not let in.
void a_session_of_the_store_comes_into_the_zone(void**) {
    fresh();
    const Token token = genuine_token();
    assert_known(learn_found(token, entry_of(token, changed_record(3), kNow + kSecond)));
    const Here now = here(token);
    assert_int_equal(now.found, FindResult::found);
    assert_true(same_token(now.view.token, token));
    assert_text(now.record.user, "alice");
    assert_int_equal(now.view.last_seen, kNow + kSecond);
    assert_int_equal(now.view.confirmed, kLater);
    assert_int_equal(notebook.notes.size(), 0);
}

// Threat: a mixed-up answer, a copied entry. Would catch: one user let in as another.
void an_entry_with_another_credential_is_nobodys(void**) {
    fresh();
    const Token token = genuine_token();
    assert_int_equal(learn_found(token, entry_of(genuine_token(), changed_record(0))).learned,
                     Learned::unknown);
    StoreEntry unreadable = entry_of(token, changed_record(0));
    unreadable.record = unreadable.record.first(unreadable.record.size() - 1);
    assert_int_equal(learn_found(token, unreadable).learned, Learned::unknown);
    assert_int_equal(here(token).found, FindResult::absent);
}

// Threat: resurrection. Would catch: a logout here undone by what the store still says, whenever
// the answer comes.
void what_was_ended_here_stays_ended(void**) {
    fresh();
    const Token token = put_session(login_record());
    const StoreEntry entry = entry_of(token, changed_record(9));
    end_session(world.realm, token.handle, Departure::ended, kNow);
    assert_gone(learn_found(token, entry), Status::ended);
    assert_gone(learn_nothing(token, StoreAnswer::absent, kLater), Status::ended);
    assert_int_equal(here(token).found, FindResult::absent);
}

// Would catch: a session ended on another node that goes on here.
void what_was_ended_elsewhere_ends_here(void**) {
    fresh();
    const Token token = put_session(login_record());
    assert_gone(learn_found(token, ended_entry(Departure::expired_absolute, kNow + kHour)),
                Status::expired_absolute);
    assert_int_equal(here(token).found, FindResult::absent);
    assert_true(world.table->find_tombstone(token.handle, kLater) == Departure::expired_absolute);
    const Token unknown = genuine_token();
    assert_gone(learn_found(unknown, ended_entry(Departure::ended, kNow + kHour)), Status::ended);
}

// Would catch: rights that were taken away on another node and stay here; and a change made here
// undone by an older state of the store.
void the_later_state_wins_in_both_directions(void**) {
    fresh();
    const Token token = put_session(changed_record(2, "editor admin"));
    assert_known(learn_found(token, entry_of(token, changed_record(3, "reader"))));
    assert_text(here(token).record.roles, "reader");
    assert_int_equal(notebook.notes.size(), 0);

    assert_known(learn_found(token, entry_of(token, changed_record(1, "root"))));
    assert_text(here(token).record.roles, "reader");
    assert_int_equal(notebook.notes.size(), 1);  // the store is behind: told again
    assert_int_equal(notebook.notes[0].entry.version.counter, 3);

    assert_known(learn_found(token, entry_of(token, changed_record(3, "reader"))));
    assert_int_equal(notebook.notes.size(), 1);
}

// Two nodes changed one session at the same moment. Would catch: two nodes that go on with
// different states, and write them over each other for ever.
void of_two_changes_made_from_one_state_the_stores_counts(void**) {
    for (const std::uint64_t there : {world.realm.node + 1, world.realm.node - 1}) {
        fresh();
        Record record = changed_record(2, "editor");
        record.node = world.realm.node;
        const Token token = put_session(record);
        record = changed_record(2, "reader");
        record.node = there;
        assert_known(learn_found(token, entry_of(token, record)));
        assert_text(here(token).record.roles, "reader");
        assert_int_equal(notebook.notes.size(), 0);
    }
}

// Threat: a role taken away by a new handle, and the old handle goes on with it. Would catch: a
// replaced session brought back by a change that another node made to it.
void a_replaced_session_stays_replaced_however_often_it_was_changed_elsewhere(void**) {
    fresh();
    const Token token = put_session(changed_record(1));
    ControlCommand renew;
    renew.verb = ControlVerb::renew;
    const Changed renewed =
        change_session(world.realm, world.random, token.handle, renew, kMaxData, kNow, work);
    assert_int_equal(renewed.result, Change::done);
    const StoreEntry replaced = notebook.notes[1].entry;
    const StoreEntry changed = entry_of(token, changed_record(1000));
    assert_true(overtakes(replaced, changed) && wins(replaced, changed));
    notebook.notes.clear();
    assert_known(learn_found(token, changed));
    assert_true(here(token).view.superseded_until != 0);
    assert_int_equal(notebook.notes.size(), 1);  // the store is told so
    assert_true(notebook.notes[0].entry.superseded_until != 0);
}

// Would catch: a user who is busy on another node and idle here, or the other way round.
void last_seen_is_the_latest_of_both(void**) {
    fresh();
    const Token token = put_session(login_record(), kNow + 30 * kSecond);
    assert_known(learn_found(token, entry_of(token, changed_record(0), kNow + 10 * kSecond)));
    assert_int_equal(here(token).view.last_seen, kNow + 30 * kSecond);
    assert_known(learn_found(token, entry_of(token, changed_record(0), kNow + 50 * kSecond)));
    assert_int_equal(here(token).view.last_seen, kNow + 50 * kSecond);
}

// Would catch: a live session thrown out because the store has lost it; and one that has expired
// written again.
void a_live_session_that_the_store_lost_is_written_again(void**) {
    fresh();
    const Token token = put_session(login_record());
    assert_known(learn_nothing(token, StoreAnswer::absent, kLater));
    assert_int_equal(notebook.notes.size(), 1);
    assert_true(same_token(notebook.notes[0].token, token));
    assert_int_equal(here(token).view.confirmed, kLater);
    learn_nothing(token, StoreAnswer::absent, kNow + kTimeouts.idle);
    assert_int_equal(notebook.notes.size(), 1);
    assert_gone(learn_nothing(genuine_token(), StoreAnswer::absent, kLater), Status::absent);
}

// Would catch: an outage taken for an answer.
void no_answer_teaches_nothing(void**) {
    fresh();
    const Token token = put_session(login_record());
    assert_int_equal(learn_nothing(token, StoreAnswer::unknown, kLater).learned, Learned::unknown);
    assert_int_equal(here(token).found, FindResult::found);
    assert_int_equal(here(token).view.confirmed, 0);
}

// Would catch: an old handle that was replaced elsewhere and passes here with all its rights.
void a_replaced_handle_is_replaced_here_too(void**) {
    fresh();
    const Token token = put_session(login_record());
    const Token successor = genuine_token();
    SessionView view;
    view.token = token;
    view.last_seen = kNow;
    view.superseded_until = kLater + kSecond;
    view.successor = successor.handle;
    const StoreEntry entry = session_entry(world.realm, view, encoded(login_record())).value();
    assert_known(learn_found(token, entry));
    assert_int_equal(here(token).view.superseded_until, kLater + kSecond);
}

// Would catch: parallel requests thrown out because the session was regenerated on another node,
// and one that passes for longer than its ten seconds.
void a_handle_replaced_elsewhere_comes_in_for_the_rest_of_its_time(void**) {
    fresh();
    SessionView view;
    view.token = genuine_token();
    view.last_seen = kNow;
    view.superseded_until = kLater + kSecond;
    view.successor = genuine_token().handle;
    const StoreEntry entry = session_entry(world.realm, view, encoded(login_record())).value();
    assert_known(learn_found(view.token, entry));
    assert_true(here(view.token).view.successor == view.successor);
    assert_int_equal(here(view.token).view.superseded_until, kLater + kSecond);

    view.token = genuine_token();
    const StoreEntry late = session_entry(world.realm, view, encoded(login_record())).value();
    assert_gone(learn_found(view.token, late, kLater + kSecond), Status::regenerated);
    assert_int_equal(here(view.token).found, FindResult::absent);
}

// The sealed entry of the old handle vouches for it. Would catch: a successor of another node that
// nobody can use; and any other entry taken for it.
void a_successor_is_learnt_without_its_secret(void**) {
    fresh();
    const Token token = genuine_token();
    Token asked;
    asked.key_id = token.key_id;
    asked.handle = token.handle;
    const StoreEntry entry = entry_of(token, changed_record(0));
    assert_known(learn_found(asked, entry));
    assert_true(same_token(here(token).view.token, token));
    asked.handle[0] ^= 1;
    assert_int_equal(learn_found(asked, entry).learned, Learned::unknown);
}

// Would catch: a store that lets in fewer sessions than it holds, once the zone is full; and one
// that drives out what is nowhere else.
void only_what_the_store_holds_makes_room(void**) {
    fresh();
    std::vector<Token> all;
    world.realm.has_store = false;
    for (;;) {
        const Token token = genuine_token();
        LockedShard shard = world.table->lock(token.handle);
        if (world.table->insert(shard, token, encoded(login_record()),
                                kNow + static_cast<TimeMs>(all.size()),
                                {.idle = kTimeouts.idle, .absolute = kTimeouts.absolute},
                                kNow) != InsertResult::inserted) {
            break;
        }
        all.push_back(token);
    }
    world.realm.has_store = true;
    const Token first = genuine_token();
    assert_int_equal(learn_found(first, entry_of(first, changed_record(0))).learned,
                     Learned::no_room);

    note_held(world.realm, entry_of(all[5], changed_record(1)));  // another state: not held
    assert_int_equal(learn_found(first, entry_of(first, changed_record(0))).learned,
                     Learned::no_room);
    note_held(world.realm, entry_of(all[7], changed_record(0)));
    note_held(world.realm, entry_of(all[3], changed_record(0)));
    assert_known(learn_found(first, entry_of(first, changed_record(0))));
    assert_int_equal(here(all[7]).found, FindResult::found);
    assert_int_equal(here(all[3]).found, FindResult::absent);  // the least recently active
    assert_false(world.table->find_tombstone(all[3].handle, kLater).has_value());
}

// Fills the zone with sessions that nobody else has. Returns them.
std::vector<Token> fill_zone() {
    std::vector<Token> all;
    for (;;) {
        const Token token = genuine_token();
        LockedShard shard = world.table->lock(token.handle);
        if (world.table->insert(shard, token, encoded(login_record()), kNow,
                                {.idle = kTimeouts.idle, .absolute = kTimeouts.absolute},
                                kNow) != InsertResult::inserted) {
            return all;
        }
        all.push_back(token);
    }
}

// Threat: rights taken away on another node. Would catch: a copy with the old ones, which counts as
// confirmed because the newer state found no room.
void a_newer_state_that_finds_no_room_confirms_nothing(void**) {
    fresh();
    FeedState feed;
    world.realm.feed = &feed;
    const Token token = fill_zone()[0];
    confirm(token, kNow);
    feed.missed(kNow - kSecond);
    feed.followed(kLater);
    assert_status(status_of({text_of(token)}, kLater), Status::valid);  // vouched for
    const StoreEntry newer = entry_of(token, changed_record(1, "reader"));
    assert_int_equal(learn_found(token, newer).learned, Learned::no_room);
    const Outcome outcome = ask({text_of(token)}, kLater + 1);
    assert_int_equal(outcome.step, Outcome::Step::needs_store);
    world.realm.feed = nullptr;
}

// Would catch: a session that another node has made under a key which does not mint here yet, and
// which goes on when the handle it came from is ended.
void a_successor_ends_whichever_key_it_was_made_with(void**) {
    fresh();
    static const std::string keys = std::string(kKeyA) + "\n" + std::string(kKeyB) + " current\n";
    load(world.keys, "app", keys);
    const Token elsewhere = genuine_token();
    end_successor(world.realm, elsewhere.handle, Departure::ended, kNow);
    assert_int_equal(notebook.notes.size(), 2);
    const auto& notes = notebook.notes;
    assert_true(notes[0].ended && notes[1].ended);
    assert_true(notes[0].token.handle == elsewhere.handle);
    assert_true(notes[1].token.handle == elsewhere.handle);
    assert_int_equal(notes[0].token.key_id, world.keys.current_id());
    assert_int_not_equal(notes[1].token.key_id, notes[0].token.key_id);
    assert_true(world.keys.knows(notes[1].token.key_id));
}

// Would catch: a user who is busy on another node, and whom this one refuses without a question
// once the sweep has come by.
void a_session_swept_as_idle_is_asked_about(void**) {
    fresh();
    const TimeMs idle = kNow + kTimeouts.idle;
    for (const bool has_store : {true, false}) {
        const Token token = put_session(login_record());
        for (std::size_t i = 0; i < world.table->shard_count(); ++i) {
            LockedShard shard = world.table->lock_shard(i);
            world.table->sweep_shard(
                shard, {.idle = kTimeouts.idle, .absolute = kTimeouts.absolute, .evict = has_store},
                idle, world.table->cells_per_shard());
        }
        assert_int_equal(here(token).found, FindResult::absent);
        assert_int_equal(world.table->find_tombstone(token.handle, idle).has_value(), !has_store);
        if (has_store) {
            assert_known(learn_found(token, entry_of(token, changed_record(0), idle), idle));
            assert_int_equal(here(token).view.last_seen, idle);
        }
    }
}

// The order of events is the order of versions. Would catch: a store that keeps the state before.
void every_change_is_told_and_wins_over_the_one_before(void**) {
    fresh();
    ControlError error;
    static std::array<std::uint8_t, 512> scratch;
    const auto command = [&](std::string_view text) {
        return parse_control(text, kMaxData, scratch, error).value();
    };
    const Changed opened =
        open_session(world.realm, world.random, command("create; user=\"a\""), kNow, work);
    assert_int_equal(opened.result, Change::done);
    change_session(world.realm, world.random, opened.token->handle, command("update; data.x=\"1\""),
                   kMaxData, kNow, work);
    const Changed renewed = change_session(world.realm, world.random, opened.token->handle,
                                           command("renew"), kMaxData, kNow, work);
    end_session(world.realm, renewed.token->handle, Departure::ended, kNow);
    assert_int_equal(notebook.notes.size(), 5);
    const auto& note = notebook.notes;
    assert_true(same_token(note[0].token, *opened.token));
    assert_true(wins(note[1].entry, note[0].entry));  // update
    assert_true(same_token(note[2].token, *renewed.token));
    assert_true(same_token(note[3].token, *opened.token));
    assert_true(note[3].entry.superseded_until != 0);
    assert_true(wins(note[3].entry, note[1].entry));  // the old handle, replaced
    assert_true(note[4].ended && wins(note[4].entry, note[2].entry));
    assert_false(wins(note[2].entry, note[4].entry));
}

// Would catch: a copy that nobody could confirm for long, made younger by every further note.
void what_the_feed_tells_again_makes_no_copy_younger(void**) {
    fresh();
    FeedState feed;
    world.realm.feed = &feed;
    const Token token = put_session(login_record());
    confirm(token, kNow);
    const auto confirmed = [&token] {
        SessionView view;
        look_up(world.realm, token.handle, view, {});
        return view.confirmed;
    };
    hear_of(world.realm, {FeedWhat::changed, token.handle}, kLater);
    const TimeMs overdue = kLater - kRevalidate - 1;  // the feed has vouched for it until now
    assert_int_equal(confirmed(), overdue);
    hear_of(world.realm, {FeedWhat::changed, token.handle}, kLater + kMinute);
    assert_int_equal(confirmed(), overdue);
    hear_of(world.realm, {FeedWhat::ended, token.handle}, kLater + kMinute);
    hear_of(world.realm, {FeedWhat::changed, token.handle}, kLater + kMinute);
    assert_int_equal(confirmed(), 0);
    world.realm.feed = nullptr;
}

// The feed tells that a session ended elsewhere while an answer that does not know it is on its
// way. Would catch: a copy that goes on for ever.
void what_the_feed_has_told_of_is_not_confirmed_by_an_older_answer(void**) {
    fresh();
    FeedState feed;
    world.realm.feed = &feed;
    const Token here_already = put_session(login_record());
    const Token comes = genuine_token();
    {
        LockedShard shard = world.table->lock(here_already.handle);
        world.table->confirm(shard, here_already.handle, kNow);
    }
    hear_of(world.realm, {FeedWhat::changed, here_already.handle}, kLater);
    assert_int_equal(here(here_already).view.confirmed, kLater - kRevalidate - 1);
    hear_of(world.realm, {FeedWhat::ended, here_already.handle}, kLater);
    hear_of(world.realm, {FeedWhat::ended, comes.handle}, kLater);
    assert_int_equal(here(here_already).view.confirmed, 0);
    for (const Token& token : {here_already, comes}) {
        assert_known(learn_found(token, entry_of(token, changed_record(0)), kLater));
        assert_int_equal(here(token).view.confirmed, 0);
        assert_known(learn_found(token, entry_of(token, changed_record(0)), kLater + 1));
        assert_int_equal(here(token).view.confirmed, kLater + 1);
    }
    world.realm.feed = nullptr;
}

// Would catch: a logout in an outage that ends nothing once the store is back; and a forged token
// that fills the store.
void a_logout_of_a_session_nobody_knows_is_told(void**) {
    fresh();
    const Token token = genuine_token();
    end_unknown(world.realm, token, Departure::ended, kNow);
    assert_int_equal(notebook.notes.size(), 1);
    assert_true(notebook.notes[0].ended);
    assert_gone(learn_found(token, entry_of(token, changed_record(0))), Status::ended);
    Token forged = genuine_token();
    forged.tag[0] ^= 1;
    end_unknown(world.realm, forged, Departure::ended, kNow);
    assert_int_equal(notebook.notes.size(), 1);
    assert_false(world.table->find_tombstone(forged.handle, kNow).has_value());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_session_of_the_store_comes_into_the_zone),
        cmocka_unit_test(an_entry_with_another_credential_is_nobodys),
        cmocka_unit_test(what_was_ended_here_stays_ended),
        cmocka_unit_test(what_was_ended_elsewhere_ends_here),
        cmocka_unit_test(the_later_state_wins_in_both_directions),
        cmocka_unit_test(of_two_changes_made_from_one_state_the_stores_counts),
        cmocka_unit_test(a_replaced_session_stays_replaced_however_often_it_was_changed_elsewhere),
        cmocka_unit_test(last_seen_is_the_latest_of_both),
        cmocka_unit_test(a_live_session_that_the_store_lost_is_written_again),
        cmocka_unit_test(no_answer_teaches_nothing),
        cmocka_unit_test(a_replaced_handle_is_replaced_here_too),
        cmocka_unit_test(a_handle_replaced_elsewhere_comes_in_for_the_rest_of_its_time),
        cmocka_unit_test(a_successor_is_learnt_without_its_secret),
        cmocka_unit_test(only_what_the_store_holds_makes_room),
        cmocka_unit_test(a_newer_state_that_finds_no_room_confirms_nothing),
        cmocka_unit_test(a_successor_ends_whichever_key_it_was_made_with),
        cmocka_unit_test(a_session_swept_as_idle_is_asked_about),
        cmocka_unit_test(every_change_is_told_and_wins_over_the_one_before),
        cmocka_unit_test(what_the_feed_tells_again_makes_no_copy_younger),
        cmocka_unit_test(what_the_feed_has_told_of_is_not_confirmed_by_an_older_answer),
        cmocka_unit_test(a_logout_of_a_session_nobody_knows_is_told),
    };
    return cmocka_run_group_tests_name("second tier", tests, nullptr, nullptr);
}
