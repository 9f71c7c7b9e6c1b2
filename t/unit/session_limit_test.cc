// limit_sessions: a user's roster, who has to go, and what happens to it when sessions end, are
// renewed, expire, or another worker is quicker.
#include "core/session_limit.h"

#include "core/handover.h"
#include "core/journal.h"
#include "core/lifecycle.h"
#include "core/roster.h"
#include "core/second_tier.h"
#include "unit/support.h"

namespace sg::test {
namespace {

std::array<std::uint8_t, kWorkBytes> work;
std::array<SessionLimit, 2> limits;
std::uint64_t nodes = 0;  // each world is another one

void limit_to(std::size_t most, Evict evict = Evict::oldest, bool has_store = false) {
    fresh_world(1024 * 1024, has_store);
    limits = {};
    limits[0] = {.most = most, .evict = evict};
    world.realm.node = ++nodes;
    world.realm.limits = std::span(limits).first(1);
}

Changed try_login(TimeMs now, std::string_view header = "create; user=\"alice\"") {
    return open_session(world.realm, world.random, command(header), now, work);
}

Token login(TimeMs now, std::string_view header = "create; user=\"alice\"") {
    const Changed changed = try_login(now, header);
    assert_int_equal(changed.result, Change::done);
    return *changed.token;
}

void assert_is(const Token& token, Status status, TimeMs now = kNow) {
    assert_status(status_of({text_of(token)}, now), status);
}

Token renew(const Token& token, TimeMs now) {
    const Changed changed = change_session(world.realm, world.random, token.handle,
                                           command("renew"), kMaxData, now, work);
    assert_int_equal(changed.result, Change::done);
    return changed.token.value();
}

std::size_t entered(std::string_view user = "alice") {
    static Roster roster;
    assert_true(read_roster(world.realm, user, kNow, work, roster));
    return roster.count;
}

void without_a_limit_nothing_is_kept(void**) {
    fresh_world();
    login(kNow);
    assert_int_equal(world.table->stats().live, 1);
    assert_int_equal(world.table->stats().cells_used, 1);
}

void the_oldest_goes(void**) {
    limit_to(2);
    const Token first = login(kNow);
    const Token second = login(kNow + 1);
    assert_is(first, Status::valid);
    const Changed third = try_login(kNow + 2);
    assert_int_equal(third.result, Change::done);
    assert_int_equal(third.ended, 1);
    assert_is(first, Status::ended);
    assert_is(second, Status::valid);
    assert_is(*third.token, Status::valid);
    assert_int_equal(world.table->stats().live, 2);
    assert_int_equal(world.table->stats().rosters, 1);
}

void another_user_is_not_concerned(void**) {
    limit_to(1);
    const Token alice = login(kNow);
    const Token bob = login(kNow + 1, "create; user=\"bob\"");
    assert_is(alice, Status::valid);
    login(kNow + 2, "create; user=\"bob\"");
    assert_is(alice, Status::valid);
    assert_is(bob, Status::ended);
}

void the_idlest_goes(void**) {
    limit_to(2, Evict::idlest);
    const Token first = login(kNow);
    const Token second = login(kNow + 1000);
    touch_session(world.realm, ask({text_of(first)}, kNow + kMinute).session.slot, kNow + kMinute);
    login(kNow + 2 * kMinute);
    assert_is(first, Status::valid, kNow + 2 * kMinute);
    assert_is(second, Status::ended, kNow + 2 * kMinute);
}

void with_deny_a_login_more_is_refused_and_nothing_else_happens(void**) {
    limit_to(2, Evict::deny);
    const Token first = login(kNow);
    const Token second = login(kNow);
    const auto before = world.table->stats().live;
    assert_int_equal(try_login(kNow).result, Change::limited);
    assert_int_equal(world.table->stats().live, before);
    assert_is(first, Status::valid);
    assert_is(second, Status::valid);
    end_session(world.realm, first.handle, Departure::ended, kNow);
    login(kNow);
}

void what_the_login_takes_the_place_of_does_not_count(void**) {
    limit_to(2, Evict::deny);
    const Token first = login(kNow);
    login(kNow);
    const Token renewed = renew(first, kNow);
    for (const Token& leaving : {first, renewed}) {
        const Changed changed =
            open_session(world.realm, world.random, command("create; user=\"alice\""), kNow, work,
                         std::span(&leaving.handle, 1));
        assert_int_equal(changed.result, Change::done);
        end_session(world.realm, changed.token->handle, Departure::ended, kNow);
    }
}

void who_has_left_does_not_count(void**) {
    limit_to(2, Evict::deny);
    const Token first = login(kNow);
    login(kNow);
    end_session(world.realm, first.handle, Departure::ended, kNow);
    login(kNow);
    assert_int_equal(entered(), 2);
    // Both idle by then.
    const TimeMs later = kNow + 16 * kMinute;
    login(later);
    login(later);
    assert_int_equal(entered(), 2);
    assert_int_equal(try_login(later).result, Change::limited);
}

void the_roster_outlasts_idle_times_of_no_login(void**) {
    limit_to(1);
    const Token token = login(kNow);
    TimeMs now = kNow;
    for (int i = 0; i < 10; ++i) {
        now += 10 * kMinute;
        touch_session(world.realm, ask({text_of(token)}, now).session.slot, now);
        for (std::size_t shard = 0; shard < world.table->shard_count(); ++shard) {
            LockedShard locked = world.table->lock_shard(shard);
            world.table->sweep_shard(locked,
                                     {.idle = kTimeouts.idle, .absolute = kTimeouts.absolute}, now,
                                     world.table->cells_per_shard());
        }
    }
    assert_is(token, Status::valid, now);
    login(now);
    assert_is(token, Status::ended, now);
}

void a_renewed_session_counts_once_and_keeps_its_age(void**) {
    limit_to(2);
    const Token first = login(kNow);
    const Token second = login(kNow + 1000);
    const Token renewed = renew(first, kNow + 2000);
    assert_int_equal(entered(), 2);
    login(kNow + 3000);
    assert_is(renewed, Status::ended, kNow + 3000);
    assert_is(second, Status::valid, kNow + 3000);
}

void a_renewal_that_the_roster_has_not_heard_of_is_followed(void**) {
    limit_to(1);
    const Token first = login(kNow);
    world.realm.limits = {};
    const Token renewed = renew(first, kNow + 1000);
    world.realm.limits = std::span(limits).first(1);
    login(kNow + 2000);
    assert_is(renewed, Status::ended, kNow + 2000);
}

void a_role_has_its_own_limit(void**) {
    limit_to(5);
    limits[1] = {.most = 1, .evict = Evict::deny, .role = "admin"};
    world.realm.limits = limits;
    login(kNow);
    login(kNow);
    assert_int_equal(try_login(kNow, "create; user=\"alice\"; roles=\"editor admin\"").result,
                     Change::limited);
    const Token token = login(kNow, "create; user=\"bob\"; roles=\"admin\"");
    assert_int_equal(try_login(kNow, "create; user=\"bob\"; roles=\"admin\"").result,
                     Change::limited);
    login(kNow, "create; user=\"bob\"");
    assert_is(token, Status::valid);
}

void a_lower_limit_ends_all_that_are_over_it(void**) {
    limit_to(10);
    std::array<Token, 10> tokens;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        tokens[i] = login(kNow + static_cast<TimeMs>(i));
    }
    limits[0].most = 3;
    const Changed last = try_login(kNow + 100);
    assert_int_equal(last.ended, 8);
    assert_is(tokens[7], Status::ended);
    assert_is(tokens[8], Status::valid);
    assert_is(tokens[9], Status::valid);
}

void the_largest_limit_fits(void**) {
    limit_to(kMostSessionsOfUser);
    const Token first = login(kNow);
    for (std::size_t i = 1; i < kMostSessionsOfUser; ++i) {
        login(kNow + static_cast<TimeMs>(i));
    }
    assert_is(first, Status::valid);
    login(kNow + static_cast<TimeMs>(kMostSessionsOfUser));
    assert_is(first, Status::ended);
    assert_int_equal(entered(), kMostSessionsOfUser);
    assert_int_equal(world.table->stats().live, kMostSessionsOfUser);
}

void a_new_key_takes_the_roster_along(void**) {
    limit_to(1);
    const Token first = login(kNow);
    static std::array<char, 160> both;
    const int size =
        std::snprintf(both.data(), both.size(), "%s\n%s current\n", kKeyA.data(), kKeyB.data());
    load(world.keys, "app", {both.data(), static_cast<std::size_t>(size)});
    const Token second = login(kNow + 1);
    assert_int_not_equal(first.key_id, second.key_id);
    assert_is(first, Status::ended);
    login(kNow + 2);
    assert_is(second, Status::ended);
}

void nobody_gets_in_with_a_roster(void**) {
    limit_to(2);
    login(kNow);
    static Roster roster;
    assert_true(read_roster(world.realm, "alice", kNow, work, roster));
    Token token = roster.token;
    token.secret = {};
    token.tag = {};
    assert_int_not_equal(static_cast<int>(ask({text_of(token)}, kNow).status),
                         static_cast<int>(Status::valid));
}

// What a store would be told.
struct Told final : Journal {
    void saved(const SessionView& view, ByteView record) noexcept override {
        if (is_roster(record)) {
            last = view.token;
            std::copy(record.begin(), record.end(), bytes.begin());
            size = record.size();
        }
    }
    void ended(const Token&, Departure, TimeMs) noexcept override { ++ends; }
    Token last;
    std::array<std::uint8_t, kRosterBytes> bytes{};
    std::size_t size = 0;
    int ends = 0;
    ByteView roster() const { return ByteView(bytes).first(size); }
};

Told told;

StoreEntry entry_of(const Told& of) {
    SessionView view;
    view.token = of.last;
    return *session_entry(world.realm, view, of.roster());
}

// Two nodes log the user in at the same moment: each makes a roster of its own.
void what_another_node_wrote_first_is_merged(void**) {
    static Told first;
    limit_to(2, Evict::oldest, true);
    first = Told{};
    world.realm.journal = &first;
    login(kNow);
    login(kNow + 1);
    // The other node has none of this.
    limit_to(2, Evict::oldest, true);
    told = Told{};
    world.realm.journal = &told;
    const Token here = login(kNow + 2);
    static Told lost;
    lost = told;
    assert_false(overtakes(entry_of(lost), entry_of(first)));
    const StoreEntry there = entry_of(first);
    learn(world.realm, lost.last, {.answer = StoreAnswer::found, .entry = there, .sent = kNow + 2},
          kNow + 2, work);
    assert_int_equal(entered(), 2);
    assert_int_equal(roster_lost(world.realm, lost.roster(), kNow + 2, work), 0);
    assert_int_equal(entered(), 3);
    assert_int_equal(told.ends, 0);
    assert_true(overtakes(entry_of(told), there));
    static Told kept;
    kept = told;
    assert_int_equal(roster_kept(world.realm, kept.roster(), kNow + 2, work), 1);
    assert_int_equal(entered(), 2);
    assert_int_equal(told.ends, 1);  // the oldest of three
    assert_is(here, Status::valid, kNow + 2);
    world.realm.journal = nullptr;
}

// With a store, those who are too many are ended when it has the roster.
void a_later_state_is_judged_for_itself(void**) {
    limit_to(1, Evict::oldest, true);
    told = Told{};
    world.realm.journal = &told;
    login(kNow);
    login(kNow + 1);
    static Told second;
    second = told;
    const Token third = login(kNow + 2);
    assert_int_equal(roster_kept(world.realm, second.roster(), kNow + 2, work), 0);
    assert_int_equal(told.ends, 0);
    static Told last;
    last = told;
    assert_int_equal(roster_kept(world.realm, last.roster(), kNow + 2, work), 2);
    assert_is(third, Status::valid, kNow + 2);
    assert_int_equal(roster_kept(world.realm, last.roster(), kNow + 2, work), 0);
    world.realm.journal = nullptr;
}

void follow(const Told& state) {
    learn(world.realm, state.last,
          {.answer = StoreAnswer::found, .entry = entry_of(state), .sent = kNow}, kNow, work);
}

void what_has_left_elsewhere_is_not_entered_again(void**) {
    limit_to(5, Evict::oldest, true);
    told = Told{};
    world.realm.journal = &told;
    const Token first = login(kNow);
    const Token second = login(kNow);
    static Told before;
    before = told;
    end_session(world.realm, first.handle, Departure::ended, kNow);
    assert_int_equal(entered(), 1);
    static Told left;
    left = told;
    assert_true(overtakes(entry_of(left), entry_of(before)));
    // Another node, which has not heard of it, enters somebody meanwhile.
    limit_to(5, Evict::oldest, true);
    world.realm.journal = &told;
    follow(before);
    assert_int_equal(entered(), 2);
    login(kNow);
    static Told lost;
    lost = told;
    assert_false(overtakes(entry_of(lost), entry_of(left)));
    follow(left);
    roster_lost(world.realm, lost.roster(), kNow, work);
    static Roster roster;
    assert_true(read_roster(world.realm, "alice", kNow, work, roster));
    assert_int_equal(roster.count, 2);
    assert_true(roster.has(second.handle));
    assert_false(roster.has(first.handle));
    world.realm.journal = nullptr;
}

void a_roster_goes_over_no_other_than_the_one_it_was_made_from(void**) {
    limit_to(5, Evict::oldest, true);
    told = Told{};
    world.realm.journal = &told;
    login(kNow);
    static Told first;
    first = told;
    login(kNow);
    static Told second;
    second = told;
    login(kNow);
    assert_true(overtakes(entry_of(second), entry_of(first)));
    assert_true(overtakes(entry_of(told), entry_of(second)));
    assert_false(overtakes(entry_of(told), entry_of(first)));
    assert_false(overtakes(entry_of(first), entry_of(told)));
    world.realm.journal = nullptr;
}

void without_randomness_nobody_is_admitted(void**) {
    limit_to(2);
    login(kNow);
    const auto before = world.table->stats().live;
    random_works = false;
    static std::array<std::uint8_t, RandomPool::kBatch> rest;
    world.random.take(rest);
    assert_int_equal(try_login(kNow).result, Change::no_random);
    random_works = true;
    assert_int_equal(world.table->stats().live, before);
}

}  // namespace
}  // namespace sg::test

