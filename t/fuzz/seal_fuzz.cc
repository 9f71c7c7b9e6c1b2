// Fuzzes the seal. What was sealed opens to the same bytes under the same key and kind, and nothing
// else opens: not the input itself, not a sealed value that differs in a byte, was cut off, or
// belongs to another key or kind. Input: which byte is changed and how (4 bytes), then the bytes.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "core/seal.h"

namespace {

using Bytes = std::vector<std::uint8_t>;
using Opened = sg::Sealer::Opened;

constexpr sg::StoreKey kKey = {1, 2, 3};
constexpr std::uint8_t kIds[] = {7, 200};

void require(bool condition, const char* what) {
    if (!condition) {
        std::fprintf(stderr, "broken promise: %s\n", what);
        std::abort();
    }
}

sg::Sealer& sealer() {
    static sg::Sealer sealer;
    static const bool loaded = [] {
        sg::SealKeys keys;
        for (const std::uint8_t id : kIds) {
            keys.keys[keys.count].id = id;
            keys.keys[keys.count++].master.fill(id);
        }
        return sealer.load(keys);
    }();
    require(loaded, "OpenSSL has what is needed");
    return sealer;
}

Opened open(sg::ByteView sealed, Bytes& plain, const sg::StoreKey& key = kKey,
            sg::EntryKind kind = sg::EntryKind::session) {
    plain.assign(sealed.size() > sg::kSealBytes ? sealed.size() - sg::kSealBytes : 0, 0);
    std::size_t size = plain.size() + 1;
    const Opened opened = sealer().open(key, kind, sealed, plain, size);
    require((size == plain.size()) == (opened == Opened::ok), "the size is set when it opens");
    return opened;
}

// The nonce is in the hands of the input: for the seal alone, that is no weakness.
Bytes seal(sg::ByteView plain, std::uint8_t id, std::uint8_t nonce_byte) {
    Bytes sealed(plain.size() + sg::kSealBytes);
    std::array<std::uint8_t, sg::kNonceBytes> nonce;
    nonce.fill(nonce_byte);
    sealed.resize(sealer().seal(id, kKey, sg::EntryKind::session, plain, nonce, sealed));
    return sealed;
}

void check_foreign(sg::ByteView bytes) {
    Bytes plain;
    const Opened opened = open(bytes, plain);
    require(opened != Opened::ok, "nobody guesses a tag");
    require((opened == Opened::newer_layout) == (!bytes.empty() && bytes[0] > sg::kSealVersion),
            "newer is what the first byte says");
    for (const std::uint8_t byte : plain) {
        require(byte == 0, "what does not open is not shown");
    }
}

void check_sealed(sg::ByteView plain, std::uint16_t where, std::uint8_t how, std::uint8_t choice) {
    Bytes sealed = seal(plain, kIds[choice % 2], choice);
    if (plain.size() > sg::kMaxEntryBytes) {
        require(sealed.empty(), "an entry has its limit");
        return;
    }
    require(sealed.size() == plain.size() + sg::kSealBytes, "the size is known before");
    Bytes opened;
    require(open(sealed, opened) == Opened::ok, "what was sealed opens");
    require(opened == Bytes(plain.begin(), plain.end()), "to the same bytes");

    sg::StoreKey other = kKey;
    other[where % other.size()] ^= static_cast<std::uint8_t>(how | 1);
    require(open(sealed, opened, other) == Opened::failed, "only under its key");
    require(open(sealed, opened, kKey, sg::EntryKind::ended) == Opened::failed, "only as its kind");
    const sg::ByteView cut(sealed.data(), where % sealed.size());
    require(open(cut, opened) != Opened::ok, "a truncated value does not open");
    sealed[where % sealed.size()] ^= static_cast<std::uint8_t>(how == 0 ? 1 : how);
    require(open(sealed, opened) != Opened::ok, "a changed value does not open");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr std::size_t kHead = 4;
    if (size < kHead) {
        return 0;
    }
    const sg::ByteView bytes(data + kHead, size - kHead);
    check_foreign(bytes);
    check_sealed(bytes, sg::load_le<std::uint16_t>(data), data[2], data[3]);
    return 0;
}
