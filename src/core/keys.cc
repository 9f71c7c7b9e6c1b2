#include "core/keys.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <algorithm>

#include "core/seal.h"

namespace sg {
namespace {

constexpr std::string_view kContext = "ngx_http_session_guard_module/1";
constexpr std::size_t kDigestBytes = 32;
using Digest = std::array<std::uint8_t, kDigestBytes>;

OSSL_PARAM octets(const char* name, std::string_view bytes) noexcept {
    return OSSL_PARAM_construct_octet_string(name, const_cast<char*>(bytes.data()), bytes.size());
}

// HKDF-SHA256 (RFC 5869), info = context, purpose and realm, each ended by NUL (none of them can
// contain one), so that no two (purpose, realm) pairs share an info string.
bool derive(const MasterKey& master, std::string_view purpose, std::string_view realm,
            Digest& out) noexcept {
    std::array<char, kContext.size() + 16 + kMaxRealmName + 3> info{};
    if (purpose.size() > 16 || realm.size() > kMaxRealmName) {
        return false;
    }
    char* end = std::copy(kContext.begin(), kContext.end(), info.data());
    *end++ = '\0';
    end = std::copy(purpose.begin(), purpose.end(), end);
    *end++ = '\0';
    end = std::copy(realm.begin(), realm.end(), end);
    *end++ = '\0';

    EVP_KDF* const kdf = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
    EVP_KDF_CTX* const context = kdf != nullptr ? EVP_KDF_CTX_new(kdf) : nullptr;
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        octets(OSSL_KDF_PARAM_KEY, as_text(master)),
        octets(OSSL_KDF_PARAM_INFO, {info.data(), static_cast<std::size_t>(end - info.data())}),
        OSSL_PARAM_construct_end(),
    };
    const bool ok =
        context != nullptr && EVP_KDF_derive(context, out.data(), out.size(), params) == 1;
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    return ok;
}

// A keyed HMAC-SHA256 context, re-armed with EVP_MAC_init(ctx, NULL, 0, NULL) for every message.
EVP_MAC_CTX* hmac_context(const MasterKey& master, std::string_view purpose,
                          std::string_view realm) noexcept {
    Digest key{};
    if (!derive(master, purpose, realm, key)) {
        return nullptr;
    }
    EVP_MAC* const mac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
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
    EVP_MAC_free(mac);
    OPENSSL_cleanse(key.data(), key.size());
    return context;
}

bool add(EVP_MAC_CTX* context, ByteView bytes) noexcept {
    return EVP_MAC_update(context, bytes.data(), bytes.size()) == 1;
}

// The first bytes of the keyed digest of one message. False: OpenSSL failed.
bool digest_of(EVP_MAC_CTX* context, ByteView message, ByteSpan out) noexcept {
    Digest digest{};
    std::size_t size = 0;
    if (EVP_MAC_init(context, nullptr, 0, nullptr) != 1 || !add(context, message) ||
        EVP_MAC_final(context, digest.data(), &size, digest.size()) != 1) {
        return false;
    }
    std::copy_n(digest.begin(), out.size(), out.begin());
    return true;
}

}  // namespace

KeyRing::~KeyRing() {
    clear();
}

void KeyRing::clear() noexcept {
    for (Key& key : keys_) {
        EVP_MAC_CTX_free(key.token_mac);
        EVP_MAC_CTX_free(key.rotation_mac);
        EVP_MAC_CTX_free(key.public_id_mac);
        EVP_MAC_CTX_free(key.store_key_mac);
        EVP_MAC_CTX_free(key.user_mac);
        OPENSSL_cleanse(key.seal_master.data(), key.seal_master.size());
        key = Key{};
    }
    count_ = 0;
}

KeyRing::Load KeyRing::load(std::string_view realm, const KeyFile& file) noexcept {
    clear();
    // A ring that is not whole is empty: it mints nothing and knows no key.
    const auto fail = [this](Load why) noexcept {
        clear();
        return why;
    };
    realm_ = realm;
    current_ = file.current;
    for (std::size_t i = 0; i < file.count; ++i) {
        const MasterKey& master = file.masters[i];
        Digest id{};
        if (!derive(master, "kid", realm, id)) {
            return fail(Load::crypto_failure);
        }
        if (find(id[0]) != nullptr) {
            return fail(Load::duplicate_key_id);
        }
        Key& key = keys_[count_++];
        key.id = id[0];
        if (!prepare(key, master, realm)) {
            return fail(Load::crypto_failure);
        }
    }
    return count_ > 0 ? Load::ok : Load::crypto_failure;
}

bool KeyRing::prepare(Key& key, const MasterKey& master, std::string_view realm) noexcept {
    key.token_mac = hmac_context(master, "token", realm);
    key.rotation_mac = hmac_context(master, "rotation", realm);
    key.public_id_mac = hmac_context(master, "public id", realm);
    key.store_key_mac = hmac_context(master, "store key", realm);
    key.user_mac = hmac_context(master, "user", realm);
    return key.token_mac != nullptr && key.rotation_mac != nullptr &&
           key.public_id_mac != nullptr && key.store_key_mac != nullptr &&
           key.user_mac != nullptr && derive(master, "seal", realm, key.seal_master);
}