int main() {
    using namespace sg::test;
    const CMUnitTest tests[] = {
        cmocka_unit_test(without_a_limit_nothing_is_kept),
        cmocka_unit_test(the_oldest_goes),
        cmocka_unit_test(another_user_is_not_concerned),
        cmocka_unit_test(the_idlest_goes),
        cmocka_unit_test(with_deny_a_login_more_is_refused_and_nothing_else_happens),
        cmocka_unit_test(what_the_login_takes_the_place_of_does_not_count),
        cmocka_unit_test(who_has_left_does_not_count),
        cmocka_unit_test(the_roster_outlasts_idle_times_of_no_login),
        cmocka_unit_test(a_renewed_session_counts_once_and_keeps_its_age),
        cmocka_unit_test(a_renewal_that_the_roster_has_not_heard_of_is_followed),
        cmocka_unit_test(a_role_has_its_own_limit),
        cmocka_unit_test(a_lower_limit_ends_all_that_are_over_it),
        cmocka_unit_test(the_largest_limit_fits),
        cmocka_unit_test(a_new_key_takes_the_roster_along),
        cmocka_unit_test(nobody_gets_in_with_a_roster),
        cmocka_unit_test(what_another_node_wrote_first_is_merged),
        cmocka_unit_test(a_later_state_is_judged_for_itself),
        cmocka_unit_test(what_has_left_elsewhere_is_not_entered_again),
        cmocka_unit_test(a_roster_goes_over_no_other_than_the_one_it_was_made_from),
        cmocka_unit_test(without_randomness_nobody_is_admitted),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
