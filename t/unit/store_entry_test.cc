// The bytes of a store entry, and which of two entries stands.
#include "core/store_entry.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <string_view>

// After every other header: it defines macros with names of the standard library (fail).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

using namespace sg;
using namespace std::literals;

namespace {

constexpr StoreKey kKey = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                           0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
constexpr std::string_view kRecord = "what a record is does not matter";

// Memory of exactly this size, so that a sanitizer sees a step beyond. Good until the next call.
ByteSpan exact_bytes(std::size_t size) {
    static std::unique_ptr<std::uint8_t[]> bytes;
    bytes.reset(new std::uint8_t[size]);
    return {bytes.get(), size};
}

StoreEntry entry_of(EntryKind kind) {
    StoreEntry entry;
    entry.kind = kind;
    entry.version = {.counter = 0x1f1e1d1c, .node = 0xf7f6f5f4f3f2f1f0};
    entry.expires = 0x0706050403020100;
    if (kind == EntryKind::ended) {
        entry.why = Departure::expired_absolute;
        return entry;
    }
    entry.last_seen = 0x0f0e0d0c0b0a0908;
    if (kind == EntryKind::activity) {
        return entry;
    }
    entry.superseded_until = 0x1716151413121110;
    entry.successor.fill(0x5c);
    entry.token.key_id = 0x4d;
    entry.token.handle.fill(0x4a);
    entry.token.secret.fill(0x5e);
    entry.token.tag.fill(0x7a);
    entry.record = as_bytes(kRecord);
    return entry;
}

std::string encode(const StoreEntry& entry, const StoreKey& key = kKey) {
    const ByteSpan exact = exact_bytes(encoded_size(entry));
    const std::size_t size = encode_entry(entry, key, exact);
    return std::string(as_text(exact.first(size)));
}

// `entry` points into the copy, which is good until the next call.
EntryRead decode(std::string_view bytes, StoreEntry& entry, const StoreKey& key = kKey) {
    const ByteSpan exact = exact_bytes(bytes.size());
    std::copy(bytes.begin(), bytes.end(), exact.begin());
    return decode_entry(exact, key, entry);
}

EntryRead read_of(std::string_view bytes, const StoreKey& key = kKey) {
    StoreEntry entry;
    return decode(bytes, entry, key);
}

constexpr EntryKind kKinds[] = {EntryKind::session, EntryKind::ended, EntryKind::activity};

constexpr std::string_view kSessionBytes =
    "\x01\x01\x00\x00\x1c\x1d\x1e\x1f"
    "\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7"
    "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"
    "\x00\x01\x02\x03\x04\x05\x06\x07"
    "\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"
    "\x10\x11\x12\x13\x14\x15\x16\x17"
    "\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\"
    "MJJJJJJJJJJJJJJJJ^^^^^^^^^^^^^^^^zzzzzzzzzzzzzzz"
    "\x20\x00\x00\x00what a record is does not matter"sv;
constexpr std::string_view kEndedBytes =
    "\x01\x02\x04\x00\x1c\x1d\x1e\x1f"
    "\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7"
    "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"
    "\x00\x01\x02\x03\x04\x05\x06\x07"sv;
constexpr std::string_view kActivityBytes =
    "\x01\x03\x00\x00\x1c\x1d\x1e\x1f"
    "\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7"
    "\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"
    "\x00\x01\x02\x03\x04\x05\x06\x07"
    "\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"sv;

std::string_view bytes_of(EntryKind kind) {
    return kind == EntryKind::session ? kSessionBytes
           : kind == EntryKind::ended ? kEndedBytes
                                      : kActivityBytes;
}

// Would catch: a field moved: what a store holds would be read wrongly after an upgrade.
void writes_the_documented_bytes(void**) {
    for (const EntryKind kind : kKinds) {
        const std::string_view wanted = bytes_of(kind);
        assert_int_equal(encoded_size(entry_of(kind)), wanted.size());
        assert_true(encode(entry_of(kind)) == wanted);
    }
    assert_int_equal(kSessionBytes.size(), kEntryFixedBytes + kRecord.size());
}

void assert_same_entry(const StoreEntry& a, const StoreEntry& b) {
    assert_int_equal(a.kind, b.kind);
    assert_true(a.version == b.version);
    assert_int_equal(a.expires, b.expires);
    assert_true(same_token(a.token, b.token));
    assert_int_equal(a.last_seen, b.last_seen);
    assert_int_equal(a.superseded_until, b.superseded_until);
    assert_true(a.successor == b.successor);
    assert_true(as_text(a.record) == as_text(b.record));
    assert_int_equal(a.why, b.why);
}

// Would catch: a field that is written and not read, or one that an earlier entry left behind.
void reads_back_what_it_wrote(void**) {
    StoreEntry read = entry_of(EntryKind::session);
    for (const EntryKind kind : kKinds) {
        read.why = Departure::expired_idle;
        assert_int_equal(decode(encode(entry_of(kind)), read), EntryRead::ok);
        assert_same_entry(read, entry_of(kind));
    }
    StoreEntry least;
    least.record = as_bytes("r");
    assert_int_equal(decode(encode(least), read), EntryRead::ok);
    assert_same_entry(read, least);
}

// Would catch: the secret of a session, or a handle, in an entry that does not need it.
void writes_nothing_of_other_kinds(void**) {
    for (const EntryKind kind : kKinds) {
        StoreEntry entry = entry_of(EntryKind::session);
        entry.kind = kind;
        entry.why = Departure::expired_absolute;
        assert_true(encode(entry) == bytes_of(kind));
    }
    StoreEntry live = entry_of(EntryKind::session);
    live.superseded_until = 0;
    const std::string bytes = encode(live);
    assert_int_equal(bytes.find('\x5c'), std::string::npos);
    assert_int_equal(read_of(bytes), EntryRead::ok);
}

// Good bytes of a kind with some of them replaced, and cut off or followed by others.
struct Hostile {
    EntryKind kind;
    std::size_t at;
    std::string_view put;
    int grow;  // bytes added (zeros) or taken away at the end
    EntryRead wanted;
};

constexpr auto kSession = EntryKind::session;
constexpr auto kEnded = EntryKind::ended;
constexpr auto kActivity = EntryKind::activity;
constexpr auto kDamaged = EntryRead::damaged;
constexpr auto kNewer = EntryRead::newer_layout;
constexpr auto kWrongKey = EntryRead::wrong_key;
constexpr int kSessionSize = 156;

constexpr Hostile kHostile[] = {
    // layout
    {kSession, 0, "\x00"sv, 0, kDamaged},
    {kEnded, 0, "\x00"sv, 0, kDamaged},
    {kSession, 0, "\x02"sv, 0, kNewer},
    {kEnded, 0, "\x02"sv, 0, kNewer},
    {kActivity, 0, "\xff"sv, 0, kNewer},
    {kSession, 0, "\x02"sv, 1 - kSessionSize, kNewer},
    {kSession, 0, "\x02\x09"sv, 4096, kNewer},
    {kSession, 0, "\x02\x01\xff\xff\xff\xff"sv, 0, kNewer},
    {kSession, 0, "\x00"sv, 1 - kSessionSize, kDamaged},
    {kSession, 0, ""sv, 1 - kSessionSize, kDamaged},
    {kSession, 0, ""sv, -kSessionSize, kDamaged},
    // kind
    {kSession, 1, "\x00"sv, 0, kDamaged},
    {kSession, 1, "\x04"sv, 0, kDamaged},
    {kEnded, 1, "\x04\x00"sv, 0, kDamaged},
    {kActivity, 1, "\x80"sv, 0, kDamaged},
    {kSession, 1, "\xff"sv, 0, kDamaged},
    // one kind in the place of another
    {kSession, 1, "\x02\x01"sv, 0, kDamaged},
    {kSession, 1, "\x03"sv, 0, kDamaged},
    {kEnded, 1, "\x01\x00"sv, 0, kDamaged},
    {kEnded, 1, "\x03\x00"sv, 0, kDamaged},
    {kActivity, 1, "\x01"sv, 0, kDamaged},
    {kActivity, 1, "\x02\x01"sv, 0, kDamaged},
    // why
    {kEnded, 2, "\x00"sv, 0, kDamaged},
    {kEnded, 2, "\x05"sv, 0, kDamaged},
    {kEnded, 2, "\xff"sv, 0, kDamaged},
    {kSession, 2, "\x01"sv, 0, kDamaged},
    {kActivity, 2, "\x01"sv, 0, kDamaged},
    // reserved
    {kSession, 3, "\x01"sv, 0, kDamaged},
    {kEnded, 3, "\x80"sv, 0, kDamaged},
    {kActivity, 3, "\xff"sv, 0, kDamaged},
    // key
    {kSession, 16, "\x01"sv, 0, kWrongKey},
    {kEnded, 16, "\x01"sv, 0, kWrongKey},
    {kActivity, 31, "\xfe"sv, 0, kWrongKey},
    {kSession, 16, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"sv, 0, kWrongKey},
    {kSession, 3,
     "\x01"
     "\x1c\x1d\x1e\x1f\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7\x01"sv,
     0, kDamaged},
    // times before 1970
    {kSession, 39, "\x80"sv, 0, kDamaged},
    {kEnded, 39, "\xff"sv, 0, kDamaged},
    {kActivity, 32, "\xff\xff\xff\xff\xff\xff\xff\xff"sv, 0, kDamaged},
    {kSession, 47, "\x80"sv, 0, kDamaged},
    {kActivity, 47, "\x80"sv, 0, kDamaged},
    {kSession, 55, "\x80"sv, 0, kDamaged},
    {kSession, 48, "\xff\xff\xff\xff\xff\xff\xff\xff"sv, 0, kDamaged},
    // a successor of a session that is not superseded
    {kSession, 48, "\0\0\0\0\0\0\0\0"sv, 0, kDamaged},
    {kSession, 48, "\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"sv, 0, kDamaged},
    {kSession, 48, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01"sv, 0, kDamaged},
    // lengths
    {kSession, 120, "\x1f"sv, 0, kDamaged},
    {kSession, 120, "\x21"sv, 0, kDamaged},
    {kSession, 120, "\x00"sv, 0, kDamaged},
    {kSession, 120, "\x20\x01"sv, 0, kDamaged},
    {kSession, 120, "\x20\x00\x01"sv, 0, kDamaged},
    {kSession, 123, "\x80"sv, 0, kDamaged},
    {kSession, 120, "\xff\xff\xff\xff"sv, 0, kDamaged},
    {kSession, 120, "\x84\xff\xff\xff"sv, 0, kDamaged},
    {kSession, 120, "\x00\x00\x00\x00"sv, -32, kDamaged},    // no record at all
    {kSession, 120, "\x01\xa0\x00\x00"sv, 40929, kDamaged},  // one byte too large
    {kSession, 120, "\x20\x00\x01\x00"sv, 65536, kDamaged},  // far too large
    {kSession, 0, ""sv, -32, kDamaged},
    {kSession, 0, ""sv, -33, kDamaged},
    {kSession, 0, ""sv, 40 - kSessionSize, kDamaged},
    {kSession, 0, ""sv, 48 - kSessionSize, kDamaged},
    {kSession, 0, ""sv, 1, kDamaged},
    {kEnded, 0, ""sv, 8, kDamaged},
    {kEnded, 0, ""sv, 1, kDamaged},
    {kEnded, 0, ""sv, -1, kDamaged},
    {kActivity, 0, ""sv, -8, kDamaged},
    {kActivity, 0, ""sv, 76, kDamaged},
};
static_assert(std::size(kHostile) >= 60);

std::string hostile_bytes(const Hostile& each) {
    std::string bytes(bytes_of(each.kind));
    bytes.replace(each.at, each.put.size(), each.put);
    bytes.resize(bytes.size() + static_cast<std::size_t>(each.grow));
    return bytes;
}

// Would catch: bytes that no module of ours wrote taken for a session or for its end; an entry of a
// newer module called damaged; a mixed-up reply believed.
void refuses_what_it_does_not_write_and_says_why(void**) {
    assert_int_equal(kSessionBytes.size(), kSessionSize);
    for (const Hostile& each : kHostile) {
        static std::string bytes;
        bytes = hostile_bytes(each);
        const EntryRead read = read_of(bytes);
        if (read != each.wanted) {
            fail_msg("line %td: got %d", &each - kHostile, static_cast<int>(read));
        }
    }
}

// Would catch: a read beyond the end, or an entry that a full store cut off taken for whole.
void refuses_every_truncation_and_every_byte_too_many(void**) {
    for (const EntryKind kind : kKinds) {
        const std::string_view bytes = bytes_of(kind);
        for (std::size_t size = 0; size < bytes.size(); ++size) {
            assert_int_equal(read_of(bytes.substr(0, size)), EntryRead::damaged);
        }
        assert_int_equal(read_of(bytes), EntryRead::ok);
        assert_int_equal(read_of(std::string(bytes) + '\0'), EntryRead::damaged);
        assert_int_equal(read_of(std::string(bytes) + std::string(bytes)), EntryRead::damaged);
    }
}

// Would catch: two spellings of one entry: a compare-and-swap on its bytes would see a change.
void every_flipped_bit_is_refused_or_kept(void**) {
    int kept = 0;
    for (const EntryKind kind : kKinds) {
        for (std::size_t bit = 0; bit < bytes_of(kind).size() * 8; ++bit) {
            static std::string flipped;
            flipped = bytes_of(kind);
            flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
            static std::array<std::uint8_t, kMaxEntryBytes> again;
            StoreEntry entry;
            if (decode(flipped, entry) != EntryRead::ok) {
                continue;
            }
            ++kept;
            const std::size_t size = encode_entry(entry, kKey, again);
            assert_true(as_text(ByteView(again).first(size)) == flipped);
        }
    }
    assert_true(kept > 1000);  // counter, node, times, token and record may be anything
}

// Would catch: a byte of the key that is not compared.
void an_entry_is_of_one_key_only(void**) {
    for (const EntryKind kind : kKinds) {
        for (std::size_t bit = 0; bit < sizeof kKey * 8; ++bit) {
            StoreKey other = kKey;
            other[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
            assert_int_equal(read_of(bytes_of(kind), other), EntryRead::wrong_key);
        }
    }
}

// Would catch: an entry written half, or one that decode_entry refuses afterwards: a session lost.
void writes_nothing_that_it_would_not_read(void**) {
    static std::array<std::uint8_t, kMaxEntryBytes + 1> out;
    static const std::string largest(kMaxEntryRecord, 'r');
    static const std::string too_large(kMaxEntryRecord + 1, 'r');
    const auto refused = [](const StoreEntry& entry) {
        return encode_entry(entry, kKey, out) == 0;
    };
    StoreEntry entry = entry_of(kSession);
    entry.record = as_bytes(largest);
    assert_int_equal(encode_entry(entry, kKey, out), kMaxEntryBytes);
    assert_int_equal(read_of(encode(entry)), EntryRead::ok);
    entry.record = as_bytes(too_large);
    assert_true(refused(entry));
    entry.record = {};
    assert_true(refused(entry));
    for (const EntryKind kind : kKinds) {
        entry = entry_of(kind);
        entry.expires = -1;
        assert_true(refused(entry));
        entry = entry_of(kind);
        entry.last_seen = -1;
        assert_int_equal(refused(entry), kind != kEnded);
        entry = entry_of(kind);
        entry.superseded_until = -1;
        assert_int_equal(refused(entry), kind == kSession);
        for (const int why : {0, 5, 255}) {
            entry = entry_of(kind);
            entry.why = static_cast<Departure>(why);
            assert_int_equal(refused(entry), kind == kEnded);
        }
    }
    for (const int kind : {0, 4, 255}) {
        entry = entry_of(kSession);
        entry.kind = static_cast<EntryKind>(kind);
        assert_true(refused(entry));
        assert_int_equal(encoded_size(entry), 0);
    }
}

// Would catch: a write beyond the buffer that was given.
void needs_room_for_the_whole_entry(void**) {
    for (const EntryKind kind : kKinds) {
        const StoreEntry entry = entry_of(kind);
        for (std::size_t size = 0; size < encoded_size(entry); ++size) {
            assert_int_equal(encode_entry(entry, kKey, exact_bytes(size)), 0);
        }
    }
}

// From the weakest to the strongest; the last three are equals.
constexpr std::size_t kRanks = 9;

std::array<StoreEntry, kRanks> ranked_entries() {
    std::array<StoreEntry, kRanks> entries;
    constexpr Version kVersions[] = {{0, 0}, {0, 1},          {0, ~0ull},
                                     {1, 0}, {0x80000000, 0}, {0xffffffff, 1}};
    for (std::size_t i = 0; i < std::size(kVersions); ++i) {
        entries[i] = entry_of(kSession);
        entries[i].version = kVersions[i];
        entries[i].expires = static_cast<TimeMs>(kRanks - i);  // no reason to win
        entries[i].last_seen = static_cast<TimeMs>(kRanks - i);
    }
    for (std::size_t i = 6; i < kRanks; ++i) {
        entries[i] = entry_of(kEnded);
        entries[i].version = {.counter = static_cast<std::uint32_t>(i - 6), .node = 0};
    }
    return entries;
}

// Would catch: an ended session brought back by a late writer with a larger counter, an older state
// that replaces a newer one, and replicas that replace each other for ever.
void ended_beats_live_and_of_live_ones_the_newer_stands(void**) {
    const auto entries = ranked_entries();
    for (std::size_t a = 0; a < kRanks; ++a) {
        for (std::size_t b = 0; b < kRanks; ++b) {
            const bool wanted = entries[b].kind != kEnded && a > b;
            if (wins(entries[a], entries[b]) != wanted) {
                fail_msg("%zu against %zu", a, b);
            }
        }
    }
    // An activity is no state of a session.
    assert_false(wins(entry_of(kActivity), entries[0]));
    assert_false(wins(entry_of(kActivity), entries[kRanks - 1]));
    assert_false(wins(entries[5], entry_of(kActivity)));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(writes_the_documented_bytes),
        cmocka_unit_test(reads_back_what_it_wrote),
        cmocka_unit_test(writes_nothing_of_other_kinds),
        cmocka_unit_test(refuses_what_it_does_not_write_and_says_why),
        cmocka_unit_test(refuses_every_truncation_and_every_byte_too_many),
        cmocka_unit_test(every_flipped_bit_is_refused_or_kept),
        cmocka_unit_test(an_entry_is_of_one_key_only),
        cmocka_unit_test(writes_nothing_that_it_would_not_read),
        cmocka_unit_test(needs_room_for_the_whole_entry),
        cmocka_unit_test(ended_beats_live_and_of_live_ones_the_newer_stands),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
