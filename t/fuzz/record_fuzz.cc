// Fuzzes the session record. Bytes that are a record are written back as the same bytes; the walks
// over roles and attributes end and never leave their input, whatever it is; what is composed from
// arbitrary parts and can be written can be read. Input: a record's bytes.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/record.h"

namespace {

using Bytes = std::vector<std::uint8_t>;

void require(bool condition, const char* what) {
    if (!condition) {
        std::fprintf(stderr, "broken promise: %s\n", what);
        std::abort();
    }
}

bool inside(std::string_view part, std::string_view whole) {
    return part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size();
}

Bytes encode(const sg::Record& record) {
    Bytes bytes(sg::encoded_size(record));
    bytes.resize(sg::encode_record(record, bytes));
    return bytes;
}

// Whatever the bytes are.
std::size_t walk_attributes(sg::ByteView attributes) {
    std::size_t offset = 0;
    std::size_t count = 0;
    std::set<std::string_view> names;
    sg::Attribute each;
    while (sg::next_attribute(attributes, offset, each)) {
        require(++count <= attributes.size() / 4, "an attribute takes four bytes at least");
        require(offset <= attributes.size(), "the walk stays inside");
        require(!each.name.empty(), "an attribute has a name");
        require(inside(each.name, sg::as_text(attributes)) &&
                    inside(each.value, sg::as_text(attributes)),
                "a view stays inside");
        if (names.insert(each.name).second) {
            require(sg::find_attribute(attributes, each.name) == each.value,
                    "what the walk sees first is found");
        }
    }
    return offset;
}

std::set<std::string_view> walk_roles(std::string_view roles) {
    std::size_t offset = 0;
    std::size_t count = 0;
    std::set<std::string_view> names;
    std::string_view role;
    while (sg::next_role(roles, offset, role)) {
        require(++count <= roles.size(), "a role takes a byte at least");
        require(inside(role, roles), "a role stays inside");
        require(sg::has_role(roles, role), "what the walk sees is found");
        names.insert(role);
    }
    return names;
}

void check_intersection(std::string_view a, std::string_view b) {
    std::vector<char> out(a.size());
    const std::size_t used = sg::intersect_roles(a, b, out);
    require(used <= out.size(), "never more than the first has");
    const auto in_a = walk_roles(a);
    const auto in_b = walk_roles(b);
    std::set<std::string_view> both;
    for (const std::string_view role : in_a) {
        if (in_b.contains(role)) {
            both.insert(role);
        }
    }
    auto written = walk_roles({out.data(), used});
    both.erase("");  // of malformed lists only: an empty name is no role
    written.erase("");
    require(written == both, "exactly what both have");
}

void check_record(sg::ByteView bytes, const sg::Record& record) {
    require(encode(record) == Bytes(bytes.begin(), bytes.end()),
            "a record is written as it was read");
    require(sg::encoded_size(record) == bytes.size(), "the size is known before");
    require(walk_attributes(record.attributes) == record.attributes.size(),
            "the attributes fill their place");
    const auto roles = walk_roles(record.roles);
    require(roles.size() <= sg::RecordLimits::kRoles, "no more roles than the limit");
    for (const std::string_view role : roles) {
        require(!role.empty() && role.size() <= sg::RecordLimits::kRoleBytes,
                "a role has its limit");
    }
    check_intersection(record.roles, record.user);
    check_intersection(record.roles, record.roles);
    if (!bytes.empty()) {
        require(!sg::decode_record(bytes.first(bytes.size() - 1)), "a truncated record is none");
    }
}

// Three parts of the input, split where its first bytes say.
void check_composed(sg::ByteView bytes) {
    const std::string_view text = sg::as_text(bytes);
    if (text.size() < 3) {
        return;
    }
    const std::string_view parts = text.substr(2);
    const std::size_t user = bytes[0] % (parts.size() + 1);
    const std::size_t roles = bytes[1] % (parts.size() - user + 1);
    sg::Record record;
    record.level = static_cast<sg::Level>(bytes[0] % 5);
    record.created = bytes[1];
    record.user = parts.substr(0, user);
    record.roles = parts.substr(user, roles);
    record.attributes = sg::as_bytes(parts.substr(user + roles));
    const Bytes written = encode(record);
    if (written.empty()) {
        return;
    }
    const auto read = sg::decode_record(written);
    require(read.has_value(), "what can be written can be read");
    require(read->user == record.user && read->roles == record.roles &&
                sg::as_text(read->attributes) == sg::as_text(record.attributes) &&
                read->level == record.level && read->created == record.created,
            "what is read is what was written");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const sg::ByteView bytes(data, size);
    walk_attributes(bytes);
    const std::string_view text = sg::as_text(bytes);
    check_intersection(text.substr(0, size / 2), text.substr(size / 2));
    if (const auto record = sg::decode_record(bytes)) {
        check_record(bytes, *record);
    }
    check_composed(bytes);
    return 0;
}
