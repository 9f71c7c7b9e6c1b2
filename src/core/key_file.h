// The key file: one master key a line. Parsed here, derived from in core/keys.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sg {

inline constexpr std::size_t kMasterBytes = 32;
inline constexpr std::size_t kMaxKeys = 16;

using MasterKey = std::array<std::uint8_t, kMasterBytes>;

// The parsed key file. Wipe with wipe() when done; it is not wiped by itself.
struct KeyFile {
    std::array<MasterKey, kMaxKeys> masters{};
    std::size_t count = 0;
    std::size_t current = 0;  // the line marked `current`, else the first

    void wipe() noexcept;
};

// `what` is a static text that never contains key material; `line` is 1-based, 0: the whole file.
struct KeyFileError {
    const char* what = "";
    std::size_t line = 0;
};

// One key a line: 64 hexadecimal digits, optionally followed by the word `current`; blank lines and
// lines that start with '#' are skipped. On failure `file` is wiped.
bool parse_key_file(std::string_view text, KeyFile& file, KeyFileError& error) noexcept;

}  // namespace sg
