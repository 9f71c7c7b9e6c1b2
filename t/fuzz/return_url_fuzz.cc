// Fuzzes the check of return addresses. Whatever is accepted stays on the origin for a resolver
// that does what browsers do (WHATWG URL, special schemes), however often it has been decoded on
// the way, and after a second server has merged slashes or removed dot segments; encoding and
// decoding are inverses.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "core/web/return_url.h"

namespace {

constexpr int kRounds = 5;

void require(bool condition, const char* what) {
    if (!condition) {
        std::fprintf(stderr, "broken promise: %s\n", what);
        std::abort();
    }
}

int digit(char c) {
    constexpr std::string_view kDigits = "0123456789abcdef0123456789ABCDEF";
    const std::size_t found = kDigits.find(c);
    return found == std::string_view::npos ? -1 : static_cast<int>(found % 16);
}

// One round of decoding that leaves what is no escape alone.
std::string decode_leniently(std::string_view in) {
    std::string out;
    for (std::size_t i = 0; i < in.size(); ++i) {
        if (in[i] == '%' && in.size() - i > 2 && digit(in[i + 1]) >= 0 && digit(in[i + 2]) >= 0) {
            out += static_cast<char>(digit(in[i + 1]) * 16 + digit(in[i + 2]));
            i += 2;
        } else {
            out += in[i];
        }
    }
    return out;
}

// Overlong two-byte forms, as a careless decoder of UTF-8 reads them.
std::string fold_overlong(std::string_view in) {
    std::string out;
    for (std::size_t i = 0; i < in.size(); ++i) {
        const auto byte = static_cast<unsigned char>(in[i]);
        if ((byte == 0xc0 || byte == 0xc1) && i + 1 < in.size()) {
            out += static_cast<char>(((byte & 1) << 6) | (in[i + 1] & 0x3f));
            ++i;
        } else {
            out += in[i];
        }
    }
    return out;
}

// The part of a browser's URL parser that finds the host of a reference with an https base: strips
// controls and blanks at the ends, tabs and newlines anywhere, and takes '\' for '/'.
bool leaves_origin(std::string_view reference) {
    std::string url;
    for (const char c : reference) {
        if (c != '\t' && c != '\n' && c != '\r') {
            url += c == '\\' ? '/' : c;
        }
    }
    std::size_t begin = 0;
    while (begin < url.size() && static_cast<unsigned char>(url[begin]) <= 0x20) {
        ++begin;
    }
    url.erase(0, begin);
    const std::size_t end_of_scheme = url.find_first_of(":/?#");
    const bool has_scheme = end_of_scheme != std::string::npos && url[end_of_scheme] == ':';
    return has_scheme || url.starts_with("//");
}

std::string path_of(std::string_view uri) {
    return std::string(uri.substr(0, uri.find_first_of("?#")));
}

// RFC 3986 section 5.2.4, with or without empty segments merged first.
std::string remove_dot_segments(std::string_view path, bool merge) {
    std::vector<std::string> segments;
    std::size_t begin = 1;
    bool directory = false;
    while (begin <= path.size()) {
        const std::size_t end = std::min(path.find('/', begin), path.size());
        const std::string segment(path.substr(begin, end - begin));
        const bool dots = segment == "." || segment == "..";
        directory = dots || segment.empty();
        if (segment == "..") {
            if (!segments.empty()) {
                segments.pop_back();
            }
        } else if (!dots && !(segment.empty() && (merge || end == path.size()))) {
            segments.push_back(segment);
        }
        begin = end + 1;
    }
    std::string out;
    for (const std::string& segment : segments) {
        out += "/" + segment;
    }
    return directory || out.empty() ? out + "/" : out;
}

void check_stays(std::string_view reference) {
    require(!leaves_origin(reference), "stays on the origin");
    require(reference.starts_with('/') && !reference.starts_with("//"), "one slash in front");
}

void check_round_trip(std::string_view text) {
    std::string encoded(3 * text.size(), '\0');
    const std::size_t size = sg::percent_encode(text, encoded);
    require(size <= encoded.size(), "encoding fits");
    encoded.resize(size);
    for (const char c : encoded) {
        require(c > 0x20 && c < 0x7f && std::strchr("?#&=+;\"'<>\\", c) == nullptr,
                "encoded text is safe in a query argument");
    }
    std::string back(encoded.size(), '\0');
    const std::size_t decoded = sg::percent_decode(encoded, back);
    require(decoded == text.size() && back.substr(0, decoded) == text, "round trip");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    // A copy of exactly this size lets the sanitizer see a read behind it.
    const std::vector<char> copy(data, data + size);
    const std::string_view uri(copy.data(), copy.size());
    check_round_trip(uri);
    std::vector<char> out(size);
    const std::size_t decoded = sg::percent_decode(uri, out);
    require(decoded == SIZE_MAX || std::string_view(out.data(), decoded) == decode_leniently(uri),
            "decoding agrees");
    if (!sg::is_own_origin_path(uri)) {
        return 0;
    }
    require(size <= sg::kMaxReturnBytes, "length");
    std::string whole(uri);
    std::string path = path_of(uri);
    for (int round = 0; round < kRounds; ++round) {
        for (const std::string& text : {whole, path, path_of(path), fold_overlong(path)}) {
            check_stays(text);
        }
        check_stays(remove_dot_segments(path, false));
        check_stays(remove_dot_segments(path, true));
        check_stays(remove_dot_segments(path_of(path), false));
        for (const char c : path) {
            const auto byte = static_cast<unsigned char>(c);
            require(byte >= 0x20 && byte != 0x7f, "no control character in the path");
        }
        require(round > 3 || whole.find_first_of("\r\n") == std::string::npos, "no line break");
        whole = decode_leniently(whole);
        path = decode_leniently(path);
    }
    return 0;
}
