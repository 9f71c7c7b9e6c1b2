// Random bytes in batches.
#include "core/random_pool.h"

#include "unit/support.h"

using namespace sg;
using namespace sg::test;

namespace {

using Bytes = std::array<std::uint8_t, 16>;
constexpr Bytes kZero{};

void reset() {
    random_state = 0;
    random_calls = 0;
    random_works = true;
}

// Would catch: bytes handed out twice: two sessions with one handle.
void never_gives_a_byte_twice(void**) {
    reset();
    static std::array<std::uint8_t, 2 * RandomPool::kBatch> made;
    fake_random(made);
    reset();
    RandomPool pool(fake_random);
    // Which of the generator's 16-byte blocks have been seen; in any order, each once.
    std::array<bool, 2 * RandomPool::kBatch / 16> seen{};
    for (std::size_t i = 0; i < seen.size(); ++i) {
        Bytes out{};
        assert_true(pool.take(out));
        bool found = false;
        for (std::size_t at = 0; at < made.size() && !found; at += 16) {
            if (std::equal(out.begin(), out.end(),
                           made.begin() + static_cast<std::ptrdiff_t>(at))) {
                assert_false(seen[at / 16]);
                seen[at / 16] = true;
                found = true;
            }
        }
        assert_true(found);
    }
}

// Would catch: a batch that is not one, or none: a call of the generator for every login.
void asks_the_generator_once_a_batch(void**) {
    reset();
    RandomPool pool(fake_random);
    Bytes out;
    for (std::size_t i = 0; i < RandomPool::kBatch / out.size(); ++i) {
        assert_true(pool.take(out));
    }
    assert_int_equal(random_calls, 1);
    assert_true(pool.take(out));
    assert_int_equal(random_calls, 2);
}

// Would catch: a login with a handle of zeros or of yesterday's bytes when the generator fails.
void a_failed_generator_gives_zeros_and_says_so(void**) {
    reset();
    random_works = false;
    RandomPool pool(fake_random);
    for (int i = 0; i < 3; ++i) {
        Bytes out;
        out.fill(0x77);
        assert_false(pool.take(out));
        assert_memory_equal(out.data(), kZero.data(), out.size());
    }
    assert_int_equal(random_calls, 3);
}

// Would catch: a generator that failed once and is never asked again, or whose half-made batch is
// used.
void works_again_after_a_failure(void**) {
    reset();
    RandomPool pool(fake_random);
    Bytes first;
    assert_true(pool.take(first));
    for (std::size_t i = 1; i < RandomPool::kBatch / first.size(); ++i) {
        Bytes out;
        assert_true(pool.take(out));
    }
    random_works = false;
    Bytes out;
    assert_false(pool.take(out));
    assert_false(pool.take(out));
    random_works = true;
    assert_true(pool.take(out));
    assert_memory_not_equal(out.data(), kZero.data(), out.size());
    assert_memory_not_equal(out.data(), first.data(), out.size());
}

// Would catch: a request over the batch that is filled in part, or writes beyond it.
void takes_at_most_a_batch(void**) {
    reset();
    RandomPool pool(fake_random);
    static std::array<std::uint8_t, RandomPool::kBatch + 1> out;
    out.fill(0x77);
    assert_false(pool.take(out));
    assert_true(std::all_of(out.begin(), out.end(), [](std::uint8_t byte) { return byte == 0; }));
    assert_int_equal(random_calls, 0);
    assert_true(pool.take(ByteSpan(out).first(RandomPool::kBatch)));
    assert_true(pool.take({}));
    assert_int_equal(random_calls, 1);
}

// Would catch: a rest smaller than what is asked for that is padded instead of refilled.
void refills_when_the_rest_is_too_small(void**) {
    reset();
    RandomPool pool(fake_random);
    static std::array<std::uint8_t, RandomPool::kBatch> out;
    assert_true(pool.take(ByteSpan(out).first(RandomPool::kBatch - 5)));
    assert_true(pool.take(ByteSpan(out).first(6)));
    assert_int_equal(random_calls, 2);
    // All six of the second batch: none is zero in this sequence.
    for (std::size_t i = 0; i < 6; ++i) {
        assert_int_not_equal(out[i], 0);
    }
}

// Would catch: handles of live sessions left in a worker's memory, to be found in a core dump.
void wipes_what_it_has_given(void**) {
    reset();
    static RandomPool pool(fake_random);
    pool = RandomPool(fake_random);
    Bytes out;
    assert_true(pool.take(out));
    const std::string_view memory(reinterpret_cast<const char*>(&pool), sizeof pool);
    assert_int_equal(memory.find(as_text(out)), std::string_view::npos);
    assert_int_equal(memory.find(as_text(ByteView(out).first(8))), std::string_view::npos);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(never_gives_a_byte_twice),
        cmocka_unit_test(asks_the_generator_once_a_batch),
        cmocka_unit_test(a_failed_generator_gives_zeros_and_says_so),
        cmocka_unit_test(works_again_after_a_failure),
        cmocka_unit_test(takes_at_most_a_batch),
        cmocka_unit_test(refills_when_the_rest_is_too_small),
        cmocka_unit_test(wipes_what_it_has_given),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
