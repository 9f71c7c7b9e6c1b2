// The name of an entry in a store: 128 bits of a keyed digest of the session's public id
// (KeyRing::store_key). A plain value; it tells nothing about the session.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace sg {

using StoreKey = std::array<std::uint8_t, 16>;

// As ==, which the compiler makes a call of memcmp: batches compare each key with many.
inline bool is_same_key(const StoreKey& a, const StoreKey& b) noexcept {
    using Words = std::array<std::uint64_t, 2>;
    const auto x = std::bit_cast<Words>(a);
    const auto y = std::bit_cast<Words>(b);
    return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
}

}  // namespace sg
