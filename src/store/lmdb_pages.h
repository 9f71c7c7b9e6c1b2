// LMDB's file format (data version 1, liblmdb 0.9), as far as a check needs it: LMDB itself trusts
// every byte of a file, and a damaged one would take the process down. Reads with pread(), changes
// nothing, takes no lock. 64-bit little-endian hosts, like the files they write.
//
//   page    number u64 | pad u16 | flags u16 | lower u16 | upper u16 (overflow: pages u32) | ...
//   pages 0 and 1 hold the two headers; the one with the larger transaction counts
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/bytes.h"

namespace sg {

inline constexpr std::uint64_t kLmdbNoPage = UINT64_MAX;
inline constexpr std::size_t kLmdbTreeBytes = 48;
inline constexpr std::size_t kLmdbPageHeader = 16;

struct LmdbTree {
    std::uint16_t flags = 0;
    std::uint16_t depth = 0;
    std::uint64_t branch_pages = 0;
    std::uint64_t leaf_pages = 0;
    std::uint64_t overflow_pages = 0;
    std::uint64_t entries = 0;
    std::uint64_t root = kLmdbNoPage;
    bool operator==(const LmdbTree&) const noexcept = default;
};

struct LmdbHeader {
    std::uint32_t page_size = 0;
    LmdbTree free_pages;
    LmdbTree unnamed;
    std::uint64_t last_page = 0;
    std::uint64_t transaction = 0;
    bool operator==(const LmdbHeader&) const noexcept = default;

    std::uint64_t used_bytes() const noexcept { return (last_page + 1) * page_size; }
};

enum class LmdbPageKind : std::uint8_t { branch = 1, leaf = 2, overflow = 4 };

// One key of a page. On a branch page `child` is the page below, on a leaf `data` is the value, or
// empty and `child` the first of the overflow pages that hold it.
struct LmdbNode {
    ByteView key;
    ByteView data;
    std::uint64_t data_size = 0;
    std::uint64_t child = kLmdbNoPage;
    std::size_t bytes = 0;  // that it takes of its page
    bool is_tree = false;   // the value describes a named database
    bool is_plain = false;  // nothing of what this module never writes
};

LmdbTree parse_lmdb_tree(const std::uint8_t* bytes) noexcept;

// Both headers; empty text: good.
std::string read_lmdb_headers(int fd, LmdbHeader& older, LmdbHeader& newest) noexcept;

// Reads one page (page.size() bytes). False: it lies beyond the end, or cannot be read.
bool read_lmdb_page(int fd, std::uint64_t number, ByteSpan page) noexcept;

// What is wrong with a page's own header, nullptr: nothing. `keys`: how many the page has.
const char* check_lmdb_page(ByteView page, std::uint64_t number, LmdbPageKind kind,
                            std::size_t& keys) noexcept;

// What the nodes of a checked page take of it together.
std::size_t lmdb_node_bytes(ByteView page) noexcept;

// False when the node does not lie within the page.
bool parse_lmdb_node(ByteView page, std::size_t i, LmdbPageKind kind, LmdbNode& node) noexcept;

}  // namespace sg
