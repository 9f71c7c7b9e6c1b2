// ngx_str_t and std::string_view are the same thing: pointer and length, not terminated. Views
// borrow; they live as long as the nginx pool or configuration the string came from.
#pragma once

#include "nginx/ngx.h"

#include <span>
#include <string_view>

namespace sg::ngx {

inline std::string_view view(const ngx_str_t& text) noexcept {
    return {reinterpret_cast<const char*>(text.data), text.len};
}

inline ngx_str_t str(std::string_view text) noexcept {
    return {text.size(), reinterpret_cast<u_char*>(const_cast<char*>(text.data()))};
}

// Characters in the pool; empty span when memory is out. Uninitialised.
inline std::span<char> characters(ngx_pool_t* pool, std::size_t size) noexcept {
    auto* const data = static_cast<char*>(ngx_pnalloc(pool, size));
    return data != nullptr ? std::span<char>(data, size) : std::span<char>();
}

// A copy in the pool, or an empty view with a null pointer when memory is out.
inline std::string_view copy(ngx_pool_t* pool, std::string_view text) noexcept {
    const std::span<char> to = characters(pool, text.size() + 1);
    if (to.empty()) {
        return {};
    }
    text.copy(to.data(), text.size());
    to[text.size()] = '\0';
    return {to.data(), text.size()};
}

inline bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
    return a.size() == b.size() &&
           ngx_strncasecmp(reinterpret_cast<u_char*>(const_cast<char*>(a.data())),
                           reinterpret_cast<u_char*>(const_cast<char*>(b.data())), a.size()) == 0;
}

}  // namespace sg::ngx
