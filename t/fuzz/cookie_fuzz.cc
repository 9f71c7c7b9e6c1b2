// Fuzzes the Cookie header. The pairs are those that a naive splitter finds; without the taken
// names every other pair is left, in order and byte by byte; nothing that would be taken remains.
// Input: a name, a line feed, the header.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "core/web/cookie.h"

namespace {

void require(bool condition, const char* what) {
    if (!condition) {
        std::fprintf(stderr, "broken promise: %s\n", what);
        std::abort();
    }
}

std::string trim(const std::string& text) {
    const std::size_t first = text.find_first_not_of(" \t");
    if (first == std::string::npos) {
        return "";
    }
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

struct Piece {
    std::string text;  // what is between two semicolons, trimmed
    std::string name;
    std::string value;
    bool operator==(const Piece&) const = default;
};

Piece piece_of(const std::string& raw) {
    const std::size_t equals = raw.find('=');
    if (equals == std::string::npos) {
        return {trim(raw), "", trim(raw)};
    }
    return {trim(raw), trim(raw.substr(0, equals)), trim(raw.substr(equals + 1))};
}

// Everything between semicolons; a blank rest after the last one is nothing.
std::vector<Piece> split(std::string_view header) {
    std::vector<Piece> pieces;
    std::string rest(header);
    for (std::size_t end; (end = rest.find(';')) != std::string::npos; rest.erase(0, end + 1)) {
        pieces.push_back(piece_of(rest.substr(0, end)));
    }
    if (!trim(rest).empty()) {
        pieces.push_back(piece_of(rest));
    }
    return pieces;
}

void check_walk(std::string_view header, const std::vector<Piece>& pieces) {
    std::size_t offset = 0;
    std::size_t count = 0;
    std::size_t end = 0;
    sg::CookiePair pair;
    while (sg::next_cookie(header, offset, pair)) {
        require(count < pieces.size(), "no pair more than the splitter finds");
        require(pair.name == pieces[count].name, "the same name");
        require(pair.value == pieces[count].value, "the same value");
        require(pair.begin >= end && pair.begin < pair.end && pair.end <= header.size(),
                "the places follow each other");
        for (std::size_t gap = end; gap < pair.begin; ++gap) {
            require(header[gap] == ' ' || header[gap] == '\t', "only blanks between the places");
        }
        end = pair.end;
        ++count;
    }
    require(count == pieces.size(), "no pair fewer than the splitter finds");
}

void check_copy(std::string_view header, const std::vector<Piece>& pieces, std::string_view name) {
    std::vector<char> out(header.size());
    const std::size_t used = sg::copy_without(
        header, out, [&](std::string_view each, std::string_view) { return each == name; });
    require(used <= out.size(), "never longer than it was");
    std::vector<Piece> expected;
    for (const Piece& piece : pieces) {
        if (piece.name.empty() || piece.name != name) {
            expected.push_back(piece);
        }
    }
    while (!expected.empty() && expected.back().text.empty()) {
        expected.pop_back();  // separators at the end say nothing
    }
    std::vector<Piece> left = split({out.data(), used});
    require(left == expected, "every other pair survives, in order");
    for (const Piece& piece : left) {
        require(piece.name.empty() || piece.name != name, "the taken name is gone");
    }
    if (expected == pieces && used > 0) {
        require(header.find(std::string_view(out.data(), used)) != std::string_view::npos,
                "where nothing is taken nothing changes");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    const std::size_t feed = input.find('\n');
    if (feed == std::string_view::npos) {
        return 0;
    }
    // A copy of exactly its size, so that the sanitizer sees a step beyond its end.
    const std::vector<char> exact(input.begin() + static_cast<std::ptrdiff_t>(feed) + 1,
                                  input.end());
    const std::string_view header(exact.data(), exact.size());
    const std::vector<Piece> pieces = split(header);
    check_walk(header, pieces);
    check_copy(header, pieces, input.substr(0, feed));
    check_copy(header, pieces, "sid");
    return 0;
}
