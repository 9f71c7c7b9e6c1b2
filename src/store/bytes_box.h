// A few bytes on the heap, owned. Allocation failure is an answer, not an exception.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "core/bytes.h"

namespace sg {

class BytesBox {
  public:
    BytesBox() noexcept = default;
    BytesBox(BytesBox&& other) noexcept
        : data_(std::move(other.data_)),
          room_(std::exchange(other.room_, 0)),
          size_(std::exchange(other.size_, 0)) {}
    BytesBox& operator=(BytesBox&& other) noexcept {
        data_ = std::move(other.data_);
        room_ = std::exchange(other.room_, 0);
        size_ = std::exchange(other.size_, 0);
        return *this;
    }

    // Room for `size` bytes, contents undefined; what it held is gone. False: no memory.
    bool resize(std::size_t size) noexcept {
        if (size > room_ || room_ > kKept) {
            const std::size_t room = (size + kStep - 1) / kStep * kStep;
            data_.reset(room > 0 ? new (std::nothrow) std::uint8_t[room] : nullptr);
            room_ = data_ != nullptr ? room : 0;
        }
        size_ = std::min(size, room_);
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
    // What is no larger is used again: entries are about as large as the ones before them, and one
    // that was not is not kept for ever.
    static constexpr std::size_t kKept = 1024;
    static constexpr std::size_t kStep = 64;

    std::unique_ptr<std::uint8_t[]> data_;
    std::size_t room_ = 0;
    std::size_t size_ = 0;
};

}  // namespace sg
