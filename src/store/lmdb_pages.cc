#include "store/lmdb_pages.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

namespace sg {
namespace {

constexpr std::uint32_t kMagic = 0xBEEFC0DE;
constexpr std::uint32_t kDataVersion = 1;
constexpr std::uint16_t kMetaPage = 0x08;
constexpr std::uint16_t kKindBits = 0x6f;  // branch, leaf, overflow, meta and two never used here
constexpr std::uint32_t kFixedMap = 0x01;  // map at an address that the file names

constexpr std::size_t kMetaBytes = 4 + 4 + 8 + 8 + 2 * kLmdbTreeBytes + 8 + 8;
constexpr std::size_t kFlagsAt = 10;
constexpr std::size_t kLowerAt = 12;
constexpr std::size_t kUpperAt = 14;

constexpr std::size_t kNodeHeader = 8;
constexpr std::size_t even(std::size_t size) noexcept {
    return size + size % 2;
}

constexpr std::uint16_t kBigData = 0x01;
constexpr std::uint16_t kSubTree = 0x02;

bool read_at(int fd, std::uint64_t offset, ByteSpan out) noexcept {
    std::size_t done = 0;
    while (done < out.size()) {
        const ssize_t n =
            ::pread(fd, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        done += static_cast<std::size_t>(n);
    }
    return true;
}

std::string read_header(int fd, std::uint64_t offset, LmdbHeader& header) noexcept {
    std::array<std::uint8_t, kLmdbPageHeader + kMetaBytes> page;
    if (!read_at(fd, offset, page)) {
        return offset == 0 ? "is not an LMDB file (too short)" : "is truncated in its second page";
    }
    const std::uint8_t* const meta = page.data() + kLmdbPageHeader;
    const bool is_meta = (load_le<std::uint16_t>(page.data() + kFlagsAt) & kMetaPage) != 0 &&
                         load_le<std::uint32_t>(meta) == kMagic;
    if (!is_meta) {
        return offset == 0 ? "is not an LMDB file" : "is damaged: its second header is not one";
    }
    if (const auto version = load_le<std::uint32_t>(meta + 4); version != kDataVersion) {
        return "has LMDB data version " + std::to_string(version) + ", this LMDB writes version " +
               std::to_string(kDataVersion);
    }
    const std::uint8_t* const trees = meta + 24;
    header.page_size = load_le<std::uint32_t>(trees);  // in the first tree's spare word
    header.free_pages = parse_lmdb_tree(trees);
    header.unnamed = parse_lmdb_tree(trees + kLmdbTreeBytes);
    header.last_page = load_le<std::uint64_t>(trees + 2 * kLmdbTreeBytes);
    header.transaction = load_le<std::uint64_t>(trees + 2 * kLmdbTreeBytes + 8);
    if (!std::has_single_bit(header.page_size) || header.page_size < 512 ||
        header.page_size > 32768 || header.last_page < 1 || header.last_page > UINT32_MAX ||
        (header.free_pages.flags & kFixedMap) != 0) {
        return "is damaged: its header makes no sense";
    }
    return {};
}

}  // namespace

LmdbTree parse_lmdb_tree(const std::uint8_t* bytes) noexcept {
    return {.flags = load_le<std::uint16_t>(bytes + 4),
            .depth = load_le<std::uint16_t>(bytes + 6),
            .branch_pages = load_le<std::uint64_t>(bytes + 8),
            .leaf_pages = load_le<std::uint64_t>(bytes + 16),
            .overflow_pages = load_le<std::uint64_t>(bytes + 24),
            .entries = load_le<std::uint64_t>(bytes + 32),
            .root = load_le<std::uint64_t>(bytes + 40)};
}

std::string read_lmdb_headers(int fd, LmdbHeader& older, LmdbHeader& newest) noexcept {
    LmdbHeader first;
    LmdbHeader second;
    std::string error = read_header(fd, 0, first);
    if (error.empty()) {
        error = read_header(fd, first.page_size, second);
    }
    if (error.empty() && first.page_size != second.page_size) {
        error = "is damaged: its headers do not fit";
    }
    const bool second_counts = second.transaction > first.transaction;
    older = second_counts ? first : second;
    newest = second_counts ? second : first;
    return error;
}

bool read_lmdb_page(int fd, std::uint64_t number, ByteSpan page) noexcept {
    return read_at(fd, number * page.size(), page);
}

const char* check_lmdb_page(ByteView page, std::uint64_t number, LmdbPageKind kind,
                            std::size_t& keys) noexcept {
    if (load_le<std::uint64_t>(page.data()) != number) {
        return "has the number of another page";
    }
    const std::uint16_t flags = load_le<std::uint16_t>(page.data() + kFlagsAt) & kKindBits;
    if (flags != static_cast<std::uint16_t>(kind)) {
        return "is of another kind";
    }
    if (kind == LmdbPageKind::overflow) {
        keys = 0;
        return nullptr;
    }
    const std::size_t lower = load_le<std::uint16_t>(page.data() + kLowerAt);
    const std::size_t upper = load_le<std::uint16_t>(page.data() + kUpperAt);
    if (lower <= kLmdbPageHeader || lower % 2 != 0 || lower > upper || upper > page.size()) {
        return "has impossible bounds";
    }
    keys = (lower - kLmdbPageHeader) / 2;
    return nullptr;
}

std::size_t lmdb_node_bytes(ByteView page) noexcept {
    return page.size() - load_le<std::uint16_t>(page.data() + kUpperAt);
}

bool parse_lmdb_node(ByteView page, std::size_t i, LmdbPageKind kind, LmdbNode& node) noexcept {
    const std::size_t upper = load_le<std::uint16_t>(page.data() + kUpperAt);
    const std::size_t at = load_le<std::uint16_t>(page.data() + kLmdbPageHeader + 2 * i);
    if (at < upper || at + kNodeHeader > page.size()) {
        return false;
    }
    const std::uint8_t* const header = page.data() + at;
    const std::uint64_t low = load_le<std::uint32_t>(header);
    const auto flags = load_le<std::uint16_t>(header + 4);
    const std::size_t key_size = load_le<std::uint16_t>(header + 6);
    const std::size_t room = page.size() - at - kNodeHeader;
    if (key_size > room) {
        return false;
    }
    node = {};
    node.key = {header + kNodeHeader, key_size};
    if (kind == LmdbPageKind::branch) {
        node.child = low | std::uint64_t{flags} << 32;
        node.bytes = even(kNodeHeader + key_size);
        return true;
    }
    const std::uint8_t* const data = header + kNodeHeader + key_size;
    const bool is_big = (flags & kBigData) != 0;
    node.data_size = low;
    node.is_tree = flags == kSubTree;
    node.is_plain = (flags & ~kBigData) == 0;
    const std::uint64_t here = is_big ? sizeof(std::uint64_t) : low;
    if (here > room - key_size) {
        return false;
    }
    node.bytes = even(kNodeHeader + key_size + static_cast<std::size_t>(here));
    if (is_big) {
        node.child = load_le<std::uint64_t>(data);
    } else {
        node.data = {data, static_cast<std::size_t>(here)};
    }
    return true;
}

}  // namespace sg
