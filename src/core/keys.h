// The keys of one realm: every line of the key file is a master key; HKDF-SHA256 derives one key
// per purpose from it, with the realm's name in every derivation, so that a token, public id or
// record of one realm means nothing in another. See docs/formats.md.
#pragma once

#include <openssl/types.h>

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "core/key_file.h"
#include "core/random_pool.h"
#include "core/record.h"
#include "core/store_key.h"
#include "core/token.h"

namespace sg {

struct SealKeys;  // core/seal.h

inline constexpr std::size_t kMaxRealmName = 64;

enum class TokenCheck : std::uint8_t { genuine, forged, unknown_key };

// Holds derived keys inside OpenSSL MAC contexts, prepared once. Move- and copy-free; owned by the
// configuration (destructor frees and wipes). Not thread-safe: one process, one thread.
class KeyRing {
  public:
    KeyRing() noexcept = default;
    ~KeyRing();
    KeyRing(const KeyRing&) = delete;
    KeyRing& operator=(const KeyRing&) = delete;

    enum class Load : std::uint8_t { ok, duplicate_key_id, crypto_failure };

    // Derives everything. `realm` must outlive the ring and be at most kMaxRealmName bytes.
    // duplicate_key_id: two keys of the file share the one-byte key id; one must be replaced.
    Load load(std::string_view realm, const KeyFile& file) noexcept;

    // A new credential under the current key, the first of its chain. nullopt when random bytes or
    // the MAC cannot be had: the login must be refused.
    struct Minted : Token {
        Seed seed{};  // of the chain: goes into the record
    };
    std::optional<Minted> mint(RandomPool& random) const noexcept;

    // The credential of this session with the secret of this generation, in whatever process:
    // HMAC-SHA256 over handle, generation and seed. nullopt: OpenSSL failed, or no such key.
    std::optional<Token> token_of(std::uint8_t key_id, const Handle& handle, const Seed& seed,
                                  std::uint32_t generation) const noexcept;

    // Verifies the tag (HMAC-SHA256, truncated to 120 bits, constant-time compare).
    TokenCheck check(const Token& token) const noexcept;

    // 96 bits of a keyed digest of the handle, under the key with the token's id.
    std::optional<PublicId> public_id(const Token& token) const noexcept;

    // What stands for a user where sessions are kept by their handles: the first 128 bits of a
    // keyed digest of the name. nullopt: OpenSSL failed, or no such key.
    std::optional<Handle> user_handle(std::uint8_t key_id, std::string_view user) const noexcept;

    // The key that mints. 0 in an empty ring, which does not.
    std::uint8_t current_id() const noexcept { return count_ > 0 ? keys_[current_].id : 0; }

    // The keys, the one that mints first. What is known of a session that another node has made is
    // its handle only, and nodes may mint with different keys while a new one is handed out.
    std::size_t count() const noexcept { return count_; }
    std::uint8_t id(std::size_t i) const noexcept { return keys_[(current_ + i) % count_].id; }

    // Whether a key with this id is configured.
    bool knows(std::uint8_t id) const noexcept { return find(id) != nullptr; }

    // Where a store keeps the session: 128 bits of a keyed digest of its public id, under the key
    // with this id. nullopt: no such key.
    std::optional<StoreKey> store_key(const Token& token) const noexcept;
    std::optional<StoreKey> store_key(std::uint8_t key_id, const PublicId& id) const noexcept;

    // Hands out the seal masters, one for each key, for a Sealer to copy; wipe `keys` after that.
    // False (and `keys` wiped) when the ring is empty.
    bool seal_keys(SealKeys& keys) const noexcept;

  private:
    struct Key {
        std::uint8_t id = 0;
        EVP_MAC_CTX* token_mac = nullptr;
        EVP_MAC_CTX* rotation_mac = nullptr;
        EVP_MAC_CTX* public_id_mac = nullptr;
        EVP_MAC_CTX* store_key_mac = nullptr;
        EVP_MAC_CTX* user_mac = nullptr;
        std::array<std::uint8_t, 32> seal_master{};  // plain: Sealers are made later, per thread
    };

    const Key* find(std::uint8_t id) const noexcept;
    bool secret_of(const Key& key, const Handle& handle, const Seed& seed, std::uint32_t generation,
                   Secret& secret) const noexcept;
    bool tag_of(const Key& key, const Token& token, Tag& tag) const noexcept;
    static bool prepare(Key& key, const MasterKey& master, std::string_view realm) noexcept;
    void clear() noexcept;

    std::string_view realm_;
    std::array<Key, kMaxKeys> keys_{};
    std::size_t count_ = 0;
    std::size_t current_ = 0;
};

}  // namespace sg
