// A few bytes on the heap, owned. Allocation failure is an answer, not an exception.
#pragma once

#include <cstring>
#include <memory>
#include <new>

#include "core/bytes.h"

namespace sg {

class BytesBox {
  public:
    // Room for `size` bytes, contents undefined; what it held is gone. False: no memory.
    bool resize(std::size_t size) noexcept {
        data_.reset(size > 0 ? new (std::nothrow) std::uint8_t[size] : nullptr);
        size_ = data_ != nullptr ? size : 0;
        return size_ == size;
    }

    bool assign(ByteView bytes) noexcept {
        if (!resize(bytes.size())) {
            return false;
        }
        if (!bytes.empty()) {
            std::memcpy(data_.get(), bytes.data(), bytes.size());
        }
        return true;
    }

    ByteSpan span() noexcept { return {data_.get(), size_}; }
    ByteView view() const noexcept { return {data_.get(), size_}; }

  private:
    std::unique_ptr<std::uint8_t[]> data_;
    std::size_t size_ = 0;
};

}  // namespace sg
