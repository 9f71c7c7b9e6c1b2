// The values of a batch, encoded and sealed before the writer's turn comes: what is done while
// others wait is short.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "core/bytes.h"
#include "core/random_pool.h"
#include "core/seal.h"
#include "store/bytes_box.h"
#include "store/store.h"

namespace sg {

inline bool is_write(const StoreOp& op) noexcept {
    return op.verb != StoreVerb::get;
}

class LmdbSealedBatch {
  public:
    // Makes a value for each write of the batch. An operation that cannot be sealed has none: it is
    // left out, and `failed` of them counted. False: no memory.
    bool make(std::span<const StoreOp> batch, Sealer& sealer, RandomPool& random,
              std::size_t& failed) noexcept;

    // The i-th operation's value; empty: leave the operation out.
    ByteView at(std::size_t i) const noexcept { return values_[i]; }
    void drop(std::size_t i) noexcept { values_[i] = {}; }

  private:
    std::unique_ptr<ByteSpan[]> values_;
    BytesBox arena_;
};

}  // namespace sg
