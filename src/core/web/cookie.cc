#include "core/web/cookie.h"

namespace sg {
namespace {

bool is_blank(char c) noexcept {
    return c == ' ' || c == '\t';
}

std::string_view trim(std::string_view text) noexcept {
    while (!text.empty() && is_blank(text.front())) {
        text.remove_prefix(1);
    }
    while (!text.empty() && is_blank(text.back())) {
        text.remove_suffix(1);
    }
    return text;
}

}  // namespace

bool next_cookie(std::string_view header, std::size_t& offset, CookiePair& out) noexcept {
    while (offset < header.size() && is_blank(header[offset])) {
        ++offset;
    }
    if (offset >= header.size()) {
        return false;
    }
    std::size_t stop = header.find(';', offset);
    out.begin = offset;
    if (stop == std::string_view::npos) {
        stop = header.size();
        offset = stop;
    } else {
        offset = stop + 1;
        while (offset < header.size() && is_blank(header[offset])) {
            ++offset;
        }
    }
    out.end = offset;
    const std::string_view pair = header.substr(out.begin, stop - out.begin);
    const std::size_t equals = pair.find('=');
    if (equals == std::string_view::npos) {
        out.name = {};
        out.value = trim(pair);
    } else {
        out.name = trim(pair.substr(0, equals));
        out.value = trim(pair.substr(equals + 1));
    }
    return true;
}

}  // namespace sg
