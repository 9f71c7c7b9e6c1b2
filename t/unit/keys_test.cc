// The key file, and what is derived from it.
#include "core/keys.h"

#include <string>

#include "core/base64url.h"
#include "unit/support.h"

using namespace sg;
using namespace sg::test;
using namespace std::string_view_literals;

namespace {

#define KEY_A "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define KEY_A_UPPER "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"
#define KEY_B "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
#define KEY_C "f0e1d2c3b4a5968778695a4b3c2d1e0ff0e1d2c3b4a5968778695a4b3c2d1e0f"
#define HEX60 "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d"

constexpr const char* kNotHex = "a key is 64 hexadecimal digits";
constexpr const char* kTwice = "the same key twice";
constexpr const char* kWord = "only the word \"current\" may follow a key";
constexpr const char* kMarked = "a second key marked \"current\"";
constexpr const char* kNone = "no key in it";

constexpr std::string_view kKnownToken =
    "TRAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vWIJmdxC-xbEcLZG9ttHc";
constexpr std::string_view kKnownPublicId = "q9Sh1O7iD-pQ-3Df";
constexpr StoreKey kKnownStoreKey = {0x49, 0xc1, 0x93, 0x93, 0x4c, 0xda, 0xf7, 0x42,
                                     0x1a, 0x01, 0x81, 0x6e, 0x8d, 0xa0, 0x27, 0xbf};

// Good: how many keys and which is current. Bad: what and where.
struct Case {
    std::string_view text;
    const char* error;
    std::size_t line;  // or the number of keys
    std::size_t current;
};

constexpr Case kCases[] = {
    {KEY_A ""sv, nullptr, 1, 0},
    {KEY_A "\n"sv, nullptr, 1, 0},
    {KEY_A "\r\n"sv, nullptr, 1, 0},
    {KEY_A_UPPER "\n"sv, nullptr, 1, 0},
    {KEY_A " current"sv, nullptr, 1, 0},
    {KEY_A "\n" KEY_B "\n"sv, nullptr, 2, 0},
    {KEY_A "\n" KEY_B " current\n"sv, nullptr, 2, 1},
    {KEY_A "\r\n" KEY_B "\t current \t\r\n\r\n"sv, nullptr, 2, 1},
    {"\n\n# made on Monday\n\n" KEY_A "\n#" KEY_B "\n" KEY_C " current\n"sv, nullptr, 2, 1},
    {"  " KEY_A "  \n\t" KEY_B "\n"sv, nullptr, 2, 0},
    {"  # an indented comment\n" KEY_A ""sv, nullptr, 1, 0},
    {KEY_A " current\n" KEY_B "\n" KEY_C "\n"sv, nullptr, 3, 0},
    // nothing in it
    {""sv, kNone, 0, 0},
    {"\n"sv, kNone, 0, 0},
    {"\n\r\n \t \n"sv, kNone, 0, 0},
    {"# only a comment"sv, kNone, 0, 0},
    {"#" KEY_A "\n# " KEY_B ""sv, kNone, 0, 0},
    // not a key
    {"current"sv, kNotHex, 1, 0},
    {"current\n" KEY_A ""sv, kNotHex, 1, 0},
    {HEX60 ""sv, kNotHex, 1, 0},
    {HEX60 "abc"sv, kNotHex, 1, 0},
    {HEX60 "abcde"sv, kNotHex, 1, 0},
    {HEX60 "abcdef"sv, kNotHex, 1, 0},
    {HEX60 "abcg"sv, kNotHex, 1, 0},
    {HEX60 "abc@"sv, kNotHex, 1, 0},
    {HEX60 "abc`"sv, kNotHex, 1, 0},
    {HEX60 "abc\x06"sv, kNotHex, 1, 0},
    {HEX60 "abc\xc1"sv, kNotHex, 1, 0},
    {HEX60 "ab\0c"sv, kNotHex, 1, 0},
    {"0x" HEX60 "ab"sv, kNotHex, 1, 0},
    {"\"" KEY_A "\""sv, kNotHex, 1, 0},
    {KEY_A ","sv, kNotHex, 1, 0},
    {KEY_A "#"sv, kNotHex, 1, 0},
    {"key " KEY_A ""sv, kNotHex, 1, 0},
    {"\xef\xbb\xbf" KEY_A ""sv, kNotHex, 1, 0},
    {KEY_A "\v\n"sv, kNotHex, 1, 0},
    {KEY_A KEY_B ""sv, kNotHex, 1, 0},
    {KEY_A "\0\n"sv, kNotHex, 1, 0},
    {KEY_A "\rcurrent"sv, kNotHex, 1, 0},
    {"MDAwMTAyMDMwNDA1MDYwNzA4MDkwYTBiMGMwZDBlMGYxMDExMTIxMzE0MTUxNg=="sv, kNotHex, 1, 0},
    // in which line
    {KEY_A "\n\n# comment\n" HEX60 "\n"sv, kNotHex, 4, 0},
    {KEY_A "\r\n" KEY_B "\r\n" HEX60 "\r\n"sv, kNotHex, 3, 0},
    {"\n\n\n\nx"sv, kNotHex, 5, 0},
    // what follows a key
    {KEY_A " Current"sv, kWord, 1, 0},
    {KEY_A " old"sv, kWord, 1, 0},
    {KEY_A " # mine"sv, kWord, 1, 0},
    {KEY_A " current current"sv, kWord, 1, 0},
    {KEY_A "\n" KEY_B " " KEY_C "\n"sv, kWord, 2, 0},
    {KEY_A " current\0"sv, kWord, 1, 0},
    {KEY_A " current\n\n" KEY_B " current\n"sv, kMarked, 3, 0},
    // twice
    {KEY_A "\n" KEY_A "\n"sv, kTwice, 2, 0},
    {KEY_A "\n" KEY_B "\n" KEY_A_UPPER "\n"sv, kTwice, 3, 0},
    {KEY_A "\n" KEY_A " current\n"sv, kTwice, 2, 0},
};
static_assert(std::size(kCases) >= 52);

// Would catch: a key that is read otherwise than meant, and an error that names another line.
void reads_the_key_file_strictly_and_says_in_which_line_it_is_wrong(void**) {
    for (const Case& each : kCases) {
        KeyFile file;
        KeyFileError error;
        const bool good = parse_key_file(each.text, file, error);
        if (good != (each.error == nullptr)) {
            fail_msg("\"%.*s\": %s", static_cast<int>(each.text.size()), each.text.data(),
                     good ? "accepted" : error.what);
        }
        if (good) {
            assert_int_equal(file.count, each.line);
            assert_int_equal(file.current, each.current);
            continue;
        }
        assert_text(error.what, each.error, each.text);
        assert_int_equal(error.line, each.line);
    }
}

// Would catch: hexadecimal digits swapped, or a key that lands in the wrong place.
void reads_the_bytes_of_a_key(void**) {
    const KeyFile file = key_file(KEY_B "\n" KEY_A_UPPER "\n");
    for (std::uint8_t i = 0; i < kMasterBytes; ++i) {
        assert_int_equal(file.masters[0][i], 0xa0 + i);
        assert_int_equal(file.masters[1][i], i);
    }
}

// Would catch: keys left in memory after an error.
void wipes_the_keys_of_a_bad_file(void**) {
    KeyFile file = key_file(KEY_B "\n" KEY_C " current\n");
    KeyFileError error;
    assert_false(parse_key_file(KEY_A "\n" KEY_C "\nrubbish\n", file, error));
    const KeyFile empty;
    assert_memory_equal(&file.masters, &empty.masters, sizeof file.masters);
    assert_int_equal(file.count, 0);
    assert_int_equal(file.current, 0);
}

// The i-th of many keys.
std::string numbered_key(unsigned i) {
    std::string line(64, '0');
    for (unsigned at = 0; at < 8; ++at) {
        line[at] = "0123456789abcdef"[(i >> (4 * at)) & 15];
    }
    return line + "\n";
}

// Would catch: a write behind the 16th key.
void takes_sixteen_keys_and_not_one_more(void**) {
    static std::string text;
    text.clear();
    for (unsigned i = 0; i < kMaxKeys; ++i) {
        text += numbered_key(i);
    }
    assert_int_equal(key_file(text).count, kMaxKeys);
    text += "# the next one is too many\n" + numbered_key(99);
    KeyFile file;
    KeyFileError error;
    assert_false(parse_key_file(text, file, error));
    assert_text(error.what, "more than 16 keys");
    assert_int_equal(error.line, 18);
}

Token mint(const KeyRing& ring) {
    static RandomPool random(fake_random);
    const auto token = ring.mint(random);
    assert_true(token.has_value());
    return *token;
}

// Would catch: a changed derivation or tag: after an upgrade everybody would be logged out. The
// token was computed with Python's hmac module from docs/formats.md, not with this program.
void derives_what_the_documentation_says(void**) {
    static KeyRing ring;
    load(ring, "app", KEY_A);
    const auto token = parse_token(kKnownToken);
    assert_true(token.has_value());
    assert_int_equal(ring.check(*token), TokenCheck::genuine);
    assert_int_equal(mint(ring).key_id, token->key_id);
    const auto id = ring.public_id(*token);
    assert_true(id.has_value());
    std::array<char, kPublicIdChars> text;
    format_public_id(*id, text);
    assert_text({text.data(), text.size()}, kKnownPublicId);
    assert_true(ring.store_key(*token) == kKnownStoreKey);
}

// Would catch: a field that the tag does not cover: a client could change it.
void refuses_every_token_with_one_bit_flipped(void**) {
    static KeyRing ring;
    load(ring, "app", KEY_A "\n" KEY_B " current\n");
    const Token good = mint(ring);
    assert_int_equal(ring.check(good), TokenCheck::genuine);
    const TokenText text = text_of(good);
    for (std::size_t bit = 0; bit < kTokenBytes * 8; ++bit) {
        std::array<std::uint8_t, kTokenBytes> wire;
        assert_true(base64url_decode(text, wire));
        wire[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
        TokenText flipped;
        base64url_encode(wire, flipped.chars);
        const auto token = parse_token(flipped);
        assert_true(token.has_value());
        const TokenCheck check = ring.check(*token);
        assert_int_not_equal(check, TokenCheck::genuine);
        // In the key id, a flipped bit usually names no key at all.
        assert_true(check == TokenCheck::forged || bit < 8);
    }
}

// Would catch: a tag of another token that fits: parts of two genuine ones put together.
void refuses_parts_of_two_genuine_tokens_put_together(void**) {
    static KeyRing ring;
    load(ring, "app", KEY_A);
    const Token one = mint(ring);
    const Token two = mint(ring);
    for (int mask = 1; mask < 7; ++mask) {
        Token mixed;
        mixed.key_id = one.key_id;
        mixed.handle = (mask & 1) != 0 ? one.handle : two.handle;
        mixed.secret = (mask & 2) != 0 ? one.secret : two.secret;
        mixed.tag = (mask & 4) != 0 ? one.tag : two.tag;
        assert_int_equal(ring.check(mixed), TokenCheck::forged);
    }
    Token shifted = one;  // the border between handle and secret is not ambiguous: both are fixed
    std::swap(shifted.handle, shifted.secret);
    assert_int_equal(ring.check(shifted), TokenCheck::forged);
}

// Would catch: a token of one realm that is good in another with the same key file.
void a_token_means_nothing_in_another_realm(void**) {
    static KeyRing app;
    load(app, "app", KEY_A);
    const Token token = mint(app);
    static std::string names[600];
    int forged = 0;
    for (int i = 0; i < 600; ++i) {
        static KeyRing other;
        names[i] = "app" + std::to_string(i);
        load(other, names[i], KEY_A);
        const TokenCheck check = other.check(token);
        assert_int_not_equal(check, TokenCheck::genuine);
        forged += check == TokenCheck::forged ? 1 : 0;  // the key ids happen to be the same
    }
    assert_true(forged > 0);
    for (const std::string_view name : {""sv, "ap"sv, "App"sv, "app "sv, "appa"sv}) {
        static KeyRing other;
        load(other, name, KEY_A);
        assert_int_not_equal(other.check(token), TokenCheck::genuine);
    }
}

// Would catch: a public id that can be linked across realms or keys, or is the handle itself.
void a_public_id_is_stable_and_its_own_in_every_realm_and_key(void**) {
    static KeyRing app;
    static KeyRing other;
    load(app, "app", KEY_A "\n" KEY_B "\n");
    const Token token = mint(app);
    const auto id = app.public_id(token);
    assert_true(id.has_value() && id == app.public_id(token));
    assert_memory_not_equal(id->data(), token.handle.data(), id->size());

    Token rotated = token;  // the handle names the session, not the secret
    rotated.secret.fill(1);
    rotated.tag.fill(2);
    assert_true(app.public_id(rotated) == id);

    load(app, "app", KEY_A "\n" KEY_B " current\n");
    Token other_key = token;
    other_key.key_id = mint(app).key_id;
    assert_true(app.public_id(other_key).has_value() && app.public_id(other_key) != id);

    load(other, "shop", KEY_A "\n" KEY_B "\n");
    Token other_realm = token;
    other_realm.key_id = mint(other).key_id;
    assert_true(other.public_id(other_realm).has_value() && other.public_id(other_realm) != id);

    Token unknown = token;
    while (app.check(unknown) != TokenCheck::unknown_key) {
        ++unknown.key_id;
    }
    assert_false(app.public_id(unknown).has_value());
}

// Would catch: a store that can be asked for a session by its public id (which logs show), two
// realms or keys that share an entry, and an administrator who reaches another one than the user.
void a_store_key_is_stable_and_its_own_in_every_realm_and_key(void**) {
    static KeyRing app;
    static KeyRing other;
    load(app, "app", KEY_A "\n" KEY_B "\n");
    const Token token = mint(app);
    const auto id = app.public_id(token);
    const auto name = app.store_key(token);
    assert_true(id.has_value() && name.has_value() && name == app.store_key(token));
    assert_true(app.store_key(token.key_id, *id) == name);
    assert_memory_not_equal(name->data(), id->data(), id->size());
    assert_memory_not_equal(name->data(), token.handle.data(), token.handle.size());
    assert_true(app.store_key(mint(app)) != name);

    Token rotated = token;
    rotated.secret.fill(1);
    rotated.tag.fill(2);
    assert_true(app.store_key(rotated) == name);

    // The same public id under another key, in another realm.
    load(app, "app", KEY_A "\n" KEY_B " current\n");
    const Token token_b = mint(app);
    const auto under_b = app.store_key(token_b.key_id, *id);
    assert_true(app.store_key(token) == name);  // the order of the keys means nothing
    assert_true(app.store_key(token_b) == app.store_key(token_b.key_id, *app.public_id(token_b)));
    assert_true(under_b.has_value() && under_b != name);
    load(other, "shop", KEY_A "\n");
    const auto elsewhere = other.store_key(mint(other).key_id, *id);
    assert_true(elsewhere.has_value() && elsewhere != name);
}

// Would catch: an entry asked for under the wrong name, where there is none: *absent* instead of
// *unknown*.
void there_is_no_store_key_without_its_key(void**) {
    static KeyRing ring;
    load(ring, "app", KEY_A "\n" KEY_B "\n");
    Token token = mint(ring);
    assert_true(ring.store_key(token).has_value());
    while (ring.check(token) != TokenCheck::unknown_key) {
        ++token.key_id;
    }
    assert_false(ring.store_key(token).has_value());
    assert_false(ring.store_key(token.key_id, PublicId{}).has_value());
    static const KeyRing empty;
    assert_false(empty.store_key(Token{}).has_value());
    assert_false(empty.store_key(0, PublicId{}).has_value());
}

// Would catch: a key rotation that logs users out, or goes on with the old key.
void after_a_key_rotation_old_tokens_are_genuine_and_new_ones_use_the_current_key(void**) {
    static KeyRing ring;
    load(ring, "app", KEY_A);
    const Token old = mint(ring);
    load(ring, "app", KEY_A "\n" KEY_B " current\n");
    const Token fresh = mint(ring);
    assert_int_not_equal(fresh.key_id, old.key_id);
    assert_int_equal(ring.check(old), TokenCheck::genuine);
    assert_int_equal(ring.check(fresh), TokenCheck::genuine);
    // The order of the lines means nothing.
    load(ring, "app", KEY_B " current\n" KEY_A "\n" KEY_C "\n");
    assert_int_equal(ring.check(old), TokenCheck::genuine);
    assert_int_equal(ring.check(fresh), TokenCheck::genuine);
    assert_int_equal(mint(ring).key_id, fresh.key_id);
    // The old line is gone: not forged, unknown.
    load(ring, "app", KEY_B "\n");
    assert_int_equal(ring.check(old), TokenCheck::unknown_key);
    assert_int_equal(ring.check(fresh), TokenCheck::genuine);
}

// Would catch: two keys that cannot be told apart by a token: good tokens would be called forged.
void refuses_two_keys_with_one_key_id(void**) {
    static KeyRing ring;
    static std::string first_with[256];
    for (unsigned i = 0; i < 300; ++i) {
        const std::string key = numbered_key(i);
        load(ring, "app", key);
        const std::uint8_t id = mint(ring).key_id;
        if (first_with[id].empty()) {
            first_with[id] = key;
            continue;
        }
        static std::string both;
        both = first_with[id] + KEY_A "\n" + key;
        assert_int_equal(ring.load("app", key_file(both)), KeyRing::Load::duplicate_key_id);
        // A ring that could not be loaded mints nothing and knows nothing.
        RandomPool random(fake_random);
        assert_false(ring.mint(random).has_value());
        return;
    }
    fail_msg("300 keys, 256 key ids, no collision");
}

// Would catch: a session under a handle that is not random.
void mints_nothing_without_random_bytes(void**) {
    static KeyRing ring;
    load(ring, "app", KEY_A);
    random_works = false;
    RandomPool random(fake_random);
    assert_false(ring.mint(random).has_value());
    random_works = true;
    assert_true(ring.mint(random).has_value());
    // Enough for a handle, not for a secret.
    std::array<std::uint8_t, RandomPool::kBatch - 48> most;
    assert_true(random.take(most));
    random_works = false;
    assert_false(ring.mint(random).has_value());
    random_works = true;
}

// Would catch: two tokens that share a handle or a secret.
void mints_a_new_handle_and_a_new_secret_every_time(void**) {
    static KeyRing ring;
    load(ring, "app", KEY_A);
    static std::array<Token, 500> tokens;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        tokens[i] = mint(ring);
        assert_int_equal(ring.check(tokens[i]), TokenCheck::genuine);
        assert_true(tokens[i].handle != tokens[i].secret);
        for (std::size_t j = 0; j < i; ++j) {
            assert_true(tokens[i].handle != tokens[j].handle &&
                        tokens[i].secret != tokens[j].secret);
        }
    }
}

// Would catch: a ring without keys, or with a realm name that does not fit, that is used all the
// same.
void a_ring_that_could_not_be_loaded_does_nothing(void**) {
    static KeyRing ring;
    RandomPool random(fake_random);
    assert_int_equal(ring.load("app", KeyFile{}), KeyRing::Load::crypto_failure);
    assert_false(ring.mint(random).has_value());
    assert_int_equal(ring.check(Token{}), TokenCheck::unknown_key);
    static const std::string longest(kMaxRealmName, 'x');
    static const std::string too_long(kMaxRealmName + 1, 'x');
    assert_int_equal(ring.load(longest, key_file(KEY_A)), KeyRing::Load::ok);
    const Token token = mint(ring);
    assert_int_equal(ring.load(too_long, key_file(KEY_A "\n" KEY_B " current\n")),
                     KeyRing::Load::crypto_failure);
    assert_false(ring.mint(random).has_value());
    assert_int_not_equal(ring.check(token), TokenCheck::genuine);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_key_file_strictly_and_says_in_which_line_it_is_wrong),
        cmocka_unit_test(reads_the_bytes_of_a_key),
        cmocka_unit_test(wipes_the_keys_of_a_bad_file),
        cmocka_unit_test(takes_sixteen_keys_and_not_one_more),
        cmocka_unit_test(derives_what_the_documentation_says),
        cmocka_unit_test(refuses_every_token_with_one_bit_flipped),
        cmocka_unit_test(refuses_parts_of_two_genuine_tokens_put_together),
        cmocka_unit_test(a_token_means_nothing_in_another_realm),
        cmocka_unit_test(a_public_id_is_stable_and_its_own_in_every_realm_and_key),
        cmocka_unit_test(a_store_key_is_stable_and_its_own_in_every_realm_and_key),
        cmocka_unit_test(there_is_no_store_key_without_its_key),
        cmocka_unit_test(
            after_a_key_rotation_old_tokens_are_genuine_and_new_ones_use_the_current_key),
        cmocka_unit_test(refuses_two_keys_with_one_key_id),
        cmocka_unit_test(mints_nothing_without_random_bytes),
        cmocka_unit_test(mints_a_new_handle_and_a_new_secret_every_time),
        cmocka_unit_test(a_ring_that_could_not_be_loaded_does_nothing),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
