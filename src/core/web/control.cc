#include "core/web/control.h"

#include <algorithm>
#include <array>

#include "core/web/structured_field.h"

namespace sg {
namespace {

constexpr std::string_view kDataPrefix = "data.";

enum class Parameter : std::uint8_t { user, roles, level, idle, absolute, data };

constexpr std::uint32_t parameter_bit(Parameter parameter) noexcept {
    return 1u << static_cast<unsigned>(parameter);
}

struct VerbRule {
    std::string_view name;
    std::uint32_t parameters;  // that it takes
};

constexpr std::uint32_t kChanges = parameter_bit(Parameter::roles) |
                                   parameter_bit(Parameter::level) | parameter_bit(Parameter::data);

// In the order of ControlVerb.
constexpr std::array<VerbRule, 5> kVerbs = {{
    {"create", kChanges | parameter_bit(Parameter::user) | parameter_bit(Parameter::idle) |
                   parameter_bit(Parameter::absolute)},
    {"update", kChanges},
    {"renew", 0},
    {"reauth", parameter_bit(Parameter::level)},
    {"destroy", 0},
}};

// In the order of Parameter, up to data; in the order of Level.
constexpr std::array<std::string_view, 5> kParameters = {"user", "roles", "level", "idle",
                                                         "absolute"};
constexpr std::array<std::string_view, 3> kLevels = {"aal1", "aal2", "aal3"};

const VerbRule& rule_of(ControlVerb verb) noexcept {
    return kVerbs[static_cast<std::size_t>(verb)];
}

std::optional<ControlVerb> find_verb(std::string_view name) noexcept {
    for (std::size_t i = 0; i < kVerbs.size(); ++i) {
        if (kVerbs[i].name == name) {
            return static_cast<ControlVerb>(i);
        }
    }
    return std::nullopt;
}

bool is_attribute_name(std::string_view name) noexcept {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    };
    return !name.empty() && name.size() <= RecordLimits::kAttributeNameBytes &&
           std::all_of(name.begin(), name.end(), allowed);
}

std::optional<Parameter> find_parameter(std::string_view key) noexcept {
    const auto found = std::find(kParameters.begin(), kParameters.end(), key);
    if (found != kParameters.end()) {
        return static_cast<Parameter>(found - kParameters.begin());
    }
    if (key.starts_with(kDataPrefix) && is_attribute_name(key.substr(kDataPrefix.size()))) {
        return Parameter::data;
    }
    return std::nullopt;
}

bool is_text(const SfValue& value) noexcept {
    return value.type == SfType::string || value.type == SfType::display_string;
}

bool is_role_character(char c) noexcept {
    return c > 0x20 && c < 0x7f && c != ',' && c != '=' && c != '"';
}

const char* check_user(const SfValue& value) noexcept {
    if (!is_text(value)) {
        return "user must be a string";
    }
    if (value.text.empty()) {
        return "user is empty";
    }
    if (value.text.size() > RecordLimits::kUserBytes) {
        return "user is longer than 255 bytes";
    }
    if (!is_plain_text(value.text)) {
        return "user contains a control character";
    }
    if (value.text.front() == ' ' || value.text.back() == ' ') {
        return "user starts or ends with a space";
    }
    return nullptr;
}

const char* check_role(std::string_view role, std::string_view roles_before) noexcept {
    if (role.size() > RecordLimits::kRoleBytes) {
        return "a role is longer than 64 characters";
    }
    if (!std::all_of(role.begin(), role.end(), is_role_character)) {
        return "a role contains a character that is not allowed";
    }
    return has_role(roles_before, role) ? "repeated role" : nullptr;
}

// Collects the parameters of one command. Every function returns what is wrong, or nullptr.
class CommandBuilder {
  public:
    CommandBuilder(ControlVerb verb, ByteSpan attributes) noexcept : attributes_(attributes) {
        command_.verb = verb;
    }

    const char* add(Parameter parameter, std::string_view key, const SfValue& value) noexcept {
        switch (parameter) {
            case Parameter::user:
                command_.user = value.text;
                return check_user(value);
            case Parameter::roles:
                return add_roles(value);
            case Parameter::level:
                return add_level(value);
            case Parameter::idle:
                return add_seconds(value, command_.idle_s);
            case Parameter::absolute:
                return add_seconds(value, command_.absolute_s);
            case Parameter::data:
                return add_attribute(key.substr(kDataPrefix.size()), value);
        }
        return "unknown parameter";
    }

    const ControlCommand& finish() noexcept {
        command_.attributes = attributes_.first(used_);
        return command_;
    }

  private:
    // Squeezes the spaces where the decoded text lies, which is our own scratch.
    const char* add_roles(const SfValue& value) noexcept {
        if (value.type != SfType::string) {
            return "roles must be a string";
        }
        char* const begin = const_cast<char*>(value.text.data());
        std::size_t size = 0;
        std::size_t count = 0;
        std::size_t offset = 0;
        std::string_view role;
        while (next_role(value.text, offset, role)) {
            if (role.empty()) {
                continue;
            }
            if (const char* const wrong = check_role(role, {begin, size})) {
                return wrong;
            }
            if (++count > RecordLimits::kRoles) {
                return "more than 32 roles";
            }
            if (size > 0) {
                begin[size++] = ' ';
            }
            std::copy(role.begin(), role.end(), begin + size);
            size += role.size();
        }
        command_.roles = std::string_view(begin, size);
        return nullptr;
    }

