// Random bytes in batches: one call of the generator serves many logins (about 9 ns per 32 bytes
// instead of 1 us). Used bytes are wiped at once.
#pragma once

#include <array>
#include <cstddef>

#include "core/bytes.h"

namespace sg {

// One pool per worker, made after the fork; not shared, not thread-safe. `fill` fills the whole
// span with random bytes or returns false (RAND_bytes in the module, a fake in tests).
class RandomPool {
  public:
    using Fill = bool (*)(ByteSpan) noexcept;

    explicit constexpr RandomPool(Fill fill) noexcept : fill_(fill) {}

    // Fills `out` (at most kBatch bytes). False when the generator failed: the caller must refuse
    // the login; `out` is then all zero and must not be used.
    bool take(ByteSpan out) noexcept;

    static constexpr std::size_t kBatch = 4096;

  private:
    Fill fill_;
    std::size_t left_ = 0;
    std::array<std::uint8_t, kBatch> batch_{};
};

}  // namespace sg
