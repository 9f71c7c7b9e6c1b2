#include "core/seal.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <algorithm>

namespace sg {
namespace {

enum : std::size_t {
    kLayoutAt = 0,
    kKeyIdAt = 1,
    kNonceAt = 2,
    kCipherTextAt = kNonceAt + kNonceBytes,
};
constexpr std::size_t kTagBytes = 16;
static_assert(kCipherTextAt + kTagBytes == kSealBytes);

using EntryCipherKey = std::array<std::uint8_t, 32>;

// Store key, kind, layout, key id.
using AssociatedData = std::array<std::uint8_t, std::tuple_size_v<StoreKey> + 3>;

AssociatedData associated_data(const StoreKey& key, EntryKind kind, std::uint8_t key_id) noexcept {
    AssociatedData data;
    std::uint8_t* to = std::copy(key.begin(), key.end(), data.data());
    *to++ = static_cast<std::uint8_t>(kind);
    *to++ = kSealVersion;
    *to++ = key_id;
    return data;
}

EVP_MAC_CTX* keyed_hmac(EVP_MAC* mac, ByteView key) noexcept {
    EVP_MAC_CTX* context = mac != nullptr ? EVP_MAC_CTX_new(mac) : nullptr;
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    if (context != nullptr && EVP_MAC_init(context, key.data(), key.size(), params) != 1) {
        EVP_MAC_CTX_free(context);
        context = nullptr;
    }
    return context;
}

// HKDF-Expand to one block. OpenSSL's own keys a new HMAC for every derivation, and takes several
// times as long.
bool expand(EVP_MAC_CTX* mac, const StoreKey& info, EntryCipherKey& out) noexcept {
    constexpr std::uint8_t kFirstBlock = 1;
    std::size_t size = 0;
    return EVP_MAC_init(mac, nullptr, 0, nullptr) == 1 &&
           EVP_MAC_update(mac, info.data(), info.size()) == 1 &&
           EVP_MAC_update(mac, &kFirstBlock, 1) == 1 &&
           EVP_MAC_final(mac, out.data(), &size, out.size()) == 1 && size == out.size();
}

// Associated data (that is what a null output means), then the text. An empty one may have no
// address, so it is not passed on.
bool update(EVP_CIPHER_CTX* cipher, const AssociatedData& data, ByteView from,
            std::uint8_t* to) noexcept {
    int size = 0;
    return EVP_CipherUpdate(cipher, nullptr, &size, data.data(), static_cast<int>(data.size())) ==
               1 &&
           (from.empty() ||
            EVP_CipherUpdate(cipher, to, &size, from.data(), static_cast<int>(from.size())) == 1);
}

bool finish(EVP_CIPHER_CTX* cipher) noexcept {
    std::array<std::uint8_t, EVP_MAX_BLOCK_LENGTH> none;  // GCM has no padding: nothing is written
    int size = 0;
    return EVP_CipherFinal_ex(cipher, none.data(), &size) == 1 && size == 0;
}

}  // namespace

void SealKeys::wipe() noexcept {
    OPENSSL_cleanse(keys.data(), sizeof keys);
    count = 0;
}

Sealer::~Sealer() {
    clear();
}

void Sealer::clear() noexcept {
    for (Master& master : masters_) {
        EVP_MAC_CTX_free(master.mac);
        master = {};
    }
    count_ = 0;
    EVP_CIPHER_CTX_free(cipher_);
    EVP_CIPHER_free(gcm_);
    cipher_ = nullptr;
    gcm_ = nullptr;
}

bool Sealer::load(const SealKeys& keys) noexcept {
    clear();
    if (keys.count == 0 || keys.count > keys.keys.size() || !prepare(keys)) {
        clear();
        return false;
    }
    return true;
}

bool Sealer::prepare(const SealKeys& keys) noexcept {
    EVP_MAC* const hmac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
    for (std::size_t i = 0; i < keys.count; ++i) {
        masters_[i] = {.id = keys.keys[i].id, .mac = keyed_hmac(hmac, keys.keys[i].master)};
    }
    EVP_MAC_free(hmac);
    count_ = keys.count;
    gcm_ = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
    cipher_ = EVP_CIPHER_CTX_new();
    // From here on the cipher is not named again: naming it would build the context anew.
    return std::all_of(masters_.begin(), masters_.begin() + count_,
                       [](const Master& each) { return each.mac != nullptr; }) &&
           gcm_ != nullptr && cipher_ != nullptr &&
           EVP_CipherInit_ex2(cipher_, gcm_, nullptr, nullptr, 1, nullptr) == 1;
}

const Sealer::Master* Sealer::find(std::uint8_t id) const noexcept {
    const auto end = masters_.begin() + static_cast<std::ptrdiff_t>(count_);
    const auto at =
        std::find_if(masters_.begin(), end, [id](const Master& each) { return each.id == id; });
    return at != end ? &*at : nullptr;
}

bool Sealer::arm(const Master& master, const StoreKey& key, const std::uint8_t* nonce,
                 int encrypt) noexcept {
    EntryCipherKey derived;
    const bool ok =
        expand(master.mac, key, derived) &&
        EVP_CipherInit_ex2(cipher_, nullptr, derived.data(), nonce, encrypt, nullptr) == 1;
    OPENSSL_cleanse(derived.data(), derived.size());
    return ok;
}

std::size_t Sealer::seal(std::uint8_t key_id, const StoreKey& key, EntryKind kind, ByteView plain,
                         std::span<const std::uint8_t, kNonceBytes> nonce, ByteSpan out) noexcept {
    const Master* const master = find(key_id);
    const std::size_t size = plain.size() + kSealBytes;
    if (master == nullptr || plain.size() > kMaxEntryBytes || out.size() < size) {
        return 0;
    }
    out[kLayoutAt] = kSealVersion;
    out[kKeyIdAt] = key_id;
    std::copy(nonce.begin(), nonce.end(), out.data() + kNonceAt);
    std::uint8_t* const text = out.data() + kCipherTextAt;
    const bool ok =
        arm(*master, key, nonce.data(), 1) &&
        update(cipher_, associated_data(key, kind, key_id), plain, text) && finish(cipher_) &&
        EVP_CIPHER_CTX_ctrl(cipher_, EVP_CTRL_AEAD_GET_TAG, kTagBytes, text + plain.size()) == 1;
    return ok ? size : 0;
}

Sealer::Opened Sealer::open(const StoreKey& key, EntryKind kind, ByteView sealed, ByteSpan out,
                            std::size_t& size) noexcept {
    if (!sealed.empty() && sealed[kLayoutAt] > kSealVersion) {
        return Opened::newer_layout;
    }
    if (sealed.size() < kSealBytes || sealed.size() > kSealBytes + kMaxEntryBytes ||
        sealed[kLayoutAt] != kSealVersion || out.size() < sealed.size() - kSealBytes) {
        return Opened::failed;
    }
    const std::uint8_t key_id = sealed[kKeyIdAt];
    const Master* const master = find(key_id);
    if (master == nullptr) {
        return Opened::unknown_key;
    }
    const ByteView text = sealed.subspan(kCipherTextAt, sealed.size() - kSealBytes);
    std::array<std::uint8_t, kTagBytes> tag;
    std::copy_n(sealed.end() - kTagBytes, kTagBytes, tag.begin());
    if (!arm(*master, key, sealed.data() + kNonceAt, 0) ||
        !update(cipher_, associated_data(key, kind, key_id), text, out.data()) ||
        EVP_CIPHER_CTX_ctrl(cipher_, EVP_CTRL_AEAD_SET_TAG, kTagBytes, tag.data()) != 1 ||
        !finish(cipher_)) {
        OPENSSL_cleanse(out.data(), text.size());  // what a forger chose
        return Opened::failed;
    }
    size = text.size();
    return Opened::ok;
}

}  // namespace sg
