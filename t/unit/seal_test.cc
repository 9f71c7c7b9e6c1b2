// Sealed store entries: what opens, and above all what does not.
#include "core/seal.h"

#include <openssl/err.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "core/keys.h"

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
using Opened = Sealer::Opened;

namespace {

#define KEY_A "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define KEY_B "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
#define KEY_C "f0e1d2c3b4a5968778695a4b3c2d1e0ff0e1d2c3b4a5968778695a4b3c2d1e0f"

// Computed with Python's cryptography from the written description, not with this program.
constexpr StoreKey kKey = {0x49, 0xc1, 0x93, 0x93, 0x4c, 0xda, 0xf7, 0x42,
                           0x1a, 0x01, 0x81, 0x6e, 0x8d, 0xa0, 0x27, 0xbf};
constexpr std::string_view kPlain = "a session";
constexpr std::string_view kSealed =
    "\x01\x4d\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\x5c\x2d\x26\x2a\xc3\x67\xea\x33\x90"
    "\x2e\xda\x91\xd9\xef\xf8\x83\x63\xe6\xc9\xba\xe3\x32\x3c\x93\xb9"sv;
constexpr std::string_view kSealedNothing =
    "\x01\x4d\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\x9b\xb3\xa5\xef\x22\x5a\x1c\xd0\xa4"
    "\xee\x1f\xc1\x5f\xbd\xe9\x46"sv;
constexpr std::uint8_t kIdA = 0x4d;
constexpr std::array<std::uint8_t, kNonceBytes> kNonce = {0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5,
                                                          0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab};

SealKeys seal_keys(std::string_view realm, std::string_view text) {
    static KeyRing ring;
    KeyFile file;
    KeyFileError error;
    SealKeys keys;
    assert_true(parse_key_file(text, file, error));
    assert_int_equal(ring.load(realm, file), KeyRing::Load::ok);
    assert_true(ring.seal_keys(keys));
    assert_int_equal(keys.count, file.count);
    return keys;
}

void load(Sealer& sealer, std::string_view realm, std::string_view text) {
    assert_true(sealer.load(seal_keys(realm, text)));
}

// The sealer of most tests.
Sealer& app() {
    static Sealer sealer;
    load(sealer, "app", KEY_A);
    return sealer;
}

// Memory of exactly this size, so that a sanitizer sees a step beyond. Good until the third call
// after this one.
ByteSpan exact_bytes(std::size_t size) {
    static std::array<std::unique_ptr<std::uint8_t[]>, 3> bytes;
    static std::size_t next = 0;
    next = (next + 1) % bytes.size();
    bytes[next].reset(new std::uint8_t[size]);
    std::fill_n(bytes[next].get(), size, std::uint8_t{0xee});
    return {bytes[next].get(), size};
}

ByteView exact_copy(std::string_view bytes) {
    const ByteSpan copy = exact_bytes(bytes.size());
    std::copy(bytes.begin(), bytes.end(), copy.begin());
    return copy;
}

std::string seal(Sealer& sealer, std::string_view plain = kPlain, std::uint8_t key_id = kIdA,
                 const StoreKey& key = kKey, EntryKind kind = EntryKind::session) {
    const ByteSpan out = exact_bytes(plain.size() + kSealBytes);
    const std::size_t size = sealer.seal(key_id, key, kind, exact_copy(plain), kNonce, out);
    return std::string(as_text(out.first(size)));
}

// Everything that holds of every answer is checked here.
Opened open(Sealer& sealer, std::string_view sealed, std::string* plain = nullptr,
            const StoreKey& key = kKey, EntryKind kind = EntryKind::session) {
    const ByteSpan out = exact_bytes(sealed.size() > kSealBytes ? sealed.size() - kSealBytes : 0);
    std::size_t size = 77777;
    const Opened opened = sealer.open(key, kind, exact_copy(sealed), out, size);
    if (opened == Opened::ok) {
        assert_int_equal(size, out.size());
        if (plain != nullptr) {
            *plain = as_text(out);
        }
        return opened;
    }
    assert_int_equal(size, 77777);
    for (const std::uint8_t byte : out) {  // untouched or wiped
        assert_true(byte == 0xee || byte == 0);
    }
    // nginx would log what is left in OpenSSL's queue as an error of the next TLS connection.
    assert_int_equal(ERR_peek_error(), 0);
    return opened;
}

// Would catch: a changed derivation or layout: after an upgrade nothing in the store would open.
void seals_what_the_documentation_says(void**) {
    static std::string plain;
    Sealer& sealer = app();
    assert_true(seal(sealer) == kSealed);
    assert_int_equal(open(sealer, kSealed, &plain), Opened::ok);
    assert_true(plain == kPlain);
    assert_true(seal(sealer, "", kIdA, kKey, EntryKind::activity) == kSealedNothing);
    assert_int_equal(open(sealer, kSealedNothing, &plain, kKey, EntryKind::activity), Opened::ok);
    assert_true(plain.empty());
    std::size_t size = 1;
    assert_int_equal(sealer.open(kKey, EntryKind::activity, as_bytes(kSealedNothing), {}, size),
                     Opened::ok);
    assert_int_equal(size, 0);
}

// Would catch: state that one entry leaves in the contexts for the next, of another size or key or
// after a failure.
void seals_and_opens_every_size_in_any_order(void**) {
    static Sealer sealer;
    load(sealer, "app", KEY_A "\n" KEY_B "\n");
    const std::uint8_t ids[] = {seal_keys("app", KEY_A).keys[0].id,
                                seal_keys("app", KEY_B).keys[0].id};
    static std::array<std::string, 40> sealed;
    static std::array<std::string, 40> texts;
    for (std::size_t i = 0; i < sealed.size(); ++i) {
        StoreKey key = kKey;
        key[i % 16] ^= static_cast<std::uint8_t>(i);
        texts[i].assign(i == 39 ? kMaxEntryBytes : i * i, static_cast<char>('a' + i % 26));
        sealed[i] = seal(sealer, texts[i], ids[i % 2], key);
        assert_int_equal(sealed[i].size(), texts[i].size() + kSealBytes);
        assert_int_equal(open(sealer, kSealedNothing), Opened::failed);  // of another kind
        static std::string plain;
        assert_int_equal(open(sealer, sealed[i], &plain, key), Opened::ok);
        assert_true(plain == texts[i]);
    }
    for (std::size_t i = sealed.size(); i-- > 0;) {
        StoreKey key = kKey;
        key[i % 16] ^= static_cast<std::uint8_t>(i);
        static std::string plain;
        assert_int_equal(open(sealer, sealed[i], &plain, key), Opened::ok);
        assert_true(plain == texts[i]);
        assert_true(seal(sealer, texts[i], ids[i % 2], key) == sealed[i]);
    }
}

// Would catch: a part of the value that the tag does not cover.
void opens_nothing_with_one_bit_flipped(void**) {
    Sealer& sealer = app();
    for (const std::string_view good : {kSealed, kSealedNothing}) {
        for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
            static std::string flipped;
            flipped = good;
            flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
            const Opened wanted = bit == 0   ? Opened::failed  // layout 0
                                  : bit < 8  ? Opened::newer_layout
                                  : bit < 16 ? Opened::unknown_key
                                             : Opened::failed;
            const EntryKind kind = good == kSealed ? EntryKind::session : EntryKind::activity;
            assert_int_equal(open(sealer, flipped, nullptr, kKey, kind), wanted);
        }
    }
}

