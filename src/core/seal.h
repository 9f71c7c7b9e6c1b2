// Seals store entries: AES-256-GCM (NIST SP 800-38D) under a key derived per entry, so that what a
// store holds can be neither read nor moved to another key. See docs/formats.md.
//
//   sealed value = layout 1 | key id 1 | nonce 12 | ciphertext | tag 16
//
// The entry's key is HKDF-Expand(seal master, store key); store key, kind and the two leading bytes
// are associated data. The nonce is random: one key sees the few versions of one session.
#pragma once

#include <openssl/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/bytes.h"
#include "core/keys.h"
#include "core/store_entry.h"

namespace sg {

inline constexpr std::size_t kSealBytes = 1 + 1 + 12 + 16;  // what sealing adds
inline constexpr std::size_t kNonceBytes = 12;
inline constexpr std::uint8_t kSealVersion = 1;

// The seal masters of one realm, one for each line of its key file. Filled by KeyRing::seal_keys;
// plain key material: wipe() it when the last Sealer has been made from it.
struct SealKeys {
    struct Key {
        std::uint8_t id = 0;
        std::array<std::uint8_t, 32> master{};
    };
    std::array<Key, kMaxKeys> keys{};
    std::size_t count = 0;

    void wipe() noexcept;
};

// OpenSSL contexts for one user at a time (one thread, or one batch in flight): prepared once, no
// allocation per entry in this code.
class Sealer {
  public:
    Sealer() noexcept = default;
    ~Sealer();
    Sealer(const Sealer&) = delete;
    Sealer& operator=(const Sealer&) = delete;

    // Copies the keys; may be called again. False when there is no key or OpenSSL cannot provide
    // AES-256-GCM or HMAC: the sealer then seals and opens nothing.
    bool load(const SealKeys& keys) noexcept;

    // Writes the sealed value to `out` (plain.size() + kSealBytes bytes needed); returns its size,
    // 0 on failure (unknown key id, too little room, more than kMaxEntryBytes, OpenSSL). `nonce`
    // must be fresh random bytes. `out` and `plain` must not overlap; nor below.
    std::size_t seal(std::uint8_t key_id, const StoreKey& key, EntryKind kind, ByteView plain,
                     std::span<const std::uint8_t, kNonceBytes> nonce, ByteSpan out) noexcept;

    enum class Opened : std::uint8_t { ok, newer_layout, unknown_key, failed };

    // Opens into `out` (sealed.size() - kSealBytes bytes needed). `size` is set when ok. On any
    // other answer `out` holds nothing of use.
    Opened open(const StoreKey& key, EntryKind kind, ByteView sealed, ByteSpan out,
                std::size_t& size) noexcept;

  private:
    // A seal master, as an HMAC that is keyed with it already.
    struct Master {
        std::uint8_t id = 0;
        EVP_MAC_CTX* mac = nullptr;
    };

    bool prepare(const SealKeys& keys) noexcept;
    void clear() noexcept;
    const Master* find(std::uint8_t id) const noexcept;
    // Readies the cipher with the key derived for this entry; `encrypt` 1 or 0.
    bool arm(const Master& master, const StoreKey& key, const std::uint8_t* nonce,
             int encrypt) noexcept;

    std::array<Master, kMaxKeys> masters_{};
    std::size_t count_ = 0;
    EVP_CIPHER_CTX* cipher_ = nullptr;
    EVP_CIPHER* gcm_ = nullptr;
};

}  // namespace sg