    const char* add_level(const SfValue& value) noexcept {
        const auto found = std::find(kLevels.begin(), kLevels.end(), value.text);
        if (value.type == SfType::token && found != kLevels.end()) {
            command_.level = static_cast<Level>(1 + (found - kLevels.begin()));
            return nullptr;
        }
        return "level must be aal1, aal2 or aal3";
    }

    const char* add_seconds(const SfValue& value, std::optional<std::uint32_t>& to) noexcept {
        if (value.type != SfType::integer) {
            return "a number of seconds is expected";
        }
        if (value.integer < 1 || value.integer > std::int64_t{kMaxLimitSeconds}) {
            return "seconds must be between 1 and 34560000 (400 days)";
        }
        to = static_cast<std::uint32_t>(value.integer);
        return nullptr;
    }

    const char* add_attribute(std::string_view name, const SfValue& value) noexcept {
        if (!is_text(value)) {
            return "an attribute must be a string";
        }
        if (!is_plain_text(value.text)) {
            return "an attribute contains a control character";
        }
        if (value.text.empty() && command_.verb == ControlVerb::create) {
            return nullptr;
        }
        return append_attribute(attributes_, used_, name, value.text)
                   ? nullptr
                   : "the attributes are larger than max_data";
    }

    ControlCommand command_;
    ByteSpan attributes_;
    std::size_t used_ = 0;
};

std::nullopt_t fail(ControlError& error, const char* what, std::size_t offset,
                    std::string_view token) noexcept {
    error = {what, offset, token};
    return std::nullopt;
}

std::nullopt_t fail(ControlError& error, const SfError& syntax) noexcept {
    return fail(error, syntax.what, syntax.offset, syntax.token);
}

bool add_parameter(const SfItemReader& reader, ControlVerb verb, const SfParameter& parameter,
                   CommandBuilder& builder, ControlError& error) noexcept {
    const std::size_t key_at = reader.offset_of(parameter.key);
    const std::optional<Parameter> known = find_parameter(parameter.key);
    if (!known) {
        fail(error, "unknown parameter", key_at, parameter.key);
        return false;
    }
    if ((rule_of(verb).parameters & parameter_bit(*known)) == 0) {
        fail(error, "unknown parameter for this verb", key_at, parameter.key);
        return false;
    }
    const SfValue& value = parameter.value;
    if (const char* const wrong = builder.add(*known, parameter.key, value)) {
        // The value may be private (a user's name, an attribute): named by its key.
        fail(error, wrong, reader.offset_of(value.source), parameter.key);
        return false;
    }
    return true;
}

bool append_all(ByteView from, ByteView changes, ByteSpan out, std::size_t& used) noexcept {
    std::size_t offset = 0;
    Attribute attribute;
    while (next_attribute(from, offset, attribute)) {
        const std::string_view value =
            find_attribute(changes, attribute.name).value_or(attribute.value);
        if (!value.empty() && !append_attribute(out, used, attribute.name, value)) {
            return false;
        }
    }
    return offset == from.size();
}

}  // namespace

std::string_view verb_name(ControlVerb verb) noexcept {
    return rule_of(verb).name;
}

// Decoded strings are never longer than they were written, and neither is a packed attribute: its
// three bytes of lengths replace at least `;data.=""`.
std::size_t control_scratch_size(std::string_view value) noexcept {
    return 2 * value.size();
}

std::optional<ControlCommand> parse_control(std::string_view value, std::size_t max_data,
                                            ByteSpan scratch, ControlError& error) noexcept {
    if (scratch.size() < control_scratch_size(value)) {
        return fail(error, "too little work space", 0, {});
    }
    SfItemReader reader(value, {reinterpret_cast<char*>(scratch.data()), value.size()});
    std::string_view verb_text;
    if (!reader.read_token(verb_text)) {
        return fail(error, reader.error());
    }
    const std::optional<ControlVerb> verb = find_verb(verb_text);
    if (!verb) {
        return fail(error, "unknown verb", reader.offset_of(verb_text), verb_text);
    }
    const ByteSpan packed = scratch.subspan(value.size(), std::min(value.size(), max_data));
    CommandBuilder builder(*verb, packed);
    SfParameter each;
    SfItemReader::Step step;
    while ((step = reader.next(each)) == SfItemReader::Step::parameter) {
        if (!add_parameter(reader, *verb, each, builder, error)) {
            return std::nullopt;
        }
    }
    if (step == SfItemReader::Step::malformed) {
        return fail(error, reader.error());
    }
    const ControlCommand& command = builder.finish();
    if (*verb == ControlVerb::create && !command.user) {
        return fail(error, "create needs the parameter user", reader.offset_of(verb_text),
                    verb_text);
    }
    return command;
}

std::optional<std::size_t> merge_attributes(ByteView base, ByteView changes, std::size_t max_data,
                                            ByteSpan out) noexcept {
    const ByteSpan room = out.first(std::min(out.size(), std::max(max_data, base.size())));
    std::size_t used = 0;
    if (!append_all(base, changes, room, used)) {
        return std::nullopt;
    }
    std::size_t offset = 0;
    Attribute change;
    while (next_attribute(changes, offset, change)) {
        if (!change.value.empty() && !find_attribute(base, change.name) &&
            !append_attribute(room, used, change.name, change.value)) {
            return std::nullopt;
        }
    }
    if (offset != changes.size()) {
        return std::nullopt;
    }
    return used;
}

}  // namespace sg
