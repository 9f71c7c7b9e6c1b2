// What the tests of core/ share: cmocka, a generator of bytes that is no generator, keys, and a
// realm with a small zone. cmocka leaves a failing test by longjmp, so what owns something is
// static here and no test's local needs its destructor.
#pragma once

#include <algorithm>
#include <array>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string_view>

#include "core/enforce.h"
#include "core/lifecycle.h"
#include "core/web/control.h"
#include "unit/zone_support.h"

// After every other header: it defines macros with names of the standard library (fail).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

namespace sg::test {

inline void assert_text(std::string_view got, std::string_view wanted,
                        std::string_view about = "text") {
    if (got != wanted) {
        fail_msg("%.*s: got \"%.*s\", wanted \"%.*s\"", static_cast<int>(about.size()),
                 about.data(), static_cast<int>(got.size()), got.data(),
                 static_cast<int>(wanted.size()), wanted.data());
    }
}

inline void assert_status(Status got, Status wanted) {
    assert_text(status_name(got), status_name(wanted), "status");
}

// The same bytes in every run, all different in one run.
inline std::uint64_t random_state = 0;
inline int random_calls = 0;
inline bool random_works = true;

inline bool fake_random(ByteSpan out) noexcept {
    ++random_calls;
    for (auto& byte : out) {
        byte = static_cast<std::uint8_t>(scramble(random_state++) >> 32);
    }
    return random_works;  // one that fails may have written something already
}

inline constexpr std::string_view kKeyA =
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
inline constexpr std::string_view kKeyB =
    "A0A1A2A3A4A5A6A7A8A9AAABACADAEAFB0B1B2B3B4B5B6B7B8B9BABBBCBDBEBF";
inline constexpr std::string_view kKeyC =
    "f0e1d2c3b4a5968778695a4b3c2d1e0ff0e1d2c3b4a5968778695a4b3c2d1e0f";

// "KEY\nKEY current\n" and the like.
inline KeyFile key_file(std::string_view text) {
    KeyFile file;
    KeyFileError error;
    if (!parse_key_file(text, file, error)) {
        fail_msg("key file: %s in line %zu", error.what, error.line);
    }
    return file;
}

inline void load(KeyRing& ring, std::string_view realm, std::string_view keys) {
    assert_int_equal(ring.load(realm, key_file(keys)), KeyRing::Load::ok);
}

struct TokenText {
    std::array<char, kTokenChars> chars{};
    operator std::string_view() const { return {chars.data(), chars.size()}; }
};

inline TokenText text_of(const Token& token) {
    TokenText text;
    format_token(token, text.chars);
    return text;
}

inline constexpr std::size_t kMaxData = 8 * 1024;
inline constexpr Timeouts kTimeouts{.idle = 15 * kMinute, .absolute = 8 * kHour};

inline constexpr TimeMs kRevalidate = 5 * kSecond;

// One realm and its zone.
struct World {
    std::span<std::byte> memory;
    std::optional<Table> table;
    KeyRing keys;
    RandomPool random{fake_random};
    Realm realm;
};

inline World world;

// An empty zone; what an earlier test left is gone.
inline World& fresh_world(std::size_t bytes = 256 * 1024, bool has_store = false) {
    if (!world.memory.empty()) {
        munmap(world.memory.data(), world.memory.size());
    }
    world.memory = shared_memory(bytes);
    world.table = make_table(world.memory);
    random_works = true;
    world.random = RandomPool{fake_random};
    load(world.keys, "app", kKeyA);
    world.realm = {.name = "app",
                   .keys = &world.keys,
                   .table = &*world.table,
                   .timeouts = kTimeouts,
                   .has_store = has_store,
                   .revalidate = kRevalidate};
    return world;
}

inline Token genuine_token() {
    const auto token = world.keys.mint(world.random);
    assert_true(token.has_value());
    return *token;
}

// A record as a login at `created` leaves it.
inline Record login_record(TimeMs created = kNow, std::string_view roles = "editor admin") {
    Record record;
    record.created = created;
    record.authenticated = created;
    record.user = "alice";
    record.roles = roles;
    return record;
}

// Puts a record under a fresh credential, without the lifecycle.
inline Token put_session(Record record, TimeMs last_seen = kNow) {
    static std::array<std::uint8_t, Table::kMaxRecordBytes> bytes;
    const auto minted = world.keys.mint(world.random);
    assert_true(minted.has_value());
    const Token token = *minted;
    record.seed = minted->seed;
    const std::size_t size = encode_record(record, bytes);
    assert_true(size > 0);
    LockedShard shard = world.table->lock(token.handle);
    assert_int_equal(world.table->insert(shard, token, ByteView(bytes).first(size), last_seen,
                                         kLimits, last_seen),
                     InsertResult::inserted);
    return token;
}

inline void confirm(const Token& token, TimeMs at) {
    LockedShard shard = world.table->lock(token.handle);
    assert_true(world.table->confirm(shard, token.handle, at));
}

inline void supersede(const Token& old, const Token& successor, TimeMs until) {
    LockedShard shard = world.table->lock(old.handle);
    assert_true(world.table->supersede(shard, old.handle, successor.handle, until));
}

inline void remove(const Token& token, Departure why, TimeMs until) {
    LockedShard shard = world.table->lock(token.handle);
    world.table->remove(shard, token.handle, why, until);
}

inline Candidates candidates_of(std::initializer_list<std::string_view> values) {
    Candidates candidates;
    for (const std::string_view value : values) {
        candidates.values[candidates.count++] = value;
    }
    return candidates;
}

// Bytes of exactly this size, so that a sanitizer sees a step beyond. Good until the next call.
inline ByteSpan exact_bytes(std::size_t size) {
    static std::unique_ptr<std::uint8_t[]> bytes;
    bytes.reset(new std::uint8_t[size]);
    return {bytes.get(), size};
}

// The verdict about these cookie values. The outcome's views are good until the next call.
inline Outcome ask(std::initializer_list<std::string_view> values, TimeMs now,
                   std::size_t buffer = 4 * kTypicalRecordBytes) {
    return begin(world.realm, candidates_of(values), now, exact_bytes(buffer));
}

inline Status status_of(std::initializer_list<std::string_view> values, TimeMs now) {
    const Outcome outcome = ask(values, now);
    assert_int_equal(outcome.step, Outcome::Step::decided);
    return outcome.status;
}

// What the application's header says. The command's views are good for four more calls.
inline ControlCommand command(std::string_view header) {
    static std::array<std::array<std::uint8_t, 64 * 1024>, 5> scratch;
    static std::size_t next = 0;
    next = (next + 1) % scratch.size();
    ControlError error;
    const auto parsed = parse_control(header, kMaxData, scratch[next], error);
    if (!parsed) {
        fail_msg("%.*s: %s", static_cast<int>(header.size()), header.data(), error.what);
    }
    return *parsed;
}

}  // namespace sg::test
