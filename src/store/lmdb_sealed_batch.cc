#include "store/lmdb_sealed_batch.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <new>

#include "store/lmdb_layout.h"

namespace sg {
namespace {

std::size_t value_size(const StoreEntry& entry) noexcept {
    return kLmdbPrefixBytes + encoded_size(entry) + kSealBytes;
}

// `plain` is scratch of encoded_size bytes, and wiped.
bool make_value(const StoreOp& op, Sealer& sealer, RandomPool& random, ByteSpan plain,
                ByteSpan value) noexcept {
    std::array<std::uint8_t, kNonceBytes> nonce;
    const std::size_t size = encode_entry(op.entry, op.key, plain);
    store_le(value.data(), static_cast<std::uint64_t>(op.entry.expires));
    value[8] = static_cast<std::uint8_t>(op.entry.kind);
    const ByteSpan out = value.subspan(kLmdbPrefixBytes);
    const bool sealed =
        size != 0 && random.take(nonce) &&
        sealer.seal(op.key_id, op.key, op.entry.kind, plain.first(size), nonce, out) == out.size();
    OPENSSL_cleanse(plain.data(), plain.size());
    return sealed;
}

}  // namespace

bool LmdbSealedBatch::make(std::span<const StoreOp> batch, Sealer& sealer, RandomPool& random,
                           std::size_t& failed) noexcept {
    std::size_t total = 0;
    std::size_t largest = 0;
    for (const StoreOp& op : batch) {
        if (is_write(op)) {
            total += value_size(op.entry);
            largest = std::max(largest, encoded_size(op.entry));
        }
    }
    values_.reset(new (std::nothrow) ByteSpan[batch.size()]);
    if (values_ == nullptr || !arena_.resize(largest + total)) {
        return false;
    }
    const ByteSpan plain = arena_.span().first(largest);
    ByteSpan rest = arena_.span().subspan(largest);
    for (std::size_t i = 0; i < batch.size(); ++i) {
        const StoreOp& op = batch[i];
        if (!is_write(op)) {
            continue;
        }
        const ByteSpan value = rest.first(value_size(op.entry));
        rest = rest.subspan(value.size());
        if (make_value(op, sealer, random, plain.first(encoded_size(op.entry)), value)) {
            values_[i] = value;
        } else {
            ++failed;
        }
    }
    return true;
}

}  // namespace sg
