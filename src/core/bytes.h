// Little-endian loads and stores over plain bytes, and the two view types every room of core/ uses.
// Views own nothing: they are valid as long as the memory they were made from.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace sg {

using ByteView = std::span<const std::uint8_t>;
using ByteSpan = std::span<std::uint8_t>;

static_assert(std::endian::native == std::endian::little,
              "records are written little-endian; a big-endian host needs a byte swap here");

// Reads a fixed-width integer at any alignment; the caller guarantees sizeof(T) readable bytes.
template <std::unsigned_integral T>
inline T load_le(const std::uint8_t* from) noexcept {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

template <std::unsigned_integral T>
inline void store_le(std::uint8_t* to, T value) noexcept {
    std::memcpy(to, &value, sizeof value);
}

inline ByteView as_bytes(std::string_view text) noexcept {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

inline std::string_view as_text(ByteView bytes) noexcept {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace sg
