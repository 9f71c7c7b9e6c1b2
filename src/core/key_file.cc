#include "core/key_file.h"

#include <openssl/crypto.h>

#include <algorithm>

namespace sg {
namespace {

int hex_value(char c) noexcept {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    const char lower = static_cast<char>(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool parse_hex_key(std::string_view hex, MasterKey& key) noexcept {
    if (hex.size() != 2 * kMasterBytes) {
        return false;
    }
    for (std::size_t i = 0; i < key.size(); ++i) {
        const int high = hex_value(hex[2 * i]);
        const int low = hex_value(hex[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        key[i] = static_cast<std::uint8_t>(high << 4 | low);
    }
    return true;
}

std::string_view trim(std::string_view text) noexcept {
    constexpr std::string_view kBlank = " \t\r";
    const std::size_t first = text.find_first_not_of(kBlank);
    if (first == std::string_view::npos) {
        return {};
    }
    return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

const char* parse_key_line(std::string_view line, KeyFile& file, bool& marked) noexcept {
    const std::size_t blank = line.find_first_of(" \t");
    const std::string_view hex = line.substr(0, blank);
    const std::string_view rest =
        blank == std::string_view::npos ? std::string_view{} : trim(line.substr(blank));
    if (file.count == kMaxKeys) {
        return "more than 16 keys";
    }
    if (!parse_hex_key(hex, file.masters[file.count])) {
        return "a key is 64 hexadecimal digits";
    }
    const auto end = file.masters.cbegin() + static_cast<std::ptrdiff_t>(file.count);
    if (std::find(file.masters.cbegin(), end, file.masters[file.count]) != end) {
        return "the same key twice";
    }
    if (!rest.empty()) {
        if (rest != "current") {
            return "only the word \"current\" may follow a key";
        }
        if (marked) {
            return "a second key marked \"current\"";
        }
        marked = true;
        file.current = file.count;
    }
    ++file.count;
    return nullptr;
}

}  // namespace

void KeyFile::wipe() noexcept {
    OPENSSL_cleanse(masters.data(), sizeof masters);
    count = 0;
    current = 0;
}

bool parse_key_file(std::string_view text, KeyFile& file, KeyFileError& error) noexcept {
    file.wipe();
    bool marked = false;
    for (error.line = 1; !text.empty(); ++error.line) {
        const std::size_t end = text.find('\n');
        const std::string_view line = trim(text.substr(0, end));
        text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
        if (line.empty() || line.front() == '#') {
            continue;
        }
        error.what = parse_key_line(line, file, marked);
        if (error.what != nullptr) {
            file.wipe();
            return false;
        }
    }
    if (file.count == 0) {
        error = {.what = "no key in it", .line = 0};
        return false;
    }
    return true;
}

}  // namespace sg
