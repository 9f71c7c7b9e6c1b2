#include "core/record.h"

#include <algorithm>

#include "core/base64url.h"

namespace sg {
namespace {

// Byte table of version 1 (docs/formats.md). The zone's sweep reads kCreatedAt, kIdleLimitAt and
// kAbsoluteLimitAt straight from the bytes; see zone/layout.h.
enum : std::size_t {
    kVersionAt = 0,
    kLevelAt = 1,
    kFlagsAt = 2,
    kUserLengthAt = 3,
    kGenerationAt = 4,
    kCreatedAt = 8,
    kAuthenticatedAt = 16,
    kIdleLimitAt = 24,
    kAbsoluteLimitAt = 28,
    kLargestGapAt = 32,
    kChangeCounterAt = 36,
    kNodeAt = 40,
    kSeedAt = 48,
    kPublicIdAt = 64,
    kRotatedAt = 76,
    kRolesLengthAt = 80,
    kAttributesLengthAt = 82,
    kEndOfFixed = 84,
};
static_assert(kEndOfFixed == kRecordFixedBytes);

constexpr std::size_t kMaxLength = 65535;
constexpr std::size_t kAttributeHead = 3;

bool valid_level(std::uint8_t level) noexcept {
    return level >= static_cast<std::uint8_t>(Level::aal1) &&
           level <= static_cast<std::uint8_t>(Level::aal3);
}

// On the way of every request (decode_record): plain walks over the bytes.
bool well_formed_attributes(ByteView attributes) noexcept {
    const std::uint8_t* at = attributes.data();
    std::size_t left = attributes.size();
    while (left >= kAttributeHead) {
        const std::size_t name = at[0];
        const std::size_t size = kAttributeHead + name + load_le<std::uint16_t>(at + 1);
        if (name == 0 || name > RecordLimits::kAttributeNameBytes || size > left) {
            return false;
        }
        at += size;
        left -= size;
    }
    return left == 0;
}

bool well_formed_roles(std::string_view roles) noexcept {
    std::size_t count = 0;
    std::size_t length = 0;  // of the role so far
    for (const char c : roles) {
        if (c != ' ') {
            count += length == 0 ? 1 : 0;
            if (++length > RecordLimits::kRoleBytes) {
                return false;
            }
            continue;
        }
        if (length == 0) {
            return false;
        }
        length = 0;
    }
    return count <= RecordLimits::kRoles && (roles.empty() || length > 0);
}

// What encode_record refuses and decode_record therefore never sees in a record of ours.
bool well_formed(const Record& record) noexcept {
    return valid_level(static_cast<std::uint8_t>(record.level)) && record.created >= 0 &&
           record.authenticated >= 0 && well_formed_roles(record.roles) &&
           well_formed_attributes(record.attributes);
}

[[gnu::always_inline]] inline bool read_numbers(ByteView bytes, Record& record) noexcept {
    if (bytes.size() < kRecordFixedBytes) {
        return false;
    }
    const std::uint8_t* const from = bytes.data();
    if (from[kVersionAt] != kRecordVersion) {
        return false;
    }
    record.level = static_cast<Level>(from[kLevelAt]);
    record.flags = from[kFlagsAt];
    record.generation = load_le<std::uint32_t>(from + kGenerationAt);
    record.created = static_cast<TimeMs>(load_le<std::uint64_t>(from + kCreatedAt));
    record.authenticated = static_cast<TimeMs>(load_le<std::uint64_t>(from + kAuthenticatedAt));
    record.idle_limit_s = load_le<std::uint32_t>(from + kIdleLimitAt);
    record.absolute_limit_s = load_le<std::uint32_t>(from + kAbsoluteLimitAt);
    record.largest_gap_s = load_le<std::uint32_t>(from + kLargestGapAt);
    record.change_counter = load_le<std::uint32_t>(from + kChangeCounterAt);
    record.node = load_le<std::uint64_t>(from + kNodeAt);
    record.rotated_s = load_le<std::uint32_t>(from + kRotatedAt);
    std::copy_n(from + kSeedAt, record.seed.size(), record.seed.begin());
    std::copy_n(from + kPublicIdAt, record.public_id.size(), record.public_id.begin());
    return true;
}

template <typename Bytes>
std::uint8_t* put(std::uint8_t* to, const Bytes& from) noexcept {
    return std::copy(from.begin(), from.end(), to);
}

}  // namespace

std::size_t encoded_size(const Record& record) noexcept {
    return kRecordFixedBytes + record.user.size() + record.roles.size() + record.attributes.size();
}

std::size_t encode_record(const Record& record, ByteSpan out) noexcept {
    const std::size_t size = encoded_size(record);
    if (size > out.size() || record.user.size() > RecordLimits::kUserBytes ||
        record.roles.size() > kMaxLength || record.attributes.size() > kMaxLength ||
        !well_formed(record)) {
        return 0;
    }
    std::uint8_t* const to = out.data();
    to[kVersionAt] = kRecordVersion;
    to[kLevelAt] = static_cast<std::uint8_t>(record.level);
    to[kFlagsAt] = record.flags;
    to[kUserLengthAt] = static_cast<std::uint8_t>(record.user.size());
    store_le<std::uint32_t>(to + kGenerationAt, record.generation);
    store_le<std::uint64_t>(to + kCreatedAt, static_cast<std::uint64_t>(record.created));
    store_le<std::uint64_t>(to + kAuthenticatedAt,
                            static_cast<std::uint64_t>(record.authenticated));
    store_le<std::uint32_t>(to + kIdleLimitAt, record.idle_limit_s);
    store_le<std::uint32_t>(to + kAbsoluteLimitAt, record.absolute_limit_s);
    store_le<std::uint32_t>(to + kLargestGapAt, record.largest_gap_s);
    store_le<std::uint32_t>(to + kChangeCounterAt, record.change_counter);
    store_le<std::uint64_t>(to + kNodeAt, record.node);
    put(to + kSeedAt, record.seed);
    put(to + kPublicIdAt, record.public_id);
    store_le<std::uint16_t>(to + kRolesLengthAt, static_cast<std::uint16_t>(record.roles.size()));
    store_le<std::uint16_t>(to + kAttributesLengthAt,
                            static_cast<std::uint16_t>(record.attributes.size()));
    store_le<std::uint32_t>(to + kRotatedAt, record.rotated_s);
    std::uint8_t* tail = put(to + kEndOfFixed, record.user);
    tail = put(tail, record.roles);
    put(tail, record.attributes);
    return size;
}

bool view_numbers(ByteView bytes, Record& record) noexcept {
    return read_numbers(bytes, record);
}

bool view_record(ByteView bytes, Record& record) noexcept {
    if (!read_numbers(bytes, record)) {
        return false;
    }
    const std::uint8_t* const from = bytes.data();
    const std::size_t user = from[kUserLengthAt];
    const std::size_t roles = load_le<std::uint16_t>(from + kRolesLengthAt);
    const std::size_t attributes = load_le<std::uint16_t>(from + kAttributesLengthAt);
    if (kRecordFixedBytes + user + roles + attributes != bytes.size()) {
        return false;
    }
    const std::string_view text = as_text(bytes);
    record.user = text.substr(kEndOfFixed, user);
    record.roles = text.substr(kEndOfFixed + user, roles);
    record.attributes = bytes.subspan(kEndOfFixed + user + roles, attributes);
    return true;
}

std::optional<Record> decode_record(ByteView bytes) noexcept {
    Record record;
    if (!view_record(bytes, record) || !well_formed(record)) {
        return std::nullopt;
    }
    return record;
}

bool next_attribute(ByteView attributes, std::size_t& offset, Attribute& out) noexcept {
    if (attributes.size() - offset < kAttributeHead) {
        return false;
    }
    const std::size_t name = attributes[offset];
    const std::size_t value = load_le<std::uint16_t>(attributes.data() + offset + 1);
    if (name == 0 || attributes.size() - offset - kAttributeHead < name + value) {
        return false;
    }
    const std::string_view text = as_text(attributes);
    out.name = text.substr(offset + kAttributeHead, name);
    out.value = text.substr(offset + kAttributeHead + name, value);
    offset += kAttributeHead + name + value;
    return true;
}

std::optional<std::string_view> find_attribute(ByteView attributes,
                                               std::string_view name) noexcept {
    std::size_t offset = 0;
    Attribute attribute;
    while (next_attribute(attributes, offset, attribute)) {
        if (attribute.name == name) {
            return attribute.value;
        }
    }
    return std::nullopt;
}

bool append_attribute(ByteSpan out, std::size_t& used, std::string_view name,
                      std::string_view value) noexcept {
    const std::size_t size = kAttributeHead + name.size() + value.size();
    if (name.empty() || name.size() > RecordLimits::kAttributeNameBytes ||
        value.size() > kMaxLength || out.size() - used < size) {
        return false;
    }
    std::uint8_t* to = out.data() + used;
    to[0] = static_cast<std::uint8_t>(name.size());
    store_le<std::uint16_t>(to + 1, static_cast<std::uint16_t>(value.size()));
    put(put(to + kAttributeHead, name), value);
    used += size;
    return true;
}

bool next_role(std::string_view roles, std::size_t& offset, std::string_view& out) noexcept {
    if (offset >= roles.size()) {
        return false;
    }
    std::size_t end = roles.find(' ', offset);
    if (end == std::string_view::npos) {
        end = roles.size();
    }
    out = roles.substr(offset, end - offset);
    offset = end + 1;
    return true;
}

bool has_role(std::string_view roles, std::string_view role) noexcept {
    std::size_t offset = 0;
    std::string_view each;
    while (next_role(roles, offset, each)) {
        if (each == role) {
            return true;
        }
    }
    return false;
}

std::size_t intersect_roles(std::string_view a, std::string_view b, std::span<char> out) noexcept {
    std::size_t offset = 0;
    std::size_t used = 0;
    std::string_view role;
    while (next_role(a, offset, role)) {
        if (!has_role(b, role)) {
            continue;
        }
        if (used > 0) {
            out[used++] = ' ';
        }
        used = static_cast<std::size_t>(
            std::copy(role.begin(), role.end(), out.begin() + static_cast<std::ptrdiff_t>(used)) -
            out.begin());
    }
    return used;
}

void format_public_id(const PublicId& id, std::span<char, kPublicIdChars> out) noexcept {
    base64url_encode(id, out);
}

}  // namespace sg
