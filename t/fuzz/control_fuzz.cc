// Fuzzes the control header. Whatever is accepted keeps the promises of control.h, and written down
// again in a canonical form it is the same command; whatever is refused points into its input;
// merging an accepted command's attributes gives what a map would. Input: two bytes of max_data,
// then the field's value.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/web/control.h"

namespace {

using sg::ControlCommand;
using sg::ControlVerb;

constexpr std::size_t kHead = 2;

void require(bool condition, const char* what) {
    if (!condition) {
        std::fprintf(stderr, "broken promise: %s\n", what);
        std::abort();
    }
}

struct Parsed {
    std::vector<std::uint8_t> scratch;
    std::optional<ControlCommand> command;
    sg::ControlError error;
};

void parse(std::string_view value, std::size_t max_data, Parsed& parsed) {
    parsed.scratch.resize(sg::control_scratch_size(value));
    parsed.command = sg::parse_control(value, max_data, parsed.scratch, parsed.error);
}

// Always a Display String, the form that can say everything.
std::string display_string(std::string_view text) {
    std::string out = "%\"";
    for (const char c : text) {
        if (c >= 0x20 && c < 0x7f && c != '%' && c != '"') {
            out += c;
            continue;
        }
        char escaped[4];
        std::snprintf(escaped, sizeof escaped, "%%%02x", static_cast<unsigned char>(c));
        out += escaped;
    }
    return out + "\"";
}

std::string plain_string(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '\\' || c == '"') {
            out += '\\';
        }
        out += c;
    }
    return out + "\"";
}

std::string serialise(const ControlCommand& command) {
    std::string out(sg::verb_name(command.verb));
    if (command.user) {
        out += ";user=" + display_string(*command.user);
    }
    if (command.roles) {
        out += ";roles=" + plain_string(*command.roles);
    }
    if (command.level) {
        out += ";level=aal" + std::to_string(static_cast<int>(*command.level));
    }
    if (command.idle_s) {
        out += ";idle=" + std::to_string(*command.idle_s);
    }
    if (command.absolute_s) {
        out += ";absolute=" + std::to_string(*command.absolute_s);
    }
    std::size_t offset = 0;
    sg::Attribute attribute;
    while (sg::next_attribute(command.attributes, offset, attribute)) {
        out += "; data." + std::string(attribute.name) + "=" + display_string(attribute.value);
    }
    require(offset == command.attributes.size(), "attributes are well packed");
    return out;
}

// A rougher look than the parser's, by bytes: C0, DEL, C1 and the two separators.
bool has_control(std::string_view text) {
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        if (byte < 0x20 || byte == 0x7f) {
            return true;
        }
        if (byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0) {
            return true;
        }
    }
    return text.find("\xe2\x80\xa8") != text.npos || text.find("\xe2\x80\xa9") != text.npos;
}

void check_promises(const ControlCommand& command, std::size_t max_data) {
    require(command.user.has_value() == (command.verb == ControlVerb::create), "user");
    if (command.user) {
        const std::string_view user = *command.user;
        require(!user.empty() && user.size() <= 255 && !has_control(user), "user's form");
        require(user.front() != ' ' && user.back() != ' ', "user's ends");
    }
    require(command.attributes.size() <= max_data, "max_data");
    const bool changes = command.verb == ControlVerb::create || command.verb == ControlVerb::update;
    require(changes || (!command.roles && command.attributes.empty()), "nothing to change");
    for (const auto& seconds : {command.idle_s, command.absolute_s}) {
        require(!seconds || (*seconds > 0 && *seconds <= sg::kMaxLimitSeconds), "seconds");
    }
    // The record must be able to hold it.
    sg::Record record;
    record.user = command.user.value_or("");
    record.roles = command.roles.value_or("");
    record.attributes = command.attributes;
    std::vector<std::uint8_t> bytes(sg::encoded_size(record));
    require(sg::encode_record(record, bytes) == bytes.size(), "fits a record");
}

std::map<std::string, std::string> as_map(sg::ByteView attributes) {
    std::map<std::string, std::string> map;
    std::size_t offset = 0;
    sg::Attribute attribute;
    while (sg::next_attribute(attributes, offset, attribute)) {
        require(!sg::find_attribute(
                    attributes.first(offset - 3 - attribute.name.size() - attribute.value.size()),
                    attribute.name),
                "names are unique");
        map[std::string(attribute.name)] = attribute.value;
    }
    return map;
}

void check_merge(sg::ByteView base, sg::ByteView changes, std::size_t max_data) {
    auto wanted = as_map(base);
    for (const auto& [name, value] : as_map(changes)) {
        wanted[name] = value;
    }
    std::erase_if(wanted, [](const auto& each) { return each.second.empty(); });
    std::size_t size = 0;
    for (const auto& [name, value] : wanted) {
        size += 3 + name.size() + value.size();
    }
    std::vector<std::uint8_t> out(base.size() + changes.size());
    const auto merged = sg::merge_attributes(base, changes, max_data, out);
    if (!merged) {
        // Only when it does not fit, at the end or at some point on the way.
        require(size > max_data || base.size() + changes.size() > max_data,
                "refused for no reason");
        return;
    }
    require(*merged == size && as_map(sg::ByteView(out).first(*merged)) == wanted, "merge");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < kHead) {
        return 0;
    }
    const std::size_t max_data = sg::load_le<std::uint16_t>(data);
    // A copy of exactly this size lets the sanitizer see a read behind it.
    const std::vector<char> copy(data + kHead, data + size);
    const std::string_view value(copy.data(), copy.size());
    Parsed first;
    parse(value, max_data, first);
    if (!first.command) {
        const sg::ControlError& error = first.error;
        require(error.what[0] != '\0' && error.offset <= value.size(), "error says what and where");
        require(error.token.empty() ||
                    (error.token.data() >= value.data() &&
                     error.token.data() + error.token.size() <= value.data() + value.size()),
                "error quotes the input");
        return 0;
    }
    check_promises(*first.command, max_data);
    const std::string canonical = serialise(*first.command);
    Parsed second;
    parse(canonical, max_data, second);
    require(second.command.has_value(), "canonical form is accepted");
    require(serialise(*second.command) == canonical, "same command again");
    require(second.command->user == first.command->user &&
                second.command->roles == first.command->roles,
            "same texts again");
    const sg::ByteView attributes = first.command->attributes;
    // Half of the attributes as base, all as changes, and the other way round.
    std::size_t half = 0;
    sg::Attribute attribute;
    while (half < attributes.size() / 2 && sg::next_attribute(attributes, half, attribute)) {
    }
    check_merge(attributes.first(half), attributes, max_data);
    check_merge(attributes, attributes.subspan(half), max_data);
    check_merge(attributes.first(half), attributes.subspan(half), max_data / 2);
    return 0;
}
