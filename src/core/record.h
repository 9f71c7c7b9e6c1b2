// The session record: everything the server remembers about a session except its credential
// (zone slot) and its last activity (a word of its own). One versioned little-endian byte layout
// serves the zone and, sealed, every store. See docs/formats.md for the byte table.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "core/bytes.h"
#include "core/time_ms.h"

namespace sg {

using PublicId = std::array<std::uint8_t, 12>;  // 96 bits of a keyed digest; safe to log and show
inline constexpr std::size_t kPublicIdChars = 16;

using Seed = std::array<std::uint8_t, 16>;  // of the chain of a session's secrets (core/rotation.h)

// NIST SP 800-63B authenticator assurance level.
enum class Level : std::uint8_t { aal1 = 1, aal2 = 2, aal3 = 3 };

struct RecordLimits {
    static constexpr std::size_t kUserBytes = 255;
    static constexpr std::size_t kRoles = 32;
    static constexpr std::size_t kRoleBytes = 64;
    static constexpr std::size_t kAttributeNameBytes = 64;
    static constexpr std::size_t kMaxDataBytes = 32 * 1024;  // largest `max_data`
};

inline constexpr std::uint8_t kRecordVersion = 1;

// Record::flags
inline constexpr std::uint8_t kFirstCookieFlag =
    0x01;                                          // only the login's cookie was sent (lax_first)
inline constexpr std::uint8_t kRosterFlag = 0x80;  // no session: core/roster.h
inline constexpr std::size_t kRecordFixedBytes = 84;

// A decoded record. The string views point into the bytes it was decoded from, or into whatever
// the caller composed it of; the record must not outlive them.
struct Record {
    Level level = Level::aal1;
    std::uint8_t flags = 0;        // none defined in version 1
    std::uint32_t generation = 0;  // of the secret (core/rotation.h)
    std::uint32_t rotated_s = 0;   // when that secret was first seen: seconds after `created`
    TimeMs created = 0;
    TimeMs authenticated = 0;
    std::uint32_t idle_limit_s = 0;  // 0: the realm's; otherwise only shorter counts
    std::uint32_t absolute_limit_s = 0;
    std::uint32_t largest_gap_s = 0;
    std::uint32_t change_counter = 0;
    std::uint64_t node = 0;
    Seed seed{};
    PublicId public_id{};
    std::string_view user;
    std::string_view roles;  // names separated by one space, no duplicates
    ByteView attributes;     // packed: name_len u8, value_len u16, name, value, ...
};

// Bytes `encode_record` will write.
std::size_t encoded_size(const Record& record) noexcept;

// Writes the record; returns the bytes written, 0 when `out` is too small or a field is over its
// limit (RecordLimits; roles and attributes at most 65535 bytes each).
std::size_t encode_record(const Record& record, ByteSpan out) noexcept;

// nullopt for anything that `encode_record` does not write: truncated, trailing bytes, a newer
// version, impossible lengths. What cannot be read is *unknown*, never *absent*.
std::optional<Record> decode_record(ByteView bytes) noexcept;

// The same for bytes that encode_record has written and nobody else could touch (a zone cell):
// version and lengths are checked, names and values are not walked. False where decode_record would
// refuse those.
bool view_record(ByteView bytes, Record& record) noexcept;

// Only the numbers, from at least the first kRecordFixedBytes of such bytes. The views are left.
bool view_numbers(ByteView bytes, Record& record) noexcept;

// Walks packed attributes. Returns false at the end or on damage; `offset` starts at 0.
struct Attribute {
    std::string_view name;
    std::string_view value;
};
bool next_attribute(ByteView attributes, std::size_t& offset, Attribute& out) noexcept;
std::optional<std::string_view> find_attribute(ByteView attributes, std::string_view name) noexcept;

// Appends one attribute at `out[used]`; false when it does not fit.
bool append_attribute(ByteSpan out, std::size_t& used, std::string_view name,
                      std::string_view value) noexcept;

// Calls role by role over "a b c".
bool next_role(std::string_view roles, std::size_t& offset, std::string_view& out) noexcept;
bool has_role(std::string_view roles, std::string_view role) noexcept;

// Writes the roles that are in both lists, in the order of `a`; returns the bytes written.
// `out` must hold a.size() bytes.
std::size_t intersect_roles(std::string_view a, std::string_view b, std::span<char> out) noexcept;

void format_public_id(const PublicId& id, std::span<char, kPublicIdChars> out) noexcept;

}  // namespace sg