// Would catch: a value that somebody who can write to the store copied to another key: another
// user's session, or the tombstone of one ended session made that of a live one.
void opens_nothing_that_was_moved_to_another_key(void**) {
    Sealer& sealer = app();
    for (std::size_t bit = 0; bit < sizeof kKey * 8; ++bit) {
        StoreKey other = kKey;
        other[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
        assert_int_equal(open(sealer, kSealed, nullptr, other), Opened::failed);
    }
}

// Would catch: the last activity of a session that passes for its record or its tombstone.
void opens_nothing_as_another_kind(void**) {
    Sealer& sealer = app();
    for (int sealed_as = 0; sealed_as < 6; ++sealed_as) {
        static std::string sealed;
        sealed = seal(sealer, kPlain, kIdA, kKey, static_cast<EntryKind>(sealed_as));
        for (int opened_as = 0; opened_as < 6; ++opened_as) {
            assert_int_equal(open(sealer, sealed, nullptr, kKey, static_cast<EntryKind>(opened_as)),
                             sealed_as == opened_as ? Opened::ok : Opened::failed);
        }
    }
}

// Would catch: an entry of one realm that opens in another with the same key file. The key ids of
// two realms differ as a rule, so the id is put in by hand: the key must not fit either.
void opens_nothing_of_another_realm(void**) {
    for (const std::string_view realm : {"shop"sv, "App"sv, "ap"sv, "app "sv, ""sv}) {
        static Sealer other;
        SealKeys keys = seal_keys(realm, KEY_A);
        const SealKeys ours = seal_keys("app", KEY_A);
        assert_true(keys.keys[0].master != ours.keys[0].master);
        keys.keys[0].id = kIdA;
        assert_true(other.load(keys));
        assert_int_equal(open(other, kSealed), Opened::failed);
        keys.keys[0] = ours.keys[0];
        assert_true(other.load(keys));
        assert_int_equal(open(other, kSealed), Opened::ok);
    }
}

// Would catch: a key rotation that makes the stored sessions unreadable; a removed key called an
// attack; a key that answers for another.
void after_a_key_rotation_old_entries_open_as_long_as_the_key_is_there(void**) {
    static Sealer sealer;
    load(sealer, "app", KEY_A "\n" KEY_B " current\n");
    assert_int_equal(open(sealer, kSealed), Opened::ok);
    const std::uint8_t id_b = seal_keys("app", KEY_B).keys[0].id;
    static std::string fresh;
    fresh = seal(sealer, kPlain, id_b);
    assert_true(fresh.substr(kSealBytes - 16) != kSealed.substr(kSealBytes - 16));
    load(sealer, "app", KEY_C "\n" KEY_B "\n" KEY_A "\n");
    assert_int_equal(open(sealer, kSealed), Opened::ok);
    assert_int_equal(open(sealer, fresh), Opened::ok);
    static std::string renamed;
    renamed = kSealed;
    renamed[1] = static_cast<char>(id_b);
    assert_int_equal(open(sealer, renamed), Opened::failed);
    load(sealer, "app", KEY_B "\n");
    assert_int_equal(open(sealer, kSealed), Opened::unknown_key);
    assert_int_equal(open(sealer, fresh), Opened::ok);
    assert_true(seal(sealer, kPlain, kIdA).empty());  // nor is anything sealed under it
}

// kSealed with some bytes replaced, and cut off or followed by zeros.
struct Hostile {
    std::size_t at;
    std::string_view put;
    int grow;
    Opened wanted;
};

constexpr int kSize = 39;
constexpr auto kFailed = Opened::failed;
constexpr auto kNewer = Opened::newer_layout;
constexpr auto kUnknown = Opened::unknown_key;

constexpr Hostile kHostile[] = {
    // too little of it
    {0, ""sv, -kSize, kFailed},
    {0, ""sv, 1 - kSize, kFailed},
    {0, ""sv, 2 - kSize, kFailed},
    {0, ""sv, 13 - kSize, kFailed},
    {0, ""sv, 14 - kSize, kFailed},
    {0, ""sv, 15 - kSize, kFailed},
    {0, ""sv, 29 - kSize, kFailed},
    {0, ""sv, 30 - kSize, kFailed},
    {0, ""sv, 31 - kSize, kFailed},
    {0, ""sv, -16, kFailed},
    {0, ""sv, -2, kFailed},
    {0, ""sv, -1, kFailed},
    {1, "\x4c"sv, 29 - kSize, kFailed},
    // too much of it
    {0, ""sv, 1, kFailed},
    {0, ""sv, 16, kFailed},
    {0, ""sv, kSize, kFailed},
    {0, ""sv, static_cast<int>(kMaxEntryBytes), kFailed},
    {0, ""sv, 1 << 20, kFailed},
    // layout
    {0, "\x00"sv, 0, kFailed},
    {0, "\x00"sv, 1 - kSize, kFailed},
    {0, "\x02"sv, 0, kNewer},
    {0, "\x02"sv, 1 - kSize, kNewer},
    {0, "\x02\x4c"sv, 0, kNewer},
    {0, "\x02"sv, 1 << 20, kNewer},
    {0, "\x7f"sv, 0, kNewer},
    {0, "\x80"sv, 0, kNewer},
    {0, "\xff\xff"sv, 0, kNewer},
    // key id
    {1, "\x00"sv, 0, kUnknown},
    {1, "\x4c"sv, 0, kUnknown},
    {1, "\x4e"sv, 0, kUnknown},
    {1, "\xff"sv, 0, kUnknown},
    {1, "\x4c"sv, 30 - kSize, kUnknown},
    // nonce
    {2, "\xa1"sv, 0, kFailed},
    {13, "\xaa"sv, 0, kFailed},
    {2, "\0\0\0\0\0\0\0\0\0\0\0\0"sv, 0, kFailed},
    {2, "\xab\xaa\xa9\xa8\xa7\xa6\xa5\xa4\xa3\xa2\xa1\xa0"sv, 0, kFailed},
    // ciphertext
    {14, "\x00"sv, 0, kFailed},
    {14, "a session"sv, 0, kFailed},
    {22, "\x91"sv, 0, kFailed},
    {14, "\x2d\x5c"sv, 0, kFailed},
    {14, "\0\0\0\0\0\0\0\0\0"sv, 0, kFailed},
    // tag
    {23, "\x2f"sv, 0, kFailed},
    {38, "\xb8"sv, 0, kFailed},
    {23, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"sv, 0, kFailed},
    {23, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"sv, 0, kFailed},
    {23, "\x9b\xb3\xa5\xef\x22\x5a\x1c\xd0\xa4\xee\x1f\xc1\x5f\xbd\xe9\x46"sv, 0, kFailed},
    // shifted: the tag of an entry cut off behind it, or in front
    {2, "\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\x5c"sv, 0, kFailed},
    {0, "\x01\x01\x4d\xa0"sv, 0, kUnknown},
    // the plain text of an entry in its place, or an answer that is none
    {0, "a session"sv, 0, kNewer},
    {0, "END\r\n"sv, 5 - kSize, kNewer},
    {0,
     "\x01\x4d"
     "END\r\n"sv,
     7 - kSize, kFailed},
};
static_assert(std::size(kHostile) >= 50);

// Would catch: bytes that nobody with a key of this realm wrote believed, or a newer module's
// entries reported as an attack.
void opens_nothing_that_it_did_not_seal_and_says_why(void**) {
    Sealer& sealer = app();
    assert_int_equal(kSealed.size(), kSize);
    for (const Hostile& each : kHostile) {
        static std::string bytes;
        bytes = kSealed;
        bytes.replace(each.at, each.put.size(), each.put);
        bytes.resize(bytes.size() + static_cast<std::size_t>(each.grow));
        const Opened opened = open(sealer, bytes);
        if (opened != each.wanted) {
            fail_msg("line %td: got %d", &each - kHostile, static_cast<int>(opened));
        }
    }
    assert_int_equal(open(sealer, kSealed), Opened::ok);
}

// Would catch: a write beyond the buffer that was given.
void needs_room_for_all_of_it(void**) {
    Sealer& sealer = app();
    for (std::size_t size = 0; size < kSealed.size(); ++size) {
        assert_int_equal(sealer.seal(kIdA, kKey, EntryKind::session, as_bytes(kPlain), kNonce,
                                     exact_bytes(size)),
                         0);
    }
    std::size_t opened_size = 0;
    for (std::size_t size = 0; size < kPlain.size(); ++size) {
        assert_int_equal(sealer.open(kKey, EntryKind::session, as_bytes(kSealed), exact_bytes(size),
                                     opened_size),
                         Opened::failed);
    }
    static std::array<std::uint8_t, 2 * kMaxEntryBytes> out;
    static const std::string too_large(kMaxEntryBytes + 1, 'r');
    assert_int_equal(sealer.seal(kIdA, kKey, EntryKind::session, as_bytes(too_large), kNonce, out),
                     0);
}

// Would catch: the content of a store that shows through.
void hides_the_plain_text_and_differs_with_every_nonce_and_key(void**) {
    Sealer& sealer = app();
    static const std::string plain(64, 'p');
    static std::string first;
    static std::string second;
    first = seal(sealer, plain);
    assert_int_equal(first.find("pp"), std::string::npos);
    StoreKey other = kKey;
    other[0] ^= 1;
    second = seal(sealer, plain, kIdA, other);
    assert_true(first.substr(kNonceBytes + 2) != second.substr(kNonceBytes + 2));
    std::array<std::uint8_t, kNonceBytes> nonce = kNonce;
    nonce[11] ^= 1;
    const ByteSpan out = exact_bytes(plain.size() + kSealBytes);
    assert_int_equal(sealer.seal(kIdA, kKey, EntryKind::session, as_bytes(plain), nonce, out),
                     out.size());
    assert_true(first.substr(kNonceBytes + 2) != as_text(out).substr(kNonceBytes + 2));
}

// Would catch: key material that stays in memory after its last use.
void wipes_the_keys_that_were_handed_out(void**) {
    static KeyRing ring;
    static SealKeys keys;
    keys = seal_keys("app", KEY_A "\n" KEY_B "\n");
    const SealKeys none;
    assert_memory_not_equal(&keys.keys, &none.keys, sizeof keys.keys);
    keys.wipe();
    assert_memory_equal(&keys.keys, &none.keys, sizeof keys.keys);
    assert_int_equal(keys.count, 0);
    // An empty ring hands out none, and leaves none of another.
    keys = seal_keys("app", KEY_A "\n" KEY_B "\n");
    assert_false(ring.seal_keys(keys));
    assert_memory_equal(&keys.keys, &none.keys, sizeof keys.keys);
    assert_int_equal(keys.count, 0);
}

// Would catch: masters of the ring that outlive a load, in the ring or under a wrong id.
void a_ring_hands_out_the_masters_of_its_last_load(void**) {
    const SealKeys both = seal_keys("app", KEY_A "\n" KEY_B "\n");
    const SealKeys swapped = seal_keys("app", KEY_B " current\n" KEY_A "\n");
    const SealKeys one = seal_keys("app", KEY_B);
    assert_int_equal(both.keys[0].id, kIdA);
    assert_true(both.keys[0].master == swapped.keys[1].master);
    assert_true(both.keys[1].master == swapped.keys[0].master);
    assert_true(one.keys[0].master == both.keys[1].master && one.keys[0].id == both.keys[1].id);
    const SealKeys none;
    assert_memory_equal(&one.keys[1], &none.keys[1], sizeof one.keys[1]);
}

// Would catch: a sealer used before it was loaded, after a load that failed, or with the keys of
// the load before.
void a_sealer_that_could_not_be_loaded_does_nothing(void**) {
    static Sealer sealer;
    assert_true(seal(sealer).empty());
    assert_int_equal(open(sealer, kSealed), Opened::unknown_key);
    load(sealer, "app", KEY_A);
    assert_int_equal(open(sealer, kSealed), Opened::ok);
    assert_false(sealer.load(SealKeys{}));
    assert_true(seal(sealer).empty());
    assert_int_equal(open(sealer, kSealed), Opened::unknown_key);
    SealKeys many = seal_keys("app", KEY_A);
    many.count = kMaxKeys + 1;
    assert_false(sealer.load(many));
    load(sealer, "app", KEY_A);
    assert_int_equal(open(sealer, kSealed), Opened::ok);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(seals_what_the_documentation_says),
        cmocka_unit_test(seals_and_opens_every_size_in_any_order),
        cmocka_unit_test(opens_nothing_with_one_bit_flipped),
        cmocka_unit_test(opens_nothing_that_was_moved_to_another_key),
        cmocka_unit_test(opens_nothing_as_another_kind),
        cmocka_unit_test(opens_nothing_of_another_realm),
        cmocka_unit_test(after_a_key_rotation_old_entries_open_as_long_as_the_key_is_there),
        cmocka_unit_test(opens_nothing_that_it_did_not_seal_and_says_why),
        cmocka_unit_test(needs_room_for_all_of_it),
        cmocka_unit_test(hides_the_plain_text_and_differs_with_every_nonce_and_key),
        cmocka_unit_test(wipes_the_keys_that_were_handed_out),
        cmocka_unit_test(a_ring_hands_out_the_masters_of_its_last_load),
        cmocka_unit_test(a_sealer_that_could_not_be_loaded_does_nothing),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
