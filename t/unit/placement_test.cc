// Which servers hold a key: shares by weight, and who moves when a server comes or goes.
#include "store/placement.h"

#include <array>
#include <cstdlib>
#include <initializer_list>
#include <string>

#include "unit/zone_support.h"

// After every other header: it defines macros with names of the standard library (fail).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

using namespace sg;
using namespace sg::test;

namespace {

constexpr std::size_t kKeys = 40'000;

StoreKey key_of(std::uint64_t number) {
    StoreKey key;
    store_le(key.data(), scramble(number));
    store_le(key.data() + 8, scramble(~number));
    return key;
}

std::string name_of(std::size_t i) {
    return "10.0.0." + std::to_string(i + 1);
}

Placement servers_of(std::initializer_list<std::uint16_t> weights) {
    Placement placement;
    for (const std::uint16_t weight : weights) {
        assert_true(placement.add(name_of(placement.count()), 11211, weight));
    }
    return placement;
}

std::size_t first_of(const Placement& placement, const StoreKey& key) {
    std::array<std::uint8_t, 1> out;
    assert_int_equal(placement.place(key, out), 1);
    return out[0];
}

// A server with a large memory gets a small server's share, and the small one evicts sessions.
void weights_are_honoured_within_two_percent(void**) {
    constexpr std::array<std::uint16_t, 4> kWeights = {1, 2, 5, 8};
    const Placement placement = servers_of({1, 2, 5, 8});
    std::array<std::size_t, 4> count{};
    for (std::size_t i = 0; i < kKeys; ++i) {
        ++count[first_of(placement, key_of(i))];
    }
    for (std::size_t i = 0; i < count.size(); ++i) {
        const std::size_t wanted = kKeys * kWeights[i] / 16;
        assert_in_range(count[i], wanted - kKeys / 50, wanted + kKeys / 50);
    }
}

// Keys of related sessions do not exist: also keys that differ in one bit are spread.
void neighbouring_keys_are_spread(void**) {
    const Placement placement = servers_of({1, 1, 1, 1});
    std::array<std::size_t, 4> count{};
    for (std::uint64_t i = 0; i < kKeys; ++i) {
        StoreKey key{};
        store_le(key.data() + (i % 2) * 8, i / 2);
        ++count[first_of(placement, key)];
    }
    for (const std::size_t one : count) {
        assert_in_range(one, kKeys / 4 - kKeys / 50, kKeys / 4 + kKeys / 50);
    }
}

// Every resize of the cluster logs everybody out.
void removing_a_server_moves_only_its_keys(void**) {
    const Placement all = servers_of({1, 2, 3, 2});
    Placement without;  // the second
    for (const std::size_t i : {0u, 2u, 3u}) {
        const std::uint16_t weights[] = {1, 2, 3, 2};
        assert_true(without.add(name_of(i), 11211, weights[i]));
    }
    constexpr std::size_t kPositions[] = {0, 2, 3};
    std::size_t moved = 0;
    for (std::size_t i = 0; i < kKeys; ++i) {
        const std::size_t before = first_of(all, key_of(i));
        const std::size_t after = kPositions[first_of(without, key_of(i))];
        moved += before != after ? 1 : 0;
        assert_true(before == 1 || before == after);
    }
    assert_in_range(moved, kKeys / 4 - kKeys / 50, kKeys / 4 + kKeys / 50);
}

// A killed server's keys all fall to one other server, and kill that one too.
void the_second_replicas_of_a_server_are_shared_out(void**) {
    const Placement placement = servers_of({1, 1, 1, 1});
    std::array<std::size_t, 4> count{};
    for (std::size_t i = 0; i < kKeys; ++i) {
        std::array<std::uint8_t, 2> out;
        assert_int_equal(placement.place(key_of(i), out), 2);
        count[out[1]] += out[0] == 0 ? 1 : 0;
    }
    assert_int_equal(count[0], 0);
    for (std::size_t i = 1; i < count.size(); ++i) {
        assert_in_range(count[i], kKeys / 12 - kKeys / 100, kKeys / 12 + kKeys / 100);
    }
}

// Two copies on one server are none; and the first of two is the first of one.
void replicas_are_distinct_and_in_order(void**) {
    const Placement placement = servers_of({1, 9, 3});
    for (std::size_t i = 0; i < 1000; ++i) {
        std::array<std::uint8_t, 3> all;
        std::array<std::uint8_t, 2> two;
        assert_int_equal(placement.place(key_of(i), all), 3);
        assert_int_equal(placement.place(key_of(i), two), 2);
        assert_true(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
        assert_int_equal(all[0], two[0]);
        assert_int_equal(all[1], two[1]);
        assert_int_equal(all[0], first_of(placement, key_of(i)));
    }
}

// Two nodes whose administrators wrote the servers in another order look in other places.
void the_order_of_the_configuration_does_not_matter(void**) {
    const Placement one = servers_of({1, 2, 3});
    Placement other;
    assert_true(other.add(name_of(2), 11211, 3));
    assert_true(other.add(name_of(0), 11211, 1));
    assert_true(other.add(name_of(1), 11211, 2));
    constexpr std::size_t kPositions[] = {2, 0, 1};
    for (std::size_t i = 0; i < 1000; ++i) {
        assert_int_equal(first_of(one, key_of(i)), kPositions[first_of(other, key_of(i))]);
    }
}

// Several servers on one host are several servers.
void ports_distinguish_servers(void**) {
    Placement placement;
    assert_true(placement.add("127.0.0.1", 11211, 1));
    assert_true(placement.add("127.0.0.1", 11212, 1));
    std::size_t second = 0;
    for (std::size_t i = 0; i < kKeys; ++i) {
        second += first_of(placement, key_of(i));
    }
    assert_in_range(second, kKeys / 2 - kKeys / 50, kKeys / 2 + kKeys / 50);
}

// A placement that changes with a release loses every session at the upgrade.
void places_stay_where_they_are(void**) {
    const Placement placement = servers_of({1, 2, 3, 4});
    std::string places;
    for (std::size_t i = 0; i < 32; ++i) {
        places += static_cast<char>('0' + first_of(placement, key_of(i)));
    }
    assert_string_equal(places.c_str(), "31313002332301233211320332312002");
}

void takes_no_more_than_there_is_room_for(void**) {
    Placement placement;
    assert_false(placement.add("none", 1, 0));
    for (std::size_t i = 0; i < kMaxServers; ++i) {
        assert_true(placement.add(name_of(i), 11211, 1));
    }
    assert_false(placement.add("one more", 11211, 1));
    std::array<std::uint8_t, kMaxServers + 4> out;
    assert_int_equal(placement.place(key_of(1), out), kMaxServers);
    assert_int_equal(placement.place(key_of(1), {}), 0);
    assert_int_equal(Placement().place(key_of(1), out), 0);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_honoured_within_two_percent),
        cmocka_unit_test(neighbouring_keys_are_spread),
        cmocka_unit_test(removing_a_server_moves_only_its_keys),
        cmocka_unit_test(the_second_replicas_of_a_server_are_shared_out),
        cmocka_unit_test(replicas_are_distinct_and_in_order),
        cmocka_unit_test(the_order_of_the_configuration_does_not_matter),
        cmocka_unit_test(ports_distinguish_servers),
        cmocka_unit_test(places_stay_where_they_are),
        cmocka_unit_test(takes_no_more_than_there_is_room_for),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
