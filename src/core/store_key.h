// The name of an entry in a store: 128 bits of a keyed digest of the session's public id
// (KeyRing::store_key). A plain value; it tells nothing about the session.
#pragma once

#include <array>
#include <cstdint>

namespace sg {

using StoreKey = std::array<std::uint8_t, 16>;

}  // namespace sg
