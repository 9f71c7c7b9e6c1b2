// JSON for session_info, by nlohmann/json. The objects of this folder are the only ones compiled
// with exceptions; none leaves these functions.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace sg {

struct SessionInfo {
    std::string_view user;
    std::string_view roles;  // separated by one space
    unsigned level = 1;      // 1 to 3
    std::int64_t idle_left_s = 0;
    std::int64_t absolute_left_s = 0;
    std::int64_t auth_age_s = 0;
};

// Characters that write_session_json needs at most.
std::size_t session_json_room(const SessionInfo& info) noexcept;

// {"user":...,"roles":[...],"level":"aal1","idle_left":...,"absolute_left":...,"auth_age":...}
// Bytes written; 0 when `out` is too small or memory is out. A user name that is not UTF-8 is
// written with replacement characters.
std::size_t write_session_json(const SessionInfo& info, std::span<char> out) noexcept;

}  // namespace sg
