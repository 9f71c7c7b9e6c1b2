#include "json/session_json.h"

#include <exception>
#include <nlohmann/json.hpp>
#include <string>

#include "core/record.h"

namespace sg {
namespace {

std::string dump(const SessionInfo& info) {
    nlohmann::ordered_json roles = nlohmann::ordered_json::array();
    std::size_t offset = 0;
    std::string_view role;
    while (next_role(info.roles, offset, role)) {
        roles.push_back(std::string(role));
    }
    nlohmann::ordered_json json;
    json["user"] = std::string(info.user);
    json["roles"] = std::move(roles);
    json["level"] = "aal" + std::to_string(info.level);
    json["idle_left"] = info.idle_left_s;
    json["absolute_left"] = info.absolute_left_s;
    json["auth_age"] = info.auth_age_s;
    return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

std::size_t session_json_room(const SessionInfo& info) noexcept {
    // The longest escape is \u00XX, six characters for one byte; quotes and commas for each role.
    return 256 + 6 * (info.user.size() + info.roles.size()) + 4 * info.roles.size();
}

std::size_t write_session_json(const SessionInfo& info, std::span<char> out) noexcept {
    try {
        const std::string text = dump(info);
        if (text.size() > out.size()) {
            return 0;
        }
        return text.copy(out.data(), text.size());
    } catch (const std::exception&) {
        return 0;
    }
}

}  // namespace sg
