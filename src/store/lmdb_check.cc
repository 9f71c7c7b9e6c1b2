#include "store/lmdb_check.h"

#include <chrono>
#include <cstddef>
#include <thread>

#include "store/bytes_box.h"
#include "store/lmdb_layout.h"

namespace sg {
namespace {

constexpr int kMostRounds = 100;

std::string check_mark(const LmdbNode& node) noexcept {
    if (!node.is_plain || node.data.size() != kLmdbMarkBytes) {
        return "is an LMDB file of something else (its \"session_guard\" record is not ours)";
    }
    const auto layout = load_le<std::uint32_t>(node.data.data());
    if (layout > kLmdbLayout) {
        return "has layout " + std::to_string(layout) + " of a newer module; this one knows " +
               std::to_string(kLmdbLayout);
    }
    return layout == kLmdbLayout ? std::string() : "has an impossible layout version";
}

// The unnamed database of ours has three short records: one leaf.
std::string find_mark(int fd, const LmdbHeader& header) noexcept {
    std::string foreign = "is an LMDB file of something else (it has no \"session_guard\" record)";
    if (header.unnamed.root == kLmdbNoPage || header.unnamed.depth != 1) {
        return foreign;
    }
    BytesBox page;
    std::size_t keys = 0;
    if (!page.resize(header.page_size)) {
        return "cannot be checked: no memory";
    }
    if (header.unnamed.root > header.last_page ||
        !read_lmdb_page(fd, header.unnamed.root, page.span())) {
        return "is truncated: its root page lies beyond its end";
    }
    if (check_lmdb_page(page.view(), header.unnamed.root, LmdbPageKind::leaf, keys) != nullptr) {
        return "is damaged: its root page is none";
    }
    for (std::size_t i = 0; i < keys; ++i) {
        LmdbNode node;
        if (!parse_lmdb_node(page.view(), i, LmdbPageKind::leaf, node)) {
            return "is damaged: its root page is none";
        }
        if (as_text(node.key) == kLmdbMark) {
            return check_mark(node);
        }
    }
    return foreign;
}

std::string identify_once(int fd, LmdbKind& kind, LmdbHeader& header) noexcept {
    LmdbHeader older;
    std::string error = read_lmdb_headers(fd, older, header);
    if (!error.empty()) {
        return error;
    }
    const bool blank = header.transaction == 0 && header.unnamed.root == kLmdbNoPage &&
                       header.free_pages.root == kLmdbNoPage;
    kind = blank ? LmdbKind::blank : LmdbKind::ours;
    return blank ? std::string() : find_mark(fd, header);
}

}  // namespace

std::string identify_lmdb(int fd, LmdbKind& kind, LmdbHeader& header) noexcept {
    LmdbHeader before;
    std::string error;
    for (int round = 0; round < kMostRounds; ++round) {
        error = identify_once(fd, kind, header);
        if (error.empty() || (round > 0 && header == before)) {
            return error;
        }
        // Another process may have written in between: once more, until nothing moves.
        before = header;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return error;
}

}  // namespace sg
