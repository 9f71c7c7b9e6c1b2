// Three generations of one realm, as after two changes of the zone's size: each knows its own table
// and the older ones. What one does must be done for all, whatever table the session is in.
#include "core/handover.h"

#include <cstring>
#include <string>
#include <vector>

#include "core/second_tier.h"
#include "unit/support.h"

using namespace sg;
using namespace sg::test;

namespace {

constexpr std::size_t kMemory = 64 * 1024;
constexpr std::size_t kGenerations = 3;

std::span<std::byte> memory_of[kGenerations];
std::vector<Table> tables;
Realm generation[kGenerations];  // 0: the oldest

ByteSpan work() {
    static std::array<std::uint8_t, kWorkBytes> bytes;
    return bytes;
}

void fresh(std::size_t oldest = kMemory, bool has_store = false) {
    fresh_world(kMemory, has_store);
    tables.clear();
    for (std::size_t i = 0; i < kGenerations; ++i) {
        if (!memory_of[i].empty()) {
            munmap(memory_of[i].data(), memory_of[i].size());
        }
        memory_of[i] = shared_memory(i == 0 ? oldest : kMemory);
        tables.push_back(make_table(memory_of[i]));
    }
    for (std::size_t i = 0; i < kGenerations; ++i) {
        generation[i] = world.realm;
        generation[i].table = &tables[i];
        generation[i].older = std::span(tables).first(i);
    }
}

Changed open_in(std::size_t g,
                std::string_view header = "create; user=\"alice\"; roles=\"editor\"") {
    return open_session(generation[g], world.random, command(header), kNow, work());
}

Token login(std::size_t g) {
    const Changed opened = open_in(g);
    assert_int_equal(opened.result, Change::done);
    return *opened.token;
}

Changed change(std::size_t g, const Token& token, std::string_view header) {
    return change_session(generation[g], world.random, token.handle, command(header), kMaxData,
                          kNow + kSecond, work());
}

Outcome ask_in(std::size_t g, const Token& token, TimeMs now = kNow + kSecond) {
    static std::array<std::uint8_t, 8192> bytes;
    const TokenText text = text_of(token);
    return begin(generation[g], candidates_of({text}), now, bytes);
}

void assert_all_say(const Token& token, Status status, TimeMs now = kNow + kSecond) {
    for (std::size_t g = 0; g < kGenerations; ++g) {
        assert_status(ask_in(g, token, now).status, status);
    }
}

bool has(const Table& table, const Token& token) {
    SessionView view;
    return table.find(token.handle, view, {}) != FindResult::absent;
}

// Logins until the oldest table takes in no more.
void fill_oldest() {
    while (has(tables[0], login(0)) && has(tables[0], login(1))) {
    }
}

// Closes a table whose workers are gone and moves what is in it. The steps, 0: it does not end.
Drain::Step empty(std::size_t from) {
    Drain drain;
    for (int steps = 0; steps < 100; ++steps) {
        const Drain::Step step =
            drain.step(tables[from], std::span(tables).subspan(from + 1), 16, kNow);
        if (step != Drain::Step::more) {
            return step;
        }
    }
    fail_msg("the move does not end");
    return Drain::Step::more;
}

void a_login_of_any_generation_is_known_to_all(void**) {
    fresh();
    for (std::size_t g = 0; g < kGenerations; ++g) {
        assert_all_say(login(g), Status::valid);
    }
}

void a_logout_of_any_generation_counts_for_all(void**) {
    for (std::size_t in = 0; in < kGenerations; ++in) {
        for (std::size_t out = 0; out < kGenerations; ++out) {
            fresh();
            const Token token = login(in);
            assert_true(end_session(generation[out], token.handle, Departure::ended, kNow));
            assert_all_say(token, Status::ended);
        }
    }
}

void a_change_of_any_generation_is_seen_by_all(void**) {
    fresh();
    const Token token = login(1);
    for (const std::size_t g : {2, 0, 1, 0, 2}) {
        const std::string header = "update; data.by=\"" + std::to_string(g) + "\"";
        assert_int_equal(change(g, token, header).result, Change::done);
        for (std::size_t reader = 0; reader < kGenerations; ++reader) {
            const Outcome outcome = ask_in(reader, token);
            assert_status(outcome.status, Status::valid);
            assert_text(find_attribute(outcome.session.record.attributes, "by").value_or(""),
                        std::to_string(g));
        }
    }
}

// Two successors of one session would be two sessions with one logout.
void two_generations_do_not_both_replace_a_session(void**) {
    fresh();
    const Token token = login(0);
    const Changed renewed = change(2, token, "renew");
    assert_true(renewed.token.has_value());
    const Changed late = change(0, token, "renew");
    assert_int_equal(late.result, Change::done);
    assert_false(late.token.has_value());
    assert_all_say(*renewed.token, Status::valid);
    for (std::size_t g = 0; g < kGenerations; ++g) {
        assert_true(ask_in(g, token).session.restricted);
    }
    assert_true(end_session(generation[0], token.handle, Departure::ended, kNow));
    assert_all_say(*renewed.token, Status::ended);
}

void activity_in_any_generation_keeps_a_session(void**) {
    fresh();
    const Token token = login(0);
    TimeMs now = kNow;
    for (const std::size_t g : {2, 0, 1, 2, 0}) {
        now += 10 * kMinute;
        const Outcome outcome = ask_in(g, token, now);
        assert_status(outcome.status, Status::valid);
        assert_true(touch_session(generation[g], outcome.session.slot, now));
        assert_false(touch_session(generation[g], outcome.session.slot, now));
    }
    assert_all_say(token, Status::valid, now + 14 * kMinute);
    assert_all_say(token, Status::expired_idle, now + 15 * kMinute);
}

// The request was let in, then the session moved, then its activity is noted.
void activity_follows_a_session_that_moves(void**) {
    fresh();
    const Token token = login(2);
    assert_true(has(tables[0], token));
    const Outcome let_in = ask_in(2, token);
    assert_int_equal(empty(0), Drain::Step::done);
    assert_true(touch_session(generation[2], let_in.session.slot, kNow + 10 * kMinute));
    assert_status(ask_in(2, token, kNow + 20 * kMinute).status, Status::valid);
}

// Resized because it is full: new sessions find room at once, and what is there can still change.
void a_full_table_is_relieved_by_the_younger_ones(void**) {
    fresh(16 * 1024);
    const Token first = login(0);
    fill_oldest();
    const Token token = login(2);
    assert_false(has(tables[0], token));
    assert_true(has(tables[1], token));
    assert_status(ask_in(2, token).status, Status::valid);
    assert_status(ask_in(1, token).status, Status::valid);
    assert_int_equal(change(2, first, "update; data.x=\"1\"").result, Change::done);
    assert_true(end_session(generation[1], token.handle, Departure::ended, kNow));
    assert_status(ask_in(2, token).status, Status::ended);
}

void moved_sessions_are_as_they_were(void**) {
    fresh();
    const Token plain = login(0);
    const Token large =
        *open_in(1, "create; user=\"bob\"; data.d=\"" + std::string(900, 'x') + "\"").token;
    const Token old = login(2);
    const Token renewed = *change(2, old, "renew").token;
    const Token gone = login(0);
    end_session(generation[0], gone.handle, Departure::ended, kNow);
    assert_int_equal(empty(0), Drain::Step::done);
    assert_true(tables[0].is_retired());
    assert_int_equal(tables[0].stats().live, 0);
    assert_null(broken_invariant(tables[0]));
    assert_null(broken_invariant(tables[1]));
    for (const std::size_t g : {1, 2}) {
        assert_status(ask_in(g, plain).status, Status::valid);
        assert_status(ask_in(g, renewed).status, Status::valid);
        assert_true(ask_in(g, old).session.restricted);
        assert_status(ask_in(g, gone).status, Status::ended);
        const Outcome outcome = ask_in(g, large);
        assert_int_equal(find_attribute(outcome.session.record.attributes, "d").value_or("").size(),
                         900);
    }
    // The order of the ends does not matter: the second generation may be gone before the first.
    assert_int_equal(empty(1), Drain::Step::done);
    assert_status(ask_in(2, plain).status, Status::valid);
    assert_status(ask_in(2, gone).status, Status::ended);
    assert_int_equal(tables[2].stats().live, 4);
}

void a_table_between_two_living_ones_is_emptied_into_the_younger(void**) {
    fresh(16 * 1024);
    fill_oldest();
    const Token token = login(1);
    assert_true(has(tables[1], token));
    assert_int_equal(empty(1), Drain::Step::done);
    assert_status(ask_in(2, token).status, Status::valid);
    assert_int_equal(change(2, token, "update; data.x=\"1\"").result, Change::done);
}

// Nobody can be told of a login that comes in behind the move.
void a_closed_table_takes_no_new_sessions(void**) {
    fresh();
    tables[0].close();
    assert_false(has(tables[0], login(2)));
    const Token renewed = *change(2, login(1), "renew").token;
    assert_false(has(tables[0], renewed));
    assert_all_say(login(0), Status::valid);  // a generation's own table is never refused to it
}

void sessions_without_room_stay_and_move_later(void**) {
    fresh();
    std::vector<Token> all;
    for (Changed opened = open_in(2); opened.result == Change::done; opened = open_in(2)) {
        all.push_back(*opened.token);
    }
    assert_int_equal(empty(0), Drain::Step::waiting);
    assert_false(tables[0].is_retired());
    for (const Token& token : all) {
        assert_status(ask_in(2, token).status, Status::valid);
    }
    std::size_t left = all.size();
    while (left > all.size() / 3) {
        end_session(generation[2], all[--left].handle, Departure::ended, kNow);
    }
    assert_int_equal(empty(0), Drain::Step::done);
    for (std::size_t i = 0; i < all.size(); ++i) {
        assert_true((ask_in(2, all[i]).status == Status::valid) == (i < left));
    }
}

// With a store, a session that it holds need not stay: it comes back from there.
void a_held_session_without_room_is_left_to_the_store(void**) {
    fresh(kMemory, true);
    std::vector<Token> all;
    while (tables[2].stats().cells_used < tables[2].stats().cells_total) {
        all.push_back(login(2));
        LockedHome home(generation[2], all.back().handle);
        assert_true(home.table().hold(home.shard(), all.back().handle, 0));
    }
    const std::uint64_t before = stats_of(generation[2]).live;
    assert_int_equal(empty(0), Drain::Step::done);
    assert_true(stats_of(generation[2]).live < before);
    std::size_t asked = 0;
    for (const Token& token : all) {
        const Outcome outcome = ask_in(2, token);
        assert_true(outcome.status == Status::valid || outcome.status == Status::absent);
        asked += outcome.step == Outcome::Step::needs_store ? 1 : 0;
    }
    assert_int_equal(asked, before - stats_of(generation[2]).live);
}

// Threat: resurrection. An end that was cut between two tables is an end.
void a_note_in_an_older_table_hides_what_a_younger_one_has(void**) {
    fresh();
    const Token token = login(0);
    tables[0].close();
    {
        Drain drain;
        drain.step(tables[0], std::span(tables).subspan(1), 1000, kNow);
    }
    assert_true(has(tables[1], token));
    {
        LockedShard shard = tables[0].lock(token.handle);
        tables[0].remove(shard, token.handle, Departure::ended, kNow + kHour);
    }
    Realm late = generation[2];
    std::vector<Table> unretired = {make_table(shared_memory(kMemory)), tables[1]};
    {
        LockedShard shard = unretired[0].lock(token.handle);
        unretired[0].remove(shard, token.handle, Departure::ended, kNow + kHour);
    }
    late.older = unretired;
    const TokenText text = text_of(token);
    static std::array<std::uint8_t, 4096> bytes;
    assert_status(begin(late, candidates_of({text}), kNow, bytes).status, Status::ended);
    assert_int_equal(change_session(late, world.random, token.handle,
                                    command("update; data.x=\"1\""), kMaxData, kNow, work())
                         .result,
                     Change::gone);
}

StoreEntry entry_of(const Token& token, ByteView record) {
    SessionView view;
    view.token = token;
    view.last_seen = kNow;
    return session_entry(world.realm, view, record).value();
}

Lesson learn_in(std::size_t g, const Token& token, const StoreEntry& entry) {
    const Reply reply{.answer = StoreAnswer::found, .entry = entry, .sent = kNow};
    return learn(generation[g], token, reply, kNow, work());
}

// What comes from a store goes where all look, and is not taken in twice.
void a_session_of_the_store_is_taken_in_once_for_all(void**) {
    fresh(kMemory, true);
    static std::array<std::uint8_t, 512> bytes;
    const std::size_t size = encode_record(login_record(), bytes);
    const Token token = genuine_token();
    const StoreEntry entry = entry_of(token, ByteView(bytes).first(size));
    for (const std::size_t g : {2, 0, 1}) {
        assert_int_equal(learn_in(g, token, entry).learned, Learned::known);
        assert_all_say(token, Status::valid, kNow);
    }
    assert_int_equal(stats_of(generation[2]).live, 1);
    const StoreEntry ended = ended_entry(Departure::ended, kNow + kHour);
    assert_int_equal(learn_in(1, token, ended).learned, Learned::gone);
    assert_all_say(token, Status::ended, kNow);
    assert_int_equal(learn_in(2, token, entry).learned, Learned::gone);
    assert_int_equal(stats_of(generation[2]).live, 0);
}

// Its pages go back to the system while a late reader may still be in it.
void a_retired_table_of_zeros_reads_as_empty(void**) {
    fresh();
    const Token token = login(0);
    assert_int_equal(empty(0), Drain::Step::done);
    for (std::size_t i = 0; i < tables[0].shard_count(); ++i) {
        const std::span<std::byte> part = tables[0].contents(i);
        std::memset(part.data(), 0, part.size());
    }
    assert_true(tables[0].is_retired());
    assert_false(has(tables[0], token));
    assert_false(tables[0].has_ended(token.handle));
    {
        LockedShard shard = tables[0].lock(token.handle);
        assert_false(tables[0].knows(shard, token.handle));
        assert_false(tables[0].takes_in(shard, 100));
    }
    assert_status(ask_in(2, token).status, Status::valid);
}

void the_status_counts_all_tables(void**) {
    fresh(16 * 1024);
    fill_oldest();
    const TableStats all = stats_of(generation[2]);
    assert_int_equal(all.live,
                     tables[0].stats().live + tables[1].stats().live + tables[2].stats().live);
    assert_true(tables[1].stats().live > 0);
    assert_int_equal(all.cells_total, tables[2].stats().cells_total);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_login_of_any_generation_is_known_to_all),
        cmocka_unit_test(a_logout_of_any_generation_counts_for_all),
        cmocka_unit_test(a_change_of_any_generation_is_seen_by_all),
        cmocka_unit_test(two_generations_do_not_both_replace_a_session),
        cmocka_unit_test(activity_in_any_generation_keeps_a_session),
        cmocka_unit_test(activity_follows_a_session_that_moves),
        cmocka_unit_test(a_full_table_is_relieved_by_the_younger_ones),
        cmocka_unit_test(moved_sessions_are_as_they_were),
        cmocka_unit_test(a_table_between_two_living_ones_is_emptied_into_the_younger),
        cmocka_unit_test(a_closed_table_takes_no_new_sessions),
        cmocka_unit_test(sessions_without_room_stay_and_move_later),
        cmocka_unit_test(a_held_session_without_room_is_left_to_the_store),
        cmocka_unit_test(a_note_in_an_older_table_hides_what_a_younger_one_has),
        cmocka_unit_test(a_session_of_the_store_is_taken_in_once_for_all),
        cmocka_unit_test(a_retired_table_of_zeros_reads_as_empty),
        cmocka_unit_test(the_status_counts_all_tables),
    };
    return cmocka_run_group_tests_name("handover", tests, nullptr, nullptr);
}
