// Bytes one after the other, for the length of a batch: what it holds is found by its place, since
// growing moves it. It keeps its room for the next batch. No memory is an answer.
#pragma once

#include <algorithm>
#include <cstddef>

#include "store/bytes_box.h"

namespace sg {

class ByteArena {
  public:
    struct Place {
        std::size_t at = 0;
        std::size_t size = 0;
    };

    void clear() noexcept { used_ = 0; }

    // Room for `size` bytes more, contents undefined. False: no memory.
    bool append(std::size_t size, Place& place) noexcept {
        if (size > room_.view().size() - used_ && !grow(used_ + size)) {
            return false;
        }
        place = {.at = used_, .size = size};
        used_ += size;
        return true;
    }

    bool append(ByteView bytes, Place& place) noexcept {
        if (!append(bytes.size(), place)) {
            return false;
        }
        std::copy(bytes.begin(), bytes.end(), span(place).begin());
        return true;
    }

    // Takes back what was appended last.
    void give_back(const Place& place) noexcept { used_ = place.at; }

    // Until the next append.
    ByteSpan span(const Place& place) noexcept {
        return room_.span().subspan(place.at, place.size);
    }
    ByteView view(const Place& place) const noexcept {
        return room_.view().subspan(place.at, place.size);
    }

  private:
    static constexpr std::size_t kLeast = 4096;

    bool grow(std::size_t least) noexcept {
        BytesBox larger;
        if (!larger.resize(std::max({least, 2 * room_.view().size(), kLeast}))) {
            return false;
        }
        std::copy_n(room_.view().begin(), used_, larger.span().begin());
        std::swap(room_, larger);
        return true;
    }

    BytesBox room_;
    std::size_t used_ = 0;
};

}  // namespace sg
