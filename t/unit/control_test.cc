// The control header: which commands an application may give, and how a wrong one is reported.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/web/control.h"

namespace {

using sg::ControlCommand;
using sg::ControlError;
using sg::ControlVerb;
using sg::Level;
using namespace std::string_view_literals;

constexpr std::size_t kMaxData = 4096;

// Keeps the scratch alive as long as the command that points into it. Exactly as large as promised,
// so that the sanitizer sees a write behind it.
struct Parsed {
    std::vector<std::uint8_t> scratch;
    std::optional<ControlCommand> command;
    ControlError error;
};

Parsed parse(std::string_view value, std::size_t max_data = kMaxData) {
    Parsed parsed;
    parsed.scratch.resize(sg::control_scratch_size(value));
    parsed.command = sg::parse_control(value, max_data, parsed.scratch, parsed.error);
    return parsed;
}

std::string attribute(const Parsed& parsed, std::string_view name) {
    return std::string(sg::find_attribute(parsed.command->attributes, name).value_or("(none)"));
}

// Would catch: a parameter that ends up in the wrong field, or is dropped.
void reads_a_full_create(void**) {
    const Parsed parsed = parse(
        R"(create; user="alice"; roles="editor admin"; level=aal2; idle=600; absolute=3600; data.theme="dark"; data.x_1=%"f%c3%bcr")");
    assert_true(parsed.command.has_value());
    assert_true(parsed.command->verb == ControlVerb::create);
    assert_true(parsed.command->user == "alice");
    assert_true(parsed.command->roles == "editor admin");
    assert_true(parsed.command->level == Level::aal2);
    assert_true(parsed.command->idle_s == 600u);
    assert_true(parsed.command->absolute_s == 3600u);
    assert_string_equal(attribute(parsed, "theme").c_str(), "dark");
    assert_string_equal(attribute(parsed, "x_1").c_str(), "f\u00fcr");
}

// Would catch: a default invented by the parser; "not said" must be told from "said to be nothing".
void leaves_unsaid_what_is_unsaid(void**) {
    const Parsed update = parse("update");
    assert_true(update.command.has_value());
    assert_false(update.command->user || update.command->roles || update.command->level);
    assert_false(update.command->idle_s || update.command->absolute_s);
    assert_true(update.command->attributes.empty());
    const Parsed no_roles = parse(R"(update;roles="")");
    assert_true(no_roles.command->roles.has_value() && no_roles.command->roles->empty());
}

// Would catch: two verbs swapped.
void reads_every_verb(void**) {
    const std::pair<std::string_view, ControlVerb> verbs[] = {
        {"create;user=\"u\"", ControlVerb::create},
        {"update;level=aal3", ControlVerb::update},
        {"renew", ControlVerb::renew},
        {"reauth;level=aal1", ControlVerb::reauth},
        {"reauth", ControlVerb::reauth},
        {"destroy", ControlVerb::destroy},
    };
    for (const auto& [text, verb] : verbs) {
        const Parsed parsed = parse(text);
        assert_true(parsed.command && parsed.command->verb == verb);
        assert_true(text.starts_with(sg::verb_name(verb)));
    }
}

// Would catch: an off-by-one at a limit, or a character of a name refused that people have.
void accepts_users_up_to_the_limits(void**) {
    const std::string longest(255, 'u');
    assert_true(parse("create;user=\"" + longest + "\"").command->user == longest);
    assert_true(parse(R"(create;user="a\"b\\c")").command->user == R"(a"b\c)");
    assert_true(parse(R"(create;user="Ann  Lee")").command->user == "Ann  Lee");
    assert_true(parse(R"(create;user=%"%f0%9f%98%80 %c2%a0x")").command->user ==
                "\U0001F600 \u00a0x");
}

// Would catch: roles that compare differently because of the spaces between them.
void normalises_the_spaces_between_roles(void**) {
    assert_true(parse(R"(update;roles="  a   b c ")").command->roles == "a b c");
    assert_true(parse(R"(update;roles="   ")").command->roles == "");
    assert_true(parse(R"(update;roles="a:b!/\\")").command->roles == R"(a:b!/\)");
    std::string most;
    for (int i = 0; i < 32; ++i) {
        most += std::string(62, 'r') + static_cast<char>('A' + i) + "x ";
    }
    // The letters run past 'Z' into '\', which has to be escaped.
    const std::size_t backslash = most.find('\\');
    most.insert(backslash, 1, '\\');
    assert_true(parse("update;roles=\"" + most + "\"").command.has_value());
    assert_false(parse("update;roles=\"" + most + "one\"").command.has_value());
}

// Would catch: an attribute without content kept in a new session, or not passed on by an update.
void an_empty_attribute_means_none(void**) {
    const Parsed create = parse(R"(create;user="u";data.a="";data.b="x")");
    assert_string_equal(attribute(create, "a").c_str(), "(none)");
    assert_string_equal(attribute(create, "b").c_str(), "x");
    assert_string_equal(attribute(parse(R"(update;data.a="")"), "a").c_str(), "");
}

// Would catch: the limit checked against something else than the packed bytes.
void bounds_the_attributes(void**) {
    const std::string_view value = R"(update;data.ab="cd";data.e="f")";  // 7 + 5 packed
    assert_true(parse(value, 12).command.has_value());
    const Parsed over = parse(value, 11);
    assert_false(over.command.has_value());
    assert_string_equal(over.error.what, "the attributes are larger than max_data");
    assert_false(parse(R"(update;data.a="b")", 0).command.has_value());
    assert_true(parse("update", 0).command.has_value());
    const std::string name(64, 'n');
    assert_true(parse("update;data." + name + "=\"v\"").command.has_value());
    assert_false(parse("update;data." + name + "n=\"v\"").command.has_value());
    const std::string huge = "update;data.a=\"" + std::string(70000, 'v') + "\"";
    assert_false(parse(huge, 1 << 20).command.has_value());
}

struct Refusal {
    std::string_view value;
    const char* what;
    std::size_t offset;
    std::string_view token;
};

constexpr const char* kVerb = "unknown verb";
constexpr const char* kUnknown = "unknown parameter";
constexpr const char* kNotHere = "unknown parameter for this verb";
constexpr const char* kNoUser = "create needs the parameter user";
constexpr const char* kUserType = "user must be a string";
constexpr const char* kUserControl = "user contains a control character";
constexpr const char* kUserSpace = "user starts or ends with a space";
constexpr const char* kRole = "a role contains a character that is not allowed";
constexpr const char* kRolesType = "roles must be a string";
constexpr const char* kLevel = "level must be aal1, aal2 or aal3";
constexpr const char* kSeconds = "a number of seconds is expected";
constexpr const char* kRange = "seconds must be between 1 and 34560000 (400 days)";
constexpr const char* kDataType = "an attribute must be a string";
constexpr const char* kDataControl = "an attribute contains a control character";

const Refusal kRefusals[] = {
    // syntax: one row of each, the rest is structured_field_test's
    {"", "empty", 0, ""},
    {";user=\"u\"", "a token is expected", 0, ";"},
    {"create user=\"u\"", "unexpected text", 7, "u"},
    {"renew, destroy", "a list is not allowed", 5, ","},
    {"create;user=\"u", "the string does not end", 12, "\""},
    {"create;user=\"u\r\nSet-Cookie: x=y\"", "not printable ASCII in a string", 14, "\r"},
    {"create;user=\"u\0\""sv, "not printable ASCII in a string", 14, "\0"sv},
    {"create;user=\"u\";user=\"v\"", "repeated parameter", 16, "user"},
    {"update;data.a=\"1\";data.a=\"2\"", "repeated parameter", 18, "data.a"},
    {"create;user=%\"%ff\"", "the display string is not UTF-8", 12, "%\""},
    // verbs
    {"fail; user=\"alice\"", kVerb, 0, "fail"},
    {"Create;user=\"u\"", kVerb, 0, "Create"},
    {"  logout", kVerb, 2, "logout"},
    {"createx", kVerb, 0, "createx"},
    {"creat", kVerb, 0, "creat"},
    {"user", kVerb, 0, "user"},
    {"*", kVerb, 0, "*"},
    // parameters
    {"create;user=\"u\";remember", kUnknown, 16, "remember"},
    {"create;user=\"u\";remember=?1", kUnknown, 16, "remember"},
    {"destroy;scope=others", kUnknown, 8, "scope"},
    {"destroy; user=\"bob\"", kNotHere, 9, "user"},
    {"create;user=\"u\";users=\"v\"", kUnknown, 16, "users"},
    {"create;user=\"u\";data=\"v\"", kUnknown, 16, "data"},
    {"create;user=\"u\";data.=\"v\"", kUnknown, 16, "data."},
    {"create;user=\"u\";data.a-b=\"v\"", kUnknown, 16, "data.a-b"},
    {"create;user=\"u\";data.a.b=\"v\"", kUnknown, 16, "data.a.b"},
    {"create;user=\"u\";data.*=\"v\"", kUnknown, 16, "data.*"},
    {"create;user=\"u\";data.A=\"v\"", "a parameter name has no upper-case letters", 21, "A"},
    {"create;user=\"u\";*=\"v\"", kUnknown, 16, "*"},
    {"update;user=\"u\"", kNotHere, 7, "user"},
    {"update;idle=1", kNotHere, 7, "idle"},
    {"update;absolute=1", kNotHere, 7, "absolute"},
    {"reauth;user=\"u\"", kNotHere, 7, "user"},
    {"reauth;roles=\"r\"", kNotHere, 7, "roles"},
    {"reauth;data.a=\"b\"", kNotHere, 7, "data.a"},
    {"renew;level=aal1", kNotHere, 6, "level"},
    {"renew;x", kUnknown, 6, "x"},
    {"destroy;level=aal1", kNotHere, 8, "level"},
    // values are quoted by name, since they may be private: user
    {"create", kNoUser, 0, "create"},
    {"create;roles=\"admin\"", kNoUser, 0, "create"},
    {"create;user=\"\"", "user is empty", 12, "user"},
    {"create;user=%\"\"", "user is empty", 12, "user"},
    {"create;user", kUserType, 7, "user"},
    {"create;user=alice", kUserType, 12, "user"},
    {"create;user=42", kUserType, 12, "user"},
    {"create;user=?1", kUserType, 12, "user"},
    {"create;user=\" admin\"", kUserSpace, 12, "user"},
    {"create;user=\"admin \"", kUserSpace, 12, "user"},
    {"create;user=\" \"", kUserSpace, 12, "user"},
    {"create;user=%\"admin%20\"", kUserSpace, 12, "user"},
    {"create;user=%\"a%00b\"", kUserControl, 12, "user"},
    {"create;user=%\"a%0d%0ab\"", kUserControl, 12, "user"},
    {"create;user=%\"%09\"", kUserControl, 12, "user"},
    {"create;user=%\"a%1b[2J\"", kUserControl, 12, "user"},
    {"create;user=%\"%7f\"", kUserControl, 12, "user"},
    {"create;user=%\"%c2%80\"", kUserControl, 12, "user"},
    {"create;user=%\"%c2%85\"", kUserControl, 12, "user"},
    {"create;user=%\"%c2%9f\"", kUserControl, 12, "user"},
    {"create;user=%\"%e2%80%a8\"", kUserControl, 12, "user"},
    {"create;user=%\"%e2%80%a9\"", kUserControl, 12, "user"},
    // roles
    {"update;roles", kRolesType, 7, "roles"},
    {"update;roles=admin", kRolesType, 13, "roles"},
    {"update;roles=%\"admin\"", kRolesType, 13, "roles"},
    {"update;roles=(\"a\" \"b\")", "an inner list is not allowed", 13, "("},
    {"update;roles=\"a,b\"", kRole, 13, "roles"},
    {"update;roles=\"a=b\"", kRole, 13, "roles"},
    {"update;roles=\"a\\\"b\"", kRole, 13, "roles"},
    {"update;roles=\"a b a\"", "repeated role", 13, "roles"},
    {"update;roles=\"a  a\"", "repeated role", 13, "roles"},
    // level
    {"update;level", kLevel, 7, "level"},
    {"update;level=\"aal2\"", kLevel, 13, "level"},
    {"update;level=aal0", kLevel, 13, "level"},
    {"update;level=aal4", kLevel, 13, "level"},
    {"update;level=AAL2", kLevel, 13, "level"},
    {"update;level=aal", kLevel, 13, "level"},
    {"update;level=2", kLevel, 13, "level"},
    {"update;level=?1", kLevel, 13, "level"},
    // idle, absolute
    {"create;user=\"u\";idle", kSeconds, 16, "idle"},
    {"create;user=\"u\";idle=\"60\"", kSeconds, 21, "idle"},
    {"create;user=\"u\";idle=15m", "unexpected text", 23, "m"},
    {"create;user=\"u\";idle=0", kRange, 21, "idle"},
    {"create;user=\"u\";idle=-1", kRange, 21, "idle"},
    {"create;user=\"u\";idle=34560001", kRange, 21, "idle"},
    {"create;user=\"u\";idle=4294967297", kRange, 21, "idle"},
    {"create;user=\"u\";absolute=999999999999999", kRange, 25, "absolute"},
    {"create;user=\"u\";absolute=60.5", "a decimal is not allowed", 25, ""},
    // attributes
    {"update;data.a", kDataType, 7, "data.a"},
    {"update;data.a=x", kDataType, 14, "data.a"},
    {"update;data.a=1", kDataType, 14, "data.a"},
    {"update;data.a=%\"%0a\"", kDataControl, 14, "data.a"},
    {"update;data.a=%\"%c2%90\"", kDataControl, 14, "data.a"},
};

// Would catch: each row is a command executed, or one the operator cannot find in the response.
void refuses_malformed_commands_and_says_where(void**) {
    for (const Refusal& row : kRefusals) {
        const Parsed parsed = parse(row.value);
        const ControlError& error = parsed.error;
        if (parsed.command || std::string_view(error.what) != row.what ||
            error.offset != row.offset || error.token != row.token) {
            fail_msg("%.*s: got \"%s\" at %zu about \"%.*s\", wanted \"%s\" at %zu",
                     static_cast<int>(row.value.size()), row.value.data(),
                     parsed.command ? "a command" : error.what, error.offset,
                     static_cast<int>(error.token.size()), error.token.data(), row.what,
                     row.offset);
        }
    }
}

// Would catch: the limits of the record overrun by what an application sends.
void refuses_what_is_too_long(void**) {
    const std::string user(256, 'u');
    assert_string_equal(parse("create;user=\"" + user + "\"").error.what,
                        "user is longer than 255 bytes");
    std::string encoded;
    for (int i = 0; i < 128; ++i) {
        encoded += "%c3%bc";
    }
    assert_false(parse("create;user=%\"" + encoded + "\"").command.has_value());
    const std::string role(65, 'r');
    assert_string_equal(parse("update;roles=\"" + role + "\"").error.what,
                        "a role is longer than 64 characters");
    std::string roles;
    for (int i = 0; i < 33; ++i) {
        roles += " r" + std::to_string(i);
    }
    assert_string_equal(parse("update;roles=\"" + roles + "\"").error.what, "more than 32 roles");
}

// Would catch: a caller's mistake answered by a write behind its buffer.
void refuses_too_small_a_scratch(void**) {
    std::array<std::uint8_t, 20> scratch;
    ControlError error;
    assert_false(sg::parse_control("create;user=\"alice\"", kMaxData, scratch, error).has_value());
    assert_string_equal(error.what, "too little work space");
}

using Pairs = std::initializer_list<std::pair<std::string_view, std::string_view>>;

std::vector<std::uint8_t> pack(Pairs pairs) {
    std::vector<std::uint8_t> out(1024);
    std::size_t used = 0;
    for (const auto& [name, value] : pairs) {
        assert_true(sg::append_attribute(out, used, name, value));
    }
    out.resize(used);
    return out;
}

void expect_merged(Pairs base, Pairs changes, Pairs wanted, std::size_t max_data = kMaxData) {
    const auto expected = pack(wanted);
    std::vector<std::uint8_t> out(expected.size());
    const auto size = sg::merge_attributes(pack(base), pack(changes), max_data, out);
    assert_true(size.has_value());
    out.resize(*size);
    assert_true(out == expected);
}

// Would catch: an update that loses what it did not mention, or keeps what it removed.
void an_update_changes_adds_and_removes_attributes(void**) {
    expect_merged({}, {}, {});
    expect_merged({{"a", "1"}, {"b", "2"}}, {}, {{"a", "1"}, {"b", "2"}});
    expect_merged({}, {{"a", "1"}, {"b", ""}}, {{"a", "1"}});
    expect_merged({{"a", "1"}, {"b", "2"}, {"c", "3"}}, {{"d", "4"}, {"b", ""}, {"a", "one"}},
                  {{"a", "one"}, {"c", "3"}, {"d", "4"}});
    expect_merged({{"a", "1"}}, {{"a", ""}}, {});
    expect_merged({{"a", "1"}}, {{"aa", "2"}}, {{"a", "1"}, {"aa", "2"}});
}

// Would catch: attributes that grow without end by many small updates.
void merged_attributes_stay_within_max_data(void**) {
    const auto base = pack({{"a", "1"}, {"b", "2"}});  // 5 + 5
    const auto change = pack({{"c", "3"}});
    std::array<std::uint8_t, 64> out;
    assert_true(sg::merge_attributes(base, change, 15, out) == 15u);
    assert_false(sg::merge_attributes(base, change, 14, out).has_value());
    assert_false(sg::merge_attributes(base, pack({{"b", "22"}}), 10, out).has_value());
    assert_false(sg::merge_attributes(base, change, 64, sg::ByteSpan(out).first(14)).has_value());
}

// Would catch: sessions that cannot be renewed any more after max_data was lowered.
void attributes_over_a_lowered_limit_may_stay_but_not_grow(void**) {
    expect_merged({{"a", "1"}, {"b", "2"}}, {}, {{"a", "1"}, {"b", "2"}}, 4);
    expect_merged({{"a", "1"}, {"b", "2"}}, {{"a", "x"}}, {{"a", "x"}, {"b", "2"}}, 4);
    const auto base = pack({{"a", "1"}});
    std::array<std::uint8_t, 64> out;
    assert_false(sg::merge_attributes(base, pack({{"b", "2"}}), 4, out).has_value());
}

// Would catch: half of a damaged list written back as if it were whole.
void damaged_attributes_are_not_merged(void**) {
    const auto good = pack({{"a", "1"}});
    std::array<std::uint8_t, 64> out;
    for (std::size_t cut = 1; cut < good.size(); ++cut) {
        const auto damaged = sg::ByteView(good).first(cut);
        assert_false(sg::merge_attributes(damaged, {}, kMaxData, out).has_value());
        assert_false(sg::merge_attributes({}, damaged, kMaxData, out).has_value());
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_full_create),
        cmocka_unit_test(leaves_unsaid_what_is_unsaid),
        cmocka_unit_test(reads_every_verb),
        cmocka_unit_test(accepts_users_up_to_the_limits),
        cmocka_unit_test(normalises_the_spaces_between_roles),
        cmocka_unit_test(an_empty_attribute_means_none),
        cmocka_unit_test(bounds_the_attributes),
        cmocka_unit_test(refuses_malformed_commands_and_says_where),
        cmocka_unit_test(refuses_what_is_too_long),
        cmocka_unit_test(refuses_too_small_a_scratch),
        cmocka_unit_test(an_update_changes_adds_and_removes_attributes),
        cmocka_unit_test(merged_attributes_stay_within_max_data),
        cmocka_unit_test(attributes_over_a_lowered_limit_may_stay_but_not_grow),
        cmocka_unit_test(damaged_attributes_are_not_merged),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
