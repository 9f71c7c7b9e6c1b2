// The rules of one session's life in a store.
#include "store/contract.h"

#include <array>

#include "store/contract_support.h"

namespace sg::test {
namespace {

// A session that nobody has created must not be "unknown": every forged look-up would answer 503.
void absent_before_create(Bench& bench) {
    assert_absent(bench.get(fresh_key()));
    assert_int_equal(bench.all_faults(), 0);
}

// A field lost on the way.
void gives_back_what_was_created(Bench& bench) {
    const StoreKey key = fresh_key();
    assert_holds(bench.create(key, session_entry(3, 9)));
    assert_found(bench.get(key), session_entry(3, 9));
    assert_int_equal(bench.all_faults(), 0);
}

// The fields at the ends of their ranges; signs and widths that a layout could lose.
void gives_back_extreme_values(Bench& bench) {
    const StoreKey key = fresh_key();
    StoreEntry entry = session_entry();
    entry.version = {.counter = UINT32_MAX, .node = UINT64_MAX};
    entry.last_seen = 0;
    entry.superseded_until = 0;
    entry.successor = {};
    entry.token.secret.fill(0xff);
    assert_holds(bench.create(key, entry));
    assert_found(bench.get(key), entry);
}

// A repeated create (its first answer was lost) must not look like a collision.
void creating_the_same_state_again_holds(Bench& bench) {
    const StoreKey key = fresh_key();
    assert_holds(bench.create(key, session_entry()));
    assert_holds(bench.create(key, session_entry()));
    assert_found(bench.get(key), session_entry());
}

// A create that replaces a session: two logins in one entry.
void create_never_replaces_a_session(Bench& bench) {
    const StoreKey key = fresh_key();
    assert_holds(bench.create(key, session_entry(1, 7)));
    assert_lost_to(bench.create(key, session_entry(2, 7)), session_entry(1, 7));
    StoreEntry other = session_entry(1, 7);
    other.token = token_of(4711);
    assert_lost_to(bench.create(key, other), session_entry(1, 7));
    assert_found(bench.get(key), session_entry(1, 7));
}

void a_newer_change_replaces(Bench& bench) {
    const StoreKey key = fresh_key();
    assert_holds(bench.create(key, session_entry(1, 7, 80)));
    assert_holds(bench.change(key, session_entry(2, 3, 200)));
    assert_found(bench.get(key), session_entry(2, 3, 200));
    assert_holds(bench.change(key, session_entry(3, 1, 10)));
    assert_found(bench.get(key), session_entry(3, 1, 10));
}

// One of the two would be lost without anybody knowing: it is to be made again.
void of_two_changes_made_from_one_state_the_second_loses(Bench& bench) {
    const StoreKey key = fresh_key();
    assert_holds(bench.create(key, session_entry(1, 7)));
    assert_holds(bench.change(key, session_entry(2, 7)));
    assert_lost_to(bench.change(key, session_entry(2, 9)), session_entry(2, 7));
    assert_lost_to(bench.change(key, session_entry(2, 3)), session_entry(2, 7));
    assert_found(bench.get(key), session_entry(2, 7));
}

// A late write of an old state must not undo a newer one; the loser learns what won.
void an_older_change_loses_to_the_winner(Bench& bench) {
    const StoreKey key = fresh_key();
    assert_holds(bench.create(key, session_entry(5, 7)));
    assert_lost_to(bench.change(key, session_entry(4, 9)), session_entry(5, 7));
    assert_lost_to(bench.change(key, session_entry(5, 6)), session_entry(5, 7));
    assert_found(bench.get(key), session_entry(5, 7));
}

// A repeated change (its first answer was lost) has not lost; and writes nothing.
void a_change_of_equal_version_holds_and_writes_nothing(Bench& bench) {
    const StoreKey key = fresh_key();
    assert_holds(bench.create(key, session_entry(1, 7, 80)));
    assert_holds(bench.change(key, session_entry(2, 7, 80)));
    assert_holds(bench.change(key, session_entry(2, 7, 300)));
    assert_found(bench.get(key), session_entry(2, 7, 80));
}

// A server came back empty: the next change brings the session back.
void a_change_is_written_where_nothing_is(Bench& bench) {
    const StoreKey key = fresh_key();
    assert_holds(bench.change(key, session_entry(6, 2)));
    assert_found(bench.get(key), session_entry(6, 2));
}

// The look-up that says "no such session" for a logged-out one lets a node re-seed it.
void an_ended_session_is_found_ended_with_its_reason(Bench& bench) {
    for (const Departure why : {Departure::ended, Departure::regenerated, Departure::expired_idle,
                                Departure::expired_absolute}) {
        const StoreKey key = fresh_key();
        assert_holds(bench.create(key, session_entry()));
        assert_holds(bench.end(key, why));
        assert_ended(bench.get(key), why);
    }
}

// Resurrection: by a late change, a repeated login, a late touch.
void nothing_brings_an_ended_session_back(Bench& bench) {
    const StoreKey key = fresh_key();
    assert_holds(bench.create(key, session_entry()));
    assert_holds(bench.end(key));
    assert_lost_to(bench.change(key, session_entry(1000, 1000)), ended_entry());
    assert_ended(bench.get(key));
    assert_lost_to(bench.create(key, session_entry()), ended_entry());
    assert_ended(bench.get(key));
    assert_absent(bench.touch(key, kStart));
    assert_ended(bench.get(key));
}

// A logout on a node whose login has not been written yet.
void ending_an_unknown_session_leaves_a_tombstone(Bench& bench) {
    const StoreKey key = fresh_key();
    assert_holds(bench.end(key));
    assert_ended(bench.get(key));
    assert_lost_to(bench.create(key, session_entry()), ended_entry());
    assert_ended(bench.get(key));
}

// A late "expired" must not overwrite why the user left.
void the_first_end_counts(Bench& bench) {
    const StoreKey key = fresh_key();
    assert_holds(bench.create(key, session_entry()));
    assert_holds(bench.end(key, Departure::ended));
    assert_holds(bench.end(key, Departure::expired_idle));
    assert_ended(bench.get(key), Departure::ended);
}

// A session replaced by a newer state was used all the same: its last activity stays.
void a_touch_is_seen_and_outlives_changes(Bench& bench) {
    const StoreKey key = fresh_key();
    StoreEntry entry = session_entry(1, 7);
    assert_holds(bench.create(key, entry));
    assert_holds(bench.touch(key, kStart + kMinute));
    entry.last_seen = kStart + kMinute;
    assert_found(bench.get(key), entry);

    entry = session_entry(2, 7);
    assert_holds(bench.change(key, entry));
    entry.last_seen = kStart + kMinute;
    assert_found(bench.get(key), entry);
}

// A node with an older idea of it must not make a session idle.
void last_seen_never_goes_back(Bench& bench) {
    const StoreKey key = fresh_key();
    StoreEntry entry = session_entry();
    assert_holds(bench.create(key, entry));
    assert_holds(bench.touch(key, entry.last_seen - kHour));
    assert_found(bench.get(key), entry);
    assert_holds(bench.touch(key, kStart + 2 * kMinute));
    assert_holds(bench.touch(key, kStart + kMinute));
    assert_holds(bench.touch(key, 0));
    entry.last_seen = kStart + 2 * kMinute;
    assert_found(bench.get(key), entry);
    assert_holds(bench.touch(key, kStart + 3 * kMinute));
    entry.last_seen = kStart + 3 * kMinute;
    assert_found(bench.get(key), entry);
}

// The record's own time counts where it is the later one.
void the_later_of_record_and_activity_is_last_seen(Bench& bench) {
    const StoreKey key = fresh_key();
    assert_holds(bench.create(key, session_entry(1, 7)));
    assert_holds(bench.touch(key, kStart));
    StoreEntry entry = session_entry(2, 7);
    entry.last_seen = kStart + kMinute;
    assert_holds(bench.change(key, entry));
    assert_found(bench.get(key), entry);
}

// A touch that writes where nothing is would count as a session, or keep one from being "absent".
void a_touch_writes_nothing_where_nothing_is(Bench& bench) {
    const StoreKey key = fresh_key();
    assert_absent(bench.touch(key, kStart + kHour));
    assert_absent(bench.get(key));
    assert_holds(bench.create(key, session_entry()));
    assert_found(bench.get(key), session_entry());
}

// The store holds largest and smallest records, and all around its own limits. (An empty record is
// none: the format refuses it.)
void takes_records_of_every_size(Bench& bench) {
    for (const std::size_t size :
         {std::size_t{1}, std::size_t{15}, std::size_t{16}, std::size_t{17}, std::size_t{255},
          std::size_t{1023}, std::size_t{1024}, std::size_t{1025}, std::size_t{4096},
          std::size_t{8192}, std::size_t{16384}, std::size_t{32767}, std::size_t{32768},
          kMaxEntryRecord}) {
        const StoreKey key = fresh_key();
        assert_holds(bench.create(key, session_entry(1, 7, size)));
        assert_found(bench.get(key), session_entry(1, 7, size));
    }
    assert_int_equal(bench.all_faults(), 0);
}

// One entry that cannot be written must not take its batch along, nor count as written.
void a_record_that_is_none_is_unknown_and_alone(Bench& bench) {
    std::array<StoreOp, 4> batch;
    constexpr std::size_t kSizes[] = {120, kMaxEntryRecord + 1, 0, 120};
    for (std::size_t i = 0; i < batch.size(); ++i) {
        batch[i] = operation(StoreVerb::create, fresh_key(), session_entry(1, 7, kSizes[i]));
    }
    bench.store().run(batch, kStart);
    assert_holds(batch[0]);
    assert_unknown(batch[1]);
    assert_unknown(batch[2]);
    assert_holds(batch[3]);
    assert_found(bench.get(batch[0].key), session_entry());
    assert_absent(bench.get(batch[1].key));
    assert_absent(bench.get(batch[2].key));
    assert_found(bench.get(batch[3].key), session_entry());
}

// Expired but not yet forgotten by the store: admitted again, or ended for ever.
void what_has_expired_is_never_found(Bench& bench) {
    const StoreKey session = fresh_key();
    const StoreKey ended = fresh_key();
    StoreEntry entry = session_entry();
    entry.expires = kStart + kHour;
    assert_holds(bench.create(session, entry));
    StoreEntry tombstone = ended_entry();
    tombstone.expires = kStart + kHour;
    assert_holds(bench.run(operation(StoreVerb::end, ended, tombstone)));

    assert_found(bench.get(session, kStart + kHour - 1), entry);
    assert_ended(bench.get(ended, kStart + kHour - 1));
    for (const TimeMs after : {TimeMs{0}, TimeMs{1}, kHour}) {
        assert_absent(bench.get(session, kStart + kHour + after));
        assert_absent(bench.get(ended, kStart + kHour + after));
        assert_absent(bench.touch(session, kStart, kStart + kHour + after));
    }
}

// Memcached takes a time to live beyond 30 days for a date in 1970.
void keeps_an_entry_for_more_than_thirty_days(Bench& bench) {
    for (const TimeMs life : {29 * kDay, 30 * kDay, 31 * kDay, kLongestLife}) {
        const StoreKey key = fresh_key();
        StoreEntry entry = session_entry();
        entry.expires = kStart + life;
        assert_holds(bench.create(key, entry));
        StoreEntry seen = activity_entry(kStart);
        seen.expires = entry.expires;
        assert_holds(bench.run(operation(StoreVerb::touch, key, seen)));
        entry.last_seen = kStart;
        assert_found(bench.get(key), entry);

        StoreEntry tombstone = ended_entry();
        tombstone.expires = kStart + life + 5 * kMinute;
        assert_holds(bench.run(operation(StoreVerb::end, key, tombstone)));
        assert_ended(bench.get(key));
    }
}

// A connection that keeps what it read would answer from the past.
void connections_see_each_other(Bench& bench) {
    Store& one = bench.connect();
    Store& other = bench.connect();
    const StoreKey key = fresh_key();
    assert_absent(bench.run(other, operation(StoreVerb::get, key)));
    assert_holds(bench.run(one, operation(StoreVerb::create, key, session_entry())));
    assert_found(bench.run(other, operation(StoreVerb::get, key)), session_entry());
    assert_holds(bench.run(other, operation(StoreVerb::end, key, ended_entry())));
    assert_ended(bench.run(one, operation(StoreVerb::get, key)));
}

// Sessions in memory only: gone when the last connection is.
void what_was_written_outlives_the_connection(Bench& bench) {
    const StoreKey key = fresh_key();
    assert_holds(bench.create(key, session_entry()));
    bench.disconnect();
    assert_found(bench.get(key), session_entry());
}

constexpr Case kCases[] = {
    {"absent before create", absent_before_create},
    {"gives back what was created", gives_back_what_was_created},
    {"gives back extreme values", gives_back_extreme_values},
    {"creating the same state again holds", creating_the_same_state_again_holds},
    {"create never replaces a session", create_never_replaces_a_session},
    {"a newer change replaces", a_newer_change_replaces},
    {"of two changes made from one state the second loses",
     of_two_changes_made_from_one_state_the_second_loses},
    {"an older change loses to the winner", an_older_change_loses_to_the_winner},
    {"a change of equal version holds and writes nothing",
     a_change_of_equal_version_holds_and_writes_nothing},
    {"a change is written where nothing is", a_change_is_written_where_nothing_is},
    {"an ended session is found ended, with its reason",
     an_ended_session_is_found_ended_with_its_reason},
    {"nothing brings an ended session back", nothing_brings_an_ended_session_back},
    {"ending an unknown session leaves a tombstone", ending_an_unknown_session_leaves_a_tombstone},
    {"the first end counts", the_first_end_counts},
    {"a touch is seen and outlives changes", a_touch_is_seen_and_outlives_changes},
    {"last seen never goes back", last_seen_never_goes_back},
    {"the later of record and activity is last seen",
     the_later_of_record_and_activity_is_last_seen},
    {"a touch writes nothing where nothing is", a_touch_writes_nothing_where_nothing_is},
    {"takes records of every size", takes_records_of_every_size},
    {"a record that is none is unknown and alone", a_record_that_is_none_is_unknown_and_alone},
    {"what has expired is never found", what_has_expired_is_never_found},
    {"keeps an entry for more than thirty days", keeps_an_entry_for_more_than_thirty_days},
    {"connections see each other", connections_see_each_other},
    {"what was written outlives the connection", what_was_written_outlives_the_connection},
};

}  // namespace

std::span<const Case> rule_cases() {
    return kCases;
}

}  // namespace sg::test
