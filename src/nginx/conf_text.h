// Small helpers for parsing directives: every refusal quotes the word and names file and line
// (ngx_conf_log_error adds both).
#pragma once

#include "nginx/ngx.h"

#include <array>
#include <span>
#include <string_view>

#include "nginx/str.h"

namespace sg::ngx {

inline char* const kConfError = static_cast<char*>(NGX_CONF_ERROR);

inline std::span<ngx_str_t> words(ngx_conf_t* cf) noexcept {
    return {static_cast<ngx_str_t*>(cf->args->elts), cf->args->nelts};
}

inline char* invalid_parameter(ngx_conf_t* cf, const ngx_str_t& word) noexcept {
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"", &word);
    return kConfError;
}

inline char* is_duplicate() noexcept {
    return const_cast<char*>("is duplicate");
}

// The value behind "name=", or nothing when the word is something else.
inline bool value_of(const ngx_str_t& word, std::string_view name_and_equals,
                     std::string_view& value) noexcept {
    const std::string_view text = view(word);
    if (!text.starts_with(name_and_equals)) {
        return false;
    }
    value = text.substr(name_and_equals.size());
    return true;
}

// "/var/x.conf" and line of the directive being parsed, for messages given after the parse.
inline void remember_place(ngx_conf_t* cf, ngx_str_t& file, ngx_uint_t& line) noexcept {
    file = cf->conf_file->file.name;
    line = cf->conf_file->line;
}

}  // namespace sg::ngx
