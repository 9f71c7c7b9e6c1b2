// The session record's bytes.
#include "core/record.h"

#include <string>

#include "unit/support.h"

using namespace sg;
using namespace sg::test;
using namespace std::literals;

namespace {

// Copies the record's bytes to memory of exactly their size.
std::optional<Record> decode(std::string_view bytes) {
    const ByteSpan exact = exact_bytes(bytes.size());
    std::copy(bytes.begin(), bytes.end(), exact.begin());
    return decode_record(exact);
}

Record full_record() {
    static std::array<std::uint8_t, 64> attributes;
    std::size_t used = 0;
    assert_true(append_attribute(attributes, used, "theme", "dark"));
    assert_true(append_attribute(attributes, used, "x", ""));
    Record record;
    record.level = Level::aal3;
    record.flags = 0x01;
    record.generation = 0x06050403;
    record.created = 0x0706050403020100;
    record.authenticated = 0x0f0e0d0c0b0a0908;
    record.idle_limit_s = 0x13121110;
    record.absolute_limit_s = 0x17161514;
    record.largest_gap_s = 0x1b1a1918;
    record.change_counter = 0x1f1e1d1c;
    record.node = 0xf7f6f5f4f3f2f1f0;
    record.rotated_s = 0xe3e2e1e0;
    record.seed.fill(0x5e);
    record.public_id.fill(0x1d);
    record.user = "alice";
    record.roles = "editor admin";
    record.attributes = ByteView(attributes).first(used);
    return record;
}

std::string encode(const Record& record) {
    std::string bytes(encoded_size(record), '\xee');
    const std::size_t size =
        encode_record(record, {reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
    bytes.resize(size);
    return bytes;
}

// Would catch: a field moved: the records of a running zone or store would be read wrongly.
void writes_the_documented_bytes(void**) {
    static const std::string expected(
        "\x01\x03\x01\x05\x03\x04\x05\x06"
        "\x00\x01\x02\x03\x04\x05\x06\x07"
        "\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"
        "\x10\x11\x12\x13\x14\x15\x16\x17"
        "\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f"
        "\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7"
        "\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e\x5e"
        "\x1d\x1d\x1d\x1d\x1d\x1d\x1d\x1d\x1d\x1d\x1d\x1d"
        "\xe0\xe1\xe2\xe3\x0c\x00\x10\x00"
        "alice"
        "editor admin"
        "\x05\x04\x00themedark\x01\x00\x00x"sv);
    assert_text(encode(full_record()), expected, "record");
}

void assert_same_record(const Record& a, const Record& b) {
    assert_int_equal(a.level, b.level);
    assert_int_equal(a.flags, b.flags);
    assert_int_equal(a.generation, b.generation);
    assert_int_equal(a.rotated_s, b.rotated_s);
    assert_int_equal(a.created, b.created);
    assert_int_equal(a.authenticated, b.authenticated);
    assert_int_equal(a.idle_limit_s, b.idle_limit_s);
    assert_int_equal(a.absolute_limit_s, b.absolute_limit_s);
    assert_int_equal(a.largest_gap_s, b.largest_gap_s);
    assert_int_equal(a.change_counter, b.change_counter);
    assert_int_equal(a.node, b.node);
    assert_true(a.seed == b.seed && a.public_id == b.public_id);
    assert_text(a.user, b.user, "user");
    assert_text(a.roles, b.roles, "roles");
    assert_text(as_text(a.attributes), as_text(b.attributes), "attributes");
}

// Would catch: a field that is written and not read, or the other way round.
void reads_back_what_it_wrote(void**) {
    static const std::string bytes = encode(full_record());
    const auto read = decode(bytes);
    assert_true(read.has_value());
    assert_same_record(*read, full_record());
    const auto empty = decode(encode(Record{}));
    assert_true(empty.has_value());
    assert_same_record(*empty, Record{});
}

// Would catch: a read beyond the end, or a record taken for whole that a crash or a full store cut
// off.
void refuses_every_truncation_and_every_byte_too_many(void**) {
    static const std::string bytes = encode(full_record());
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        assert_false(decode(std::string_view(bytes).substr(0, size)).has_value());
    }
    assert_true(decode(bytes).has_value());
    assert_false(decode(bytes + '\0').has_value());
    assert_false(decode(bytes + bytes).has_value());
    assert_false(decode(std::string(70000, '\x01')).has_value());
}

// Would catch: an answer other than what it says of a wrong byte: refused, or exactly these bytes
// again.
void every_flipped_bit_is_refused_or_kept(void**) {
    static std::string bytes;
    bytes = encode(full_record());
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        static std::string flipped;
        flipped = bytes;
        flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
        const auto read = decode(flipped);
        if (read) {
            assert_text(encode(*read), flipped, "record");
        }
    }
}

// Would catch: a record of a newer program, in a fleet that is being upgraded, read as if it were
// ours.
void a_newer_version_is_not_read(void**) {
    static std::string bytes;
    bytes = encode(full_record());
    bytes[0] = 2;
    assert_false(decode(bytes).has_value());
}

struct Patch {
    const char* what;
    std::size_t at;
    std::string_view bytes;
    bool good;
};

// Over the record of full_record(): user 5 at 84, roles 12 at 89, attributes 16 at 101.
constexpr Patch kPatches[] = {
    {"nothing changed", 0, ""sv, true},
    {"version 0", 0, "\x00"sv, false},
    {"version 2", 0, "\x02"sv, false},
    {"version 255", 0, "\xff"sv, false},
    {"level 0", 1, "\x00"sv, false},
    {"level 1", 1, "\x01"sv, true},
    {"level 4", 1, "\x04"sv, false},
    {"level 255", 1, "\xff"sv, false},
    {"any flags", 2, "\xff"sv, true},
    {"created in 1970", 8, "\0\0\0\0\0\0\0\0"sv, true},
    {"created before 1970", 8, "\xff\xff\xff\xff\xff\xff\xff\xff"sv, false},
    {"created at the least time", 8, "\0\0\0\0\0\0\0\x80"sv, false},
    {"created at the greatest time", 8, "\xff\xff\xff\xff\xff\xff\xff\x7f"sv, true},
    {"authenticated before 1970", 16, "\xff\xff\xff\xff\xff\xff\xff\xff"sv, false},
    {"authenticated at the least time", 16, "\0\0\0\0\0\0\0\x80"sv, false},
    {"user one shorter", 3, "\x04"sv, false},
    {"user one longer", 3, "\x06"sv, false},
    {"user 0", 3, "\x00"sv, false},
    {"user 255", 3, "\xff"sv, false},
    {"roles one shorter", 80, "\x0b"sv, false},
    {"roles one longer", 80, "\x0d"sv, false},
    {"roles 0", 80, "\x00"sv, false},
    {"roles 65535", 80, "\xff\xff"sv, false},
    {"attributes one shorter", 82, "\x0f"sv, false},
    {"attributes one longer", 82, "\x11"sv, false},
    {"attributes 0", 82, "\x00"sv, false},
    {"attributes 65535", 82, "\xff\xff"sv, false},
    {"roles and attributes swap four bytes", 80, "\x08\x00\x14"sv, false},
    {"a length moved from roles to attributes", 80, "\x0b\x00\x11"sv, false},
    {"a NUL in the user", 86, "\0"sv, true},
    {"roles begin with a space", 89, " "sv, false},
    {"roles end with a space", 100, " "sv, false},
    {"two spaces in the roles", 94, "  "sv, false},
    {"only spaces", 89, "            "sv, false},
    {"attribute name 0", 101, "\x00"sv, false},
    {"attribute name one shorter", 101, "\x04"sv, false},
    {"attribute name 65", 101, "\x41"sv, false},
    {"attribute name 255", 101, "\xff"sv, false},
    {"attribute value one shorter", 102, "\x03"sv, false},
    {"attribute value one longer", 102, "\x05"sv, false},
    {"attribute value 65535", 102, "\xff\xff"sv, false},
    {"attribute value up to the end", 102, "\x08"sv, true},
    {"second attribute without a name", 113, "\x00"sv, false},
    {"second attribute beyond the end", 114, "\x01"sv, false},
};
static_assert(std::size(kPatches) >= 41);

// Would catch: bytes nobody here wrote that are believed: roles out of a length that lies.
void refuses_what_it_would_not_write(void**) {
    for (const Patch& patch : kPatches) {
        static std::string bytes;
        bytes = encode(full_record());
        bytes.replace(patch.at, patch.bytes.size(), patch.bytes);
        const auto read = decode(bytes);
        if (read.has_value() != patch.good) {
            fail_msg("%s: %s", patch.what, patch.good ? "refused" : "accepted");
        }
        if (read) {
            assert_text(encode(*read), bytes, patch.what);
        }
    }
}

std::string repeated(std::string_view text, std::size_t times) {
    std::string all;
    for (std::size_t i = 0; i < times; ++i) {
        all += text;
    }
    return all;
}

bool encodes(const Record& record) {
    return !encode(record).empty();
}

// Would catch: a record that can be written and never be read again, so that the session is
// damaged.
void writes_nothing_over_its_limits(void**) {
    static const std::string longest_user(255, 'u');
    static const std::string too_long_user(256, 'u');
    Record record;
    record.user = longest_user;
    assert_true(encodes(record));
    record.user = too_long_user;
    assert_false(encodes(record));

    static const std::string role(64, 'r');
    static const std::string long_role(65, 'r');
    static const std::string most_roles = repeated("r ", 31) + "r";
    static const std::string too_many_roles = repeated("r ", 32) + "r";
    record = Record{};
    for (const std::string_view good :
         {std::string_view(role), std::string_view(most_roles), "a b"sv}) {
        record.roles = good;
        assert_true(encodes(record));
    }
    for (const std::string_view bad :
         {std::string_view(long_role), std::string_view(too_many_roles), " "sv, " a"sv, "a "sv,
          "a  b"sv}) {
        record.roles = bad;
        assert_false(encodes(record));
    }

    record = Record{};
    for (const std::string_view bad : {"\0"sv, "\x01"sv, "\x01\0\0"sv, "\0\0\0"sv, "\x01\x01\0x"sv,
                                       "\x01\0\0x\0"sv, "\x01\0\0x\x01\0\0"sv}) {
        record.attributes = as_bytes(bad);
        assert_false(encodes(record));
    }
    static const std::string long_name = "\x41"s + "\0\0"s + std::string(65, 'n');
    record.attributes = as_bytes(long_name);
    assert_false(encodes(record));

    record = Record{};
    record.level = static_cast<Level>(0);
    assert_false(encodes(record));
    record.level = static_cast<Level>(4);
    assert_false(encodes(record));
    record = Record{};
    record.created = -1;
    assert_false(encodes(record));
}

// Would catch: a write beyond a buffer that is one byte short.
void writes_all_or_nothing(void**) {
    const std::size_t whole = encoded_size(full_record());
    for (std::size_t size = 0; size <= whole; ++size) {
        assert_int_equal(encode_record(full_record(), exact_bytes(size)), size < whole ? 0 : whole);
    }
}

// Would catch: an attribute that cannot be found again, or a value cut at a NUL.
void walks_and_finds_attributes(void**) {
    std::array<std::uint8_t, 64> packed;
    std::size_t used = 0;
    assert_true(append_attribute(packed, used, "theme", "dark"));
    assert_true(append_attribute(packed, used, "e", ""));
    assert_true(append_attribute(packed, used, "z", "a\0b"sv));
    const ByteView attributes = ByteView(packed).first(used);
    assert_text(*find_attribute(attributes, "theme"), "dark");
    assert_text(*find_attribute(attributes, "e"), "");
    assert_text(*find_attribute(attributes, "z"), "a\0b"sv);
    assert_false(find_attribute(attributes, "them").has_value());
    assert_false(find_attribute(attributes, "THEME").has_value());
    assert_false(find_attribute(attributes, "").has_value());
    assert_false(find_attribute({}, "theme").has_value());

    std::size_t offset = 0;
    Attribute each;
    assert_true(next_attribute(attributes, offset, each) && each.name == "theme");
    assert_true(next_attribute(attributes, offset, each) && each.name == "e");
    assert_true(next_attribute(attributes, offset, each) && each.name == "z");
    assert_false(next_attribute(attributes, offset, each));
    assert_int_equal(offset, attributes.size());
}

// Would catch: an attribute half written where space is short, or a length that does not fit its
// bytes.
void appends_an_attribute_wholly_or_not_at_all(void**) {
    static std::array<std::uint8_t, 70000> out;
    static const std::string name64(64, 'n');
    static const std::string name65(65, 'n');
    static const std::string longest(65535, 'v');
    static const std::string too_long(65536, 'v');
    for (std::size_t size = 0; size < 10; ++size) {
        std::size_t used = 0;
        const bool fits = append_attribute(ByteSpan(out).first(size), used, "ab", "cde");
        assert_int_equal(fits, size >= 8);
        assert_int_equal(used, fits ? 8 : 0);
    }
    std::size_t used = 0;
    assert_false(append_attribute(out, used, "", "x"));
    assert_false(append_attribute(out, used, name65, "x"));
    assert_false(append_attribute(out, used, "x", too_long));
    assert_int_equal(used, 0);
    assert_true(append_attribute(out, used, name64, longest));
    assert_text(*find_attribute(ByteView(out).first(used), name64), longest);
}

// Would catch: part of a role's name that is taken for the role.
void a_role_matches_as_a_whole_and_with_its_case(void**) {
    constexpr std::string_view kRoles = "editor admin x";
    for (const std::string_view role : {"editor"sv, "admin"sv, "x"sv}) {
        assert_true(has_role(kRoles, role));
    }
    for (const std::string_view role :
         {""sv, "edit"sv, "editor "sv, "dmin"sv, "Admin"sv, "editor admin"sv, "xx"sv, " "sv}) {
        assert_false(has_role(kRoles, role));
    }
    assert_false(has_role("", "x"));
    assert_false(has_role("", ""));
}

struct Intersection {
    std::string_view a;
    std::string_view b;
    std::string_view both;
};

constexpr Intersection kIntersections[] = {
    {"", "", ""},
    {"a", "", ""},
    {"", "a", ""},
    {"a", "a", "a"},
    {"a b c", "c a", "a c"},
    {"a b c", "d", ""},
    {"a b c", "b", "b"},
    {"admin", "admin2", ""},
    {"admin2", "admin", ""},
    {"a b", "ab", ""},
    {"editor admin", "admin editor", "editor admin"},
    {"x admin", "admin", "admin"},
};

// Would catch: more rights than one of the two sessions has.
void intersects_roles_in_the_order_of_the_first(void**) {
    for (const Intersection& each : kIntersections) {
        const ByteSpan bytes = exact_bytes(each.a.size());
        char* const text = reinterpret_cast<char*>(bytes.data());
        const std::size_t used = intersect_roles(each.a, each.b, {text, bytes.size()});
        assert_text({text, used}, each.both, "roles");
    }
}

// Would catch: a public id that changes its spelling between log and API.
void a_public_id_is_sixteen_characters_of_base64url(void**) {
    PublicId id;
    for (std::uint8_t i = 0; i < id.size(); ++i) {
        id[i] = static_cast<std::uint8_t>(0xf8 + i);
    }
    std::array<char, kPublicIdChars> text;
    format_public_id(id, text);
    assert_text({text.data(), text.size()}, "-Pn6-_z9_v8AAQID");
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(writes_the_documented_bytes),
        cmocka_unit_test(reads_back_what_it_wrote),
        cmocka_unit_test(refuses_every_truncation_and_every_byte_too_many),
        cmocka_unit_test(every_flipped_bit_is_refused_or_kept),
        cmocka_unit_test(a_newer_version_is_not_read),
        cmocka_unit_test(refuses_what_it_would_not_write),
        cmocka_unit_test(writes_nothing_over_its_limits),
        cmocka_unit_test(writes_all_or_nothing),
        cmocka_unit_test(walks_and_finds_attributes),
        cmocka_unit_test(appends_an_attribute_wholly_or_not_at_all),
        cmocka_unit_test(a_role_matches_as_a_whole_and_with_its_case),
        cmocka_unit_test(intersects_roles_in_the_order_of_the_first),
        cmocka_unit_test(a_public_id_is_sixteen_characters_of_base64url),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
