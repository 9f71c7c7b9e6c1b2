// What lies in a store: sealed as documented, bound to its key, and never taken for "no such
// session" when it cannot be read.
#include <array>

#include "store/contract_support.h"

namespace sg::test {
namespace {

constexpr std::size_t kRecord = 120;

// An entry where it lies, once for each replica.
struct Place {
    std::string name;
    RawValue value;
    std::size_t sealed_at = 0;
};
using Places = std::vector<Place>;

Sealer& sealer() {
    static Sealer all;
    static const bool loaded = all.load(seal_keys({kOldKeyId, kNewKeyId}));
    assert_true(loaded);
    return all;
}

ByteView bytes_of(const std::string& text) {
    return as_bytes(text);
}

// The sealed value as this project's formats say, whichever store it is for.
std::string seal(const StoreKey& key, EntryKind kind, ByteView plain) {
    std::array<std::uint8_t, kNonceBytes> nonce;
    nonce.fill(0x4e);
    std::string out(plain.size() + kSealBytes, '\0');
    const ByteSpan span(reinterpret_cast<std::uint8_t*>(out.data()), out.size());
    assert_int_equal(sealer().seal(kOldKeyId, key, kind, plain, nonce, span), out.size());
    return out;
}

std::string encode(const StoreEntry& entry, const StoreKey& key) {
    std::string plain(encoded_size(entry), '\0');
    const ByteSpan span(reinterpret_cast<std::uint8_t*>(plain.data()), plain.size());
    assert_int_equal(encode_entry(entry, key, span), plain.size());
    return plain;
}

// Whether the tail of `bytes` is this key's entry of this kind and size.
bool opens(const std::string& bytes, const StoreKey& key, const StoreEntry& like) {
    const std::size_t plain_size = encoded_size(like);
    const std::size_t size = plain_size + kSealBytes;
    if (bytes.size() < size) {
        return false;
    }
    static std::array<std::uint8_t, kMaxEntryBytes> plain;
    std::size_t opened = 0;
    StoreEntry entry;
    const ByteView sealed = bytes_of(bytes).last(size);
    return sealer().open(key, like.kind, sealed, plain, opened) == Sealer::Opened::ok &&
           decode_entry(ByteView(plain).first(opened), key, entry) == EntryRead::ok;
}

Places places_of(Bench& bench, const StoreKey& key, const StoreEntry& like) {
    Places places;
    for (auto& [name, value] : bench.backend().dump()) {
        if (opens(value.bytes, key, like)) {
            const std::size_t at = value.bytes.size() - encoded_size(like) - kSealBytes;
            places.push_back({.name = name, .value = value, .sealed_at = at});
        }
    }
    assert_true(!places.empty());
    return places;
}

void put_back(Bench& bench, const Places& places) {
    for (const Place& place : places) {
        assert_true(bench.backend().write(place.name, place.value));
    }
}

// Puts another sealed value in the place of all replicas.
void put_sealed(Bench& bench, const Places& places, const std::string& sealed) {
    for (const Place& place : places) {
        RawValue value = place.value;
        value.bytes = value.bytes.substr(0, place.sealed_at) + sealed;
        assert_true(bench.backend().write(place.name, value));
    }
}

std::string sealed_of(const Place& place) {
    return place.value.bytes.substr(place.sealed_at);
}

struct Created {
    StoreKey key = fresh_key();
    Places places;
};

Created created_session(Bench& bench) {
    Created session;
    assert_holds(bench.create(session.key, session_entry(1, 7, kRecord)));
    session.places = places_of(bench, session.key, session_entry(1, 7, kRecord));
    return session;
}

Created ended_session(Bench& bench) {
    Created session;
    assert_holds(bench.create(session.key, session_entry(1, 7, kRecord)));
    assert_holds(bench.end(session.key));
    session.places = places_of(bench, session.key, ended_entry());
    return session;
}

void assert_unknown_and_counted(Bench& bench, const StoreKey& key, StoreFault fault) {
    const std::uint64_t before = bench.faults(fault);
    assert_unknown(bench.get(key));
    assert_true(bench.faults(fault) > before);
}

bool holds_text(const std::map<std::string, RawValue>& dump, std::string_view text) {
    for (const auto& [name, value] : dump) {
        if (name.find(text) != std::string::npos || value.bytes.find(text) != std::string::npos) {
            return true;
        }
    }
    return false;
}

// ------------------------------------------------------------------------------- sealed

// A store that writes a layout of its own: no other implementation, nor a newer one, could read it.
void keeps_every_entry_sealed_as_documented(Bench& bench) {
    const Created session = created_session(bench);
    assert_holds(bench.touch(session.key, kStart));
    places_of(bench, session.key, activity_entry(kStart));
    assert_holds(bench.end(session.key));
    places_of(bench, session.key, ended_entry());
}

// A dump of the store must be worth nothing.
void holds_nothing_in_the_clear(Bench& bench) {
    const StoreEntry entry = session_entry(1, 4242, kRecord);
    const StoreKey key = fresh_key();
    assert_holds(bench.create(key, entry));
    assert_holds(bench.touch(key, kStart));
    const auto dump = bench.backend().dump();
    places_of(bench, key, entry);  // it is in there
    assert_true(as_text(entry.record).find(kUser) != std::string_view::npos);
    assert_false(holds_text(dump, kUser));
    assert_false(holds_text(dump, as_text(entry.token.handle)));
    assert_false(holds_text(dump, as_text(entry.token.secret)));
    assert_false(holds_text(dump, as_text(entry.token.tag)));
    assert_false(holds_text(dump, as_text(entry.successor)));
}

// ------------------------------------------------------------------------------- keys

// A rotated key file must not log anybody out.
void reads_and_writes_under_an_old_key(Bench& bench) {
    const StoreKey key = fresh_key();
    Store& before = bench.connect(seal_keys({kOldKeyId}));
    Store& after = bench.connect(seal_keys({kNewKeyId, kOldKeyId}));
    assert_holds(bench.run(before, operation(StoreVerb::create, key, session_entry())));
    assert_found(bench.run(after, operation(StoreVerb::get, key)), session_entry());
    assert_holds(bench.run(after, operation(StoreVerb::change, key, session_entry(2))));
    assert_found(bench.run(before, operation(StoreVerb::get, key)), session_entry(2));
    assert_holds(bench.run(after, operation(StoreVerb::end, key, ended_entry())));
    assert_ended(bench.run(before, operation(StoreVerb::get, key)));
}

// Not readable is not absent: the node with the right key file still has it.
void an_entry_under_a_key_that_is_gone_is_unknown(Bench& bench) {
    const StoreKey key = fresh_key();
    Store& with = bench.connect(seal_keys({kOldKeyId, kNewKeyId}));
    Store& without = bench.connect(seal_keys({kNewKeyId}));
    assert_holds(bench.run(with, operation(StoreVerb::create, key, session_entry())));
    assert_unknown(bench.run(without, operation(StoreVerb::get, key)));
    assert_true(bench.faults(StoreFault::bad_seal) > 0);

    StoreOp newer = operation(StoreVerb::change, key, session_entry(2));
    newer.key_id = kNewKeyId;
    assert_unknown(bench.run(without, std::move(newer)));
    assert_found(bench.run(with, operation(StoreVerb::get, key)), session_entry());
}

// Sealed under another key instead, nobody could read it.
void nothing_is_written_under_a_key_that_is_gone(Bench& bench) {
    Store& without = bench.connect(seal_keys({kNewKeyId}));
    Store& with = bench.connect(seal_keys({kOldKeyId, kNewKeyId}));
    const StoreKey keys[] = {fresh_key(), fresh_key()};
    std::array<StoreOp, 2> batch;
    batch[0] = operation(StoreVerb::create, keys[0], session_entry());
    batch[1] = operation(StoreVerb::create, keys[1], session_entry());
    batch[1].key_id = kNewKeyId;
    without.run(batch, kStart);
    assert_unknown(batch[0]);
    assert_holds(batch[1]);
    assert_absent(bench.run(with, operation(StoreVerb::get, keys[0])));
    assert_found(bench.run(with, operation(StoreVerb::get, keys[1])), session_entry());
}

// ------------------------------------------------------------------------------- damage

// A flipped bit anywhere: neither believed nor taken for "no such session".
void any_flipped_bit_is_unknown_and_counted(Bench& bench) {
    const Created session = created_session(bench);
    const std::size_t size = sealed_of(session.places[0]).size();
    const std::size_t positions[] = {1, 2, 13, 14, 40, size / 2, size - 17, size - 16, size - 1};
    for (const std::size_t at : positions) {
        std::string sealed = sealed_of(session.places[0]);
        sealed[at] = static_cast<char>(sealed[at] ^ 1 << at % 8);
        put_sealed(bench, session.places, sealed);
        assert_unknown_and_counted(bench, session.key, StoreFault::bad_seal);
    }
    put_back(bench, session.places);
    assert_found(bench.get(session.key), session_entry(1, 7, kRecord));
}

void a_shorter_or_longer_value_is_unknown_and_counted(Bench& bench) {
    const Created session = created_session(bench);
    const std::string sealed = sealed_of(session.places[0]);
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{14},
                                   kSealBytes - 1, kSealBytes, sealed.size() - 1}) {
        put_sealed(bench, session.places, sealed.substr(0, size));
        assert_unknown_and_counted(bench, session.key, StoreFault::bad_seal);
    }
    put_sealed(bench, session.places, sealed + '\0');
    assert_unknown_and_counted(bench, session.key, StoreFault::bad_seal);
    put_sealed(bench, session.places, std::string(100'000, 'x'));
    assert_unknown(bench.get(session.key));
    put_back(bench, session.places);
    assert_found(bench.get(session.key), session_entry(1, 7, kRecord));
}

// Without anything, not even what the store puts before the sealed value.
void an_empty_value_is_unknown_and_counted(Bench& bench) {
    const Created session = created_session(bench);
    for (Place place : session.places) {
        place.value.bytes.clear();
        assert_true(bench.backend().write(place.name, place.value));
    }
    assert_unknown_and_counted(bench, session.key, StoreFault::bad_seal);
}

// "absent" instead would let a node that still has the session write it again.
void a_damaged_tombstone_is_unknown_and_counted(Bench& bench) {
    const Created session = ended_session(bench);
    std::string sealed = sealed_of(session.places[0]);
    sealed.back() = static_cast<char>(sealed.back() ^ 1);
    put_sealed(bench, session.places, sealed);
    assert_unknown_and_counted(bench, session.key, StoreFault::bad_seal);
    assert_unknown(bench.create(session.key, session_entry()));
    assert_unknown(bench.change(session.key, session_entry(9)));
    assert_unknown(bench.get(session.key));
}

// Left out of the answer, it would make a session idle that is in use. The next touch heals it.
void a_damaged_activity_is_unknown_until_the_next_touch(Bench& bench) {
    const Created session = created_session(bench);
    assert_holds(bench.touch(session.key, kStart + kMinute));
    const Places activity = places_of(bench, session.key, activity_entry(kStart));
    std::string sealed = sealed_of(activity[0]);
    sealed[20] = static_cast<char>(sealed[20] ^ 4);
    put_sealed(bench, activity, sealed);
    assert_unknown_and_counted(bench, session.key, StoreFault::bad_seal);

    assert_holds(bench.touch(session.key, kStart + 2 * kMinute));
    StoreEntry healed = session_entry(1, 7, kRecord);
    healed.last_seen = kStart + 2 * kMinute;
    assert_found(bench.get(session.key), healed);
}

// Overwriting what cannot be read could overwrite a tombstone, or what a newer module keeps there.
void nothing_but_an_end_is_written_over_what_cannot_be_read(Bench& bench) {
    const Created session = created_session(bench);
    std::string sealed = sealed_of(session.places[0]);
    sealed.back() = static_cast<char>(sealed.back() ^ 1);
    put_sealed(bench, session.places, sealed);
    assert_unknown(bench.create(session.key, session_entry()));
    assert_unknown(bench.change(session.key, session_entry(99, 99)));
    assert_true(bench.touch(session.key, kStart).answer != StoreAnswer::absent);

    const auto now = bench.backend().dump();
    for (const Place& place : session.places) {
        assert_true(now.at(place.name).bytes ==
                    place.value.bytes.substr(0, place.sealed_at) + sealed);
    }
    // A logout must not depend on what it ends.
    assert_holds(bench.end(session.key));
    assert_ended(bench.get(session.key));
}

// ------------------------------------------------------------------------------- strangers

// Somebody with access to the store puts one session's value under another's name.
void a_value_moved_from_another_key_is_unknown_and_counted(Bench& bench) {
    const Created victim = created_session(bench);
    const Created other = created_session(bench);
    put_sealed(bench, victim.places, sealed_of(other.places[0]));
    assert_unknown_and_counted(bench, victim.key, StoreFault::bad_seal);

    const Created ended = ended_session(bench);
    put_sealed(bench, victim.places, sealed_of(ended.places[0]));
    assert_unknown_and_counted(bench, victim.key, StoreFault::bad_seal);
    put_sealed(bench, ended.places, sealed_of(other.places[0]));
    assert_unknown_and_counted(bench, ended.key, StoreFault::bad_seal);
}

// An activity of another session would keep this one from ever being idle.
void an_activity_moved_from_another_key_is_unknown_and_counted(Bench& bench) {
    const Created victim = created_session(bench);
    const Created other = created_session(bench);
    assert_holds(bench.touch(victim.key, kStart));
    assert_holds(bench.touch(other.key, kStart + kHour));
    const Places from = places_of(bench, other.key, activity_entry(kStart));
    put_sealed(bench, places_of(bench, victim.key, activity_entry(kStart)), sealed_of(from[0]));
    assert_unknown_and_counted(bench, victim.key, StoreFault::bad_seal);
}

// One kind of entry in the place of another: sealed for its kind only.
void an_activity_in_the_place_of_the_session_is_unknown_and_counted(Bench& bench) {
    const Created session = created_session(bench);
    assert_holds(bench.touch(session.key, kStart));
    const Places activity = places_of(bench, session.key, activity_entry(kStart));
    put_sealed(bench, session.places, sealed_of(activity[0]));
    assert_unknown_and_counted(bench, session.key, StoreFault::bad_seal);
}

// A reply that belongs to another request, genuine all the same.
void another_key_inside_a_good_seal_is_unknown_and_counted(Bench& bench) {
    const Created session = created_session(bench);
    const std::string plain = encode(session_entry(1, 7, kRecord), fresh_key());
    put_sealed(bench, session.places, seal(session.key, EntryKind::session, bytes_of(plain)));
    assert_unknown_and_counted(bench, session.key, StoreFault::wrong_key);
}

// During an upgrade of the fleet: the newer node's session is not ours to refuse or overwrite.
void a_newer_seal_is_unknown_and_counted(Bench& bench) {
    const Created session = created_session(bench);
    std::string sealed = sealed_of(session.places[0]);
    sealed[0] = kSealVersion + 1;
    put_sealed(bench, session.places, sealed);
    assert_unknown_and_counted(bench, session.key, StoreFault::newer_layout);
    assert_unknown(bench.change(session.key, session_entry(9)));
    assert_unknown_and_counted(bench, session.key, StoreFault::newer_layout);
}

void a_newer_entry_inside_a_good_seal_is_unknown_and_counted(Bench& bench) {
    const Created session = created_session(bench);
    std::string plain = encode(session_entry(1, 7, kRecord), session.key);
    plain[0] = kEntryVersion + 1;
    StoreEntry entry;
    assert_int_equal(decode_entry(bytes_of(plain), session.key, entry), EntryRead::newer_layout);
    put_sealed(bench, session.places, seal(session.key, EntryKind::session, bytes_of(plain)));
    assert_unknown_and_counted(bench, session.key, StoreFault::newer_layout);
    assert_unknown(bench.change(session.key, session_entry(9)));
    assert_unknown_and_counted(bench, session.key, StoreFault::newer_layout);
}

constexpr Case kCases[] = {
    {"keeps every entry sealed as documented", keeps_every_entry_sealed_as_documented},
    {"holds nothing in the clear", holds_nothing_in_the_clear},
    {"reads and writes under an old key", reads_and_writes_under_an_old_key},
    {"an entry under a key that is gone is unknown", an_entry_under_a_key_that_is_gone_is_unknown},
    {"nothing is written under a key that is gone", nothing_is_written_under_a_key_that_is_gone},
    {"any flipped bit is unknown and counted", any_flipped_bit_is_unknown_and_counted},
    {"a shorter or longer value is unknown and counted",
     a_shorter_or_longer_value_is_unknown_and_counted},
    {"an empty value is unknown and counted", an_empty_value_is_unknown_and_counted},
    {"a damaged tombstone is unknown and counted", a_damaged_tombstone_is_unknown_and_counted},
    {"a damaged activity is unknown until the next touch",
     a_damaged_activity_is_unknown_until_the_next_touch},
    {"nothing but an end is written over what cannot be read",
     nothing_but_an_end_is_written_over_what_cannot_be_read},
    {"a value moved from another key is unknown and counted",
     a_value_moved_from_another_key_is_unknown_and_counted},
    {"an activity moved from another key is unknown and counted",
     an_activity_moved_from_another_key_is_unknown_and_counted},
    {"an activity in the place of the session is unknown and counted",
     an_activity_in_the_place_of_the_session_is_unknown_and_counted},
    {"another key inside a good seal is unknown and counted",
     another_key_inside_a_good_seal_is_unknown_and_counted},
    {"a newer seal is unknown and counted", a_newer_seal_is_unknown_and_counted},
    {"a newer entry inside a good seal is unknown and counted",
     a_newer_entry_inside_a_good_seal_is_unknown_and_counted},
};

}  // namespace

std::span<const Case> format_cases() {
    return kCases;
}

}  // namespace sg::test
