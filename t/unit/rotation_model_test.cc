// Rotation under whatever may happen: a user alone is never thrown out, and who missed a rotation
// by more than the grace ends the session for both. Many short lives of a browser and a thief
// against one or two nodes; unit/rotation/model.h knows the rules and nothing else.
//
//   SG_MODEL_STEPS=n   so many steps instead of a million
//   SG_MODEL_SEED=n    this seed
//   SG_MODEL_LIFE=n    this life alone, with its trace
#include <chrono>
#include <cinttypes>
#include <cstdio>

#include "unit/rotation/life.h"
#include "unit/support.h"

namespace sg::test {
namespace {

constexpr std::uint64_t kSeed = 4;
constexpr std::size_t kZoneBytes = 64 * 1024;
#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kSteps = 100'000;
#else
constexpr std::uint64_t kSteps = 1'000'000;
#endif

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
    const char* const text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

Life& the_life() {
    static KeyRing keys;
    static Life life = [] {
        load(keys, "app", kKeyA);
        return Life(keys, {shared_memory(kZoneBytes), shared_memory(kZoneBytes)});
    }();
    return life;
}

void fail_with_trace(Life& life, std::uint64_t number, std::uint64_t steps) {
    const model::Broken broken = life.run(number, true);
    for (const std::string& line : life.trace) {
        std::printf("%s\n", line.c_str());
    }
    fail_msg("after %" PRIu64 " steps: %s; again with SG_MODEL_LIFE=%" PRIu64, steps,
             broken != nullptr ? broken : "(not the second time)", number);
}

void assert_all_happened(const Happened& happened) {
    assert_true(happened.rotations > 0);
    assert_true(happened.next > 0);
    assert_true(happened.previous > 0);
    assert_true(happened.reuse > 0);
    assert_true(happened.forged > 0);
    assert_true(happened.restricted > 0);
    assert_true(happened.unavailable > 0);
    assert_true(happened.refused_elsewhere > 0);
    assert_true(happened.lost > 0);
    assert_true(happened.renewed > 0);
    assert_true(happened.two_cookies > 0);
}

void live(std::uint64_t seed, std::uint64_t steps) {
    Life& life = the_life();
    life.steps = 0;
    life.happened = {};
    for (std::uint64_t n = 0; life.steps < steps; ++n) {
        const std::uint64_t number = scramble(seed + n * 0x10001) >> 24;
        if (life.run(number, false) != nullptr) {
            std::printf("seed %" PRIu64 ", life %" PRIu64 "\n", seed, n);
            fail_with_trace(life, number, life.steps);
        }
    }
    const Happened& h = life.happened;
    std::printf("seed %" PRIu64 ": %" PRIu64 " steps, %" PRIu64 " requests; next %" PRIu64
                ", previous %" PRIu64 ", reuse %" PRIu64 ", restricted %" PRIu64
                ", unavailable %" PRIu64 "\n",
                seed, life.steps, h.requests, h.next, h.previous, h.reuse, h.restricted,
                h.unavailable);
    assert_all_happened(h);
}

void whatever_happens_the_rules_of_rotation_hold(void**) {
    const std::uint64_t number = from_environment("SG_MODEL_LIFE", 0);
    if (number != 0) {
        fail_with_trace(the_life(), number, 0);
    }
    live(from_environment("SG_MODEL_SEED", kSeed), from_environment("SG_MODEL_STEPS", kSteps));
}

void they_hold_in_lives_that_nobody_has_seen(void**) {
    const auto since = std::chrono::system_clock::now().time_since_epoch();
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since).count();
    live(static_cast<std::uint64_t>(seconds), from_environment("SG_MODEL_STEPS", kSteps) / 10);
}

}  // namespace
}  // namespace sg::test

int main() {
    using namespace sg::test;
    const CMUnitTest tests[] = {
        cmocka_unit_test(whatever_happens_the_rules_of_rotation_hold),
        cmocka_unit_test(they_hold_in_lives_that_nobody_has_seen),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
