#include "core/random_pool.h"

#include <openssl/crypto.h>

#include <algorithm>

namespace sg {

bool RandomPool::take(ByteSpan out) noexcept {
    std::fill(out.begin(), out.end(), std::uint8_t{0});
    if (out.size() > kBatch) {
        return false;
    }
    if (left_ < out.size()) {
        left_ = 0;
        if (!fill_(batch_)) {
            return false;
        }
        left_ = kBatch;
    }
    std::uint8_t* const from = batch_.data() + (left_ - out.size());
    std::copy_n(from, out.size(), out.begin());
    OPENSSL_cleanse(from, out.size());
    left_ -= out.size();
    return true;
}

}  // namespace sg