const KeyRing::Key* KeyRing::find(std::uint8_t id) const noexcept {
    for (std::size_t i = 0; i < count_; ++i) {
        if (keys_[i].id == id) {
            return &keys_[i];
        }
    }
    return nullptr;
}

bool KeyRing::tag_of(const Key& key, const Token& token, Tag& tag) const noexcept {
    Digest digest{};
    std::size_t size = 0;
    const std::uint8_t lead[] = {static_cast<std::uint8_t>(realm_.size())};
    const bool ok = EVP_MAC_init(key.token_mac, nullptr, 0, nullptr) == 1 &&
                    add(key.token_mac, lead) && add(key.token_mac, as_bytes(realm_)) &&
                    add(key.token_mac, {&token.key_id, 1}) && add(key.token_mac, token.handle) &&
                    add(key.token_mac, token.secret) &&
                    EVP_MAC_final(key.token_mac, digest.data(), &size, digest.size()) == 1 &&
                    size == digest.size();
    std::copy_n(digest.begin(), tag.size(), tag.begin());
    OPENSSL_cleanse(digest.data(), digest.size());
    return ok;
}

bool KeyRing::secret_of(const Key& key, const Handle& handle, const Seed& seed,
                        std::uint32_t generation, Secret& secret) const noexcept {
    std::array<std::uint8_t, sizeof handle + sizeof generation + sizeof seed> message;
    std::uint8_t* const to = std::copy(handle.begin(), handle.end(), message.begin());
    store_le<std::uint32_t>(to, generation);
    std::copy(seed.begin(), seed.end(), to + sizeof generation);
    return digest_of(key.rotation_mac, message, secret);
}

std::optional<KeyRing::Minted> KeyRing::mint(RandomPool& random) const noexcept {
    if (count_ == 0) {
        return std::nullopt;
    }
    Minted minted;
    const Key& key = keys_[current_];
    minted.key_id = key.id;
    if (!random.take(minted.handle) || !random.take(minted.seed) ||
        !secret_of(key, minted.handle, minted.seed, 0, minted.secret) ||
        !tag_of(key, minted, minted.tag)) {
        return std::nullopt;
    }
    return minted;
}

std::optional<Token> KeyRing::token_of(std::uint8_t key_id, const Handle& handle, const Seed& seed,
                                       std::uint32_t generation) const noexcept {
    const Key* const key = find(key_id);
    Token token;
    token.key_id = key_id;
    token.handle = handle;
    if (key == nullptr || !secret_of(*key, handle, seed, generation, token.secret) ||
        !tag_of(*key, token, token.tag)) {
        return std::nullopt;
    }
    return token;
}

TokenCheck KeyRing::check(const Token& token) const noexcept {
    const Key* const key = find(token.key_id);
    if (key == nullptr) {
        return TokenCheck::unknown_key;
    }
    Tag expected{};
    if (!tag_of(*key, token, expected)) {
        return TokenCheck::unknown_key;  // OpenSSL failed: not known to be forged
    }
    const bool same = CRYPTO_memcmp(expected.data(), token.tag.data(), expected.size()) == 0;
    return same ? TokenCheck::genuine : TokenCheck::forged;
}

std::optional<PublicId> KeyRing::public_id(const Token& token) const noexcept {
    const Key* const key = find(token.key_id);
    if (key == nullptr) {
        return std::nullopt;
    }
    PublicId id;
    if (!digest_of(key->public_id_mac, token.handle, id)) {
        return std::nullopt;
    }
    return id;
}

std::optional<Handle> KeyRing::user_handle(std::uint8_t key_id,
                                           std::string_view user) const noexcept {
    const Key* const key = find(key_id);
    Handle handle;
    return key != nullptr && digest_of(key->user_mac, as_bytes(user), handle)
               ? std::optional(handle)
               : std::nullopt;
}

std::optional<StoreKey> KeyRing::store_key(const Token& token) const noexcept {
    const auto id = public_id(token);
    return id ? store_key(token.key_id, *id) : std::nullopt;
}

std::optional<StoreKey> KeyRing::store_key(std::uint8_t key_id, const PublicId& id) const noexcept {
    const Key* const key = find(key_id);
    StoreKey name;
    if (key == nullptr || !digest_of(key->store_key_mac, id, name)) {
        return std::nullopt;
    }
    return name;
}

bool KeyRing::seal_keys(SealKeys& keys) const noexcept {
    keys.wipe();
    for (std::size_t i = 0; i < count_; ++i) {
        keys.keys[i].id = keys_[i].id;
        keys.keys[i].master = keys_[i].seal_master;
    }
    keys.count = count_;
    return count_ > 0;
}

}  // namespace sg
