#include "store/lmdb_walk.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <new>

#include "store/bytes_box.h"

namespace sg {
namespace {

constexpr std::size_t kMostLevels = 32;  // LMDB's own bound
constexpr std::size_t kMostTrees = 4;
constexpr std::size_t kMaxKey = 511;
constexpr unsigned kPagesBetweenLooks = 32;  // at the clock

class Walk {
  public:
    Walk(int fd, const LmdbHeader& header, std::chrono::steady_clock::time_point deadline) noexcept
        : fd_(fd), header_(header), deadline_(deadline) {}

    std::string run() noexcept;

  private:
    enum class Tree : std::uint8_t { free_pages, unnamed, named };

    struct Counts {
        std::uint64_t branch = 0;
        std::uint64_t leaf = 0;
        std::uint64_t overflow = 0;
        std::uint64_t entries = 0;
    };

    bool prepare() noexcept;
    bool tree(const LmdbTree& tree, Tree kind) noexcept;
    bool descend(std::size_t level, std::uint64_t number) noexcept;
    bool branch(std::size_t level, std::uint64_t number, std::size_t keys) noexcept;
    bool leaf(std::size_t level, std::uint64_t number, std::size_t keys) noexcept;
    bool is_filled(ByteView page, std::size_t used, std::uint64_t number) noexcept;
    bool value(const LmdbNode& node, std::uint64_t number) noexcept;
    bool overflow(const LmdbNode& node, ByteView& data) noexcept;
    bool free_list(ByteView ids, std::uint64_t number) noexcept;
    bool follows(ByteView key, bool may_equal) const noexcept;
    void remember(ByteView key) noexcept;
    bool claim(std::uint64_t first, std::uint64_t count, const char* otherwise) noexcept;
    bool is_late() noexcept;
    bool fail(std::uint64_t number, const char* what) noexcept;

    const int fd_;
    const LmdbHeader& header_;
    const std::chrono::steady_clock::time_point deadline_;
    std::uint64_t file_size_ = 0;
    bool may_stop_ = true;
    bool stopped_ = false;
    unsigned until_look_ = kPagesBetweenLooks;

    std::unique_ptr<std::uint64_t[]> claimed_;  // one bit a page
    std::array<BytesBox, kMostLevels + 1> pages_;
    BytesBox big_;

    LmdbTree tree_;
    Tree kind_ = Tree::unnamed;
    Counts counts_;
    std::array<LmdbTree, kMostTrees> named_;
    std::size_t named_count_ = 0;

    std::array<std::uint8_t, kMaxKey> last_key_{};
    std::size_t last_key_size_ = 0;
    bool has_last_key_ = false;
    bool may_equal_ = false;  // the last key came from a branch: the leaf may repeat it

    std::uint64_t damaged_ = 0;
    const char* what_ = nullptr;
};

bool Walk::fail(std::uint64_t number, const char* what) noexcept {
    damaged_ = number;
    what_ = what;
    return false;
}

bool Walk::is_late() noexcept {
    if (may_stop_ && !stopped_ && --until_look_ == 0) {
        until_look_ = kPagesBetweenLooks;
        stopped_ = std::chrono::steady_clock::now() >= deadline_;
    }
    return stopped_;
}

bool Walk::claim(std::uint64_t first, std::uint64_t count, const char* otherwise) noexcept {
    if (first < 2 || first > header_.last_page || count > header_.last_page + 1 - first) {
        return fail(first, "does not exist");
    }
    for (std::uint64_t page = first; page < first + count; ++page) {
        std::uint64_t& word = claimed_[page / 64];
        const std::uint64_t bit = std::uint64_t{1} << (page % 64);
        if ((word & bit) != 0) {
            return fail(page, otherwise);
        }
        word |= bit;
    }
    return true;
}

bool Walk::follows(ByteView key, bool may_equal) const noexcept {
    if (!has_last_key_) {
        return true;
    }
    const ByteView last{last_key_.data(), last_key_size_};
    int order = 0;
    if (kind_ == Tree::free_pages) {
        const auto a = load_le<std::uint64_t>(last.data());
        const auto b = load_le<std::uint64_t>(key.data());
        order = a < b ? -1 : static_cast<int>(a > b);
    } else {
        order = std::memcmp(last.data(), key.data(), std::min(last.size(), key.size()));
        if (order == 0) {
            order = last.size() < key.size() ? -1 : static_cast<int>(last.size() > key.size());
        }
    }
    return order < 0 || (order == 0 && may_equal);
}

void Walk::remember(ByteView key) noexcept {
    std::copy(key.begin(), key.end(), last_key_.begin());
    last_key_size_ = key.size();
    has_last_key_ = true;
}

bool Walk::tree(const LmdbTree& tree, Tree kind) noexcept {
    tree_ = tree;
    kind_ = kind;
    counts_ = {};
    has_last_key_ = false;
    may_equal_ = false;
    if (tree.root == kLmdbNoPage) {
        return tree.entries == 0 || fail(0, "has a tree without a root");
    }
    if (tree.depth == 0 || tree.depth > kMostLevels) {
        return fail(tree.root, "has an impossible depth");
    }
    if (!descend(1, tree.root)) {
        return false;
    }
    const bool right = counts_.branch == tree.branch_pages && counts_.leaf == tree.leaf_pages &&
                       counts_.overflow == tree.overflow_pages && counts_.entries == tree.entries;
    return stopped_ || right || fail(tree.root, "counts more or less than there is below it");
}

bool Walk::descend(std::size_t level, std::uint64_t number) noexcept {
    if (is_late()) {
        return true;
    }
    if (!claim(number, 1, "is used twice")) {
        return false;
    }
    BytesBox& page = pages_[level];
    if (page.span().empty() && !page.resize(header_.page_size)) {
        return fail(number, "cannot be checked: no memory");
    }
    if (!read_lmdb_page(fd_, number, page.span())) {
        return fail(number, "lies beyond the end of the file, which is truncated");
    }
    const auto kind = level < tree_.depth ? LmdbPageKind::branch : LmdbPageKind::leaf;
    std::size_t keys = 0;
    if (const char* what = check_lmdb_page(page.view(), number, kind, keys); what != nullptr) {
        return fail(number, what);
    }
    return kind == LmdbPageKind::branch ? branch(level, number, keys) : leaf(level, number, keys);
}

bool Walk::branch(std::size_t level, std::uint64_t number, std::size_t keys) noexcept {
    ++counts_.branch;
    std::size_t used = 0;
    for (std::size_t i = 0; i < keys; ++i) {
        LmdbNode node;
        if (!parse_lmdb_node(pages_[level].view(), i, LmdbPageKind::branch, node) ||
            node.key.size() > kMaxKey) {
            return fail(number, "has a key outside itself");
        }
        if (i > 0) {  // the first key of a branch means nothing
            const bool fits = kind_ != Tree::free_pages || node.key.size() == 8;
            if (!fits || !follows(node.key, false)) {
                return fail(number, "has keys out of order");
            }
            remember(node.key);
            may_equal_ = true;
        }
        used += node.bytes;
        if (!descend(level + 1, node.child)) {
            return false;
        }
    }
    return is_filled(pages_[level].view(), used, number);
}

bool Walk::leaf(std::size_t level, std::uint64_t number, std::size_t keys) noexcept {
    ++counts_.leaf;
    std::size_t used = 0;
    for (std::size_t i = 0; i < keys; ++i) {
        LmdbNode node;
        if (!parse_lmdb_node(pages_[level].view(), i, LmdbPageKind::leaf, node) ||
            node.key.empty() || node.key.size() > kMaxKey) {
            return fail(number, "has an entry outside itself");
        }
        const bool fits = kind_ != Tree::free_pages || node.key.size() == 8;
        if (!fits || !follows(node.key, may_equal_)) {
            return fail(number, "has keys out of order");
        }
        remember(node.key);
        may_equal_ = false;
        ++counts_.entries;
        used += node.bytes;
        if (!value(node, number)) {
            return false;
        }
    }
    return is_filled(pages_[level].view(), used, number);
}

// Nodes lie side by side. LMDB moves them by their sizes: a wrong one has it write beside the page.
bool Walk::is_filled(ByteView page, std::size_t used, std::uint64_t number) noexcept {
    return used == lmdb_node_bytes(page) || fail(number, "has entries of impossible sizes");
}

bool Walk::value(const LmdbNode& node, std::uint64_t number) noexcept {
    if (node.is_tree && kind_ == Tree::unnamed && node.data.size() == kLmdbTreeBytes &&
        named_count_ < named_.size()) {
        named_[named_count_++] = parse_lmdb_tree(node.data.data());
        return true;
    }
    if (!node.is_plain) {
        return fail(number, "has an entry of a kind that was never written");
    }
    ByteView data = node.data;
    if (node.child != kLmdbNoPage && !overflow(node, data)) {
        return false;
    }
    return kind_ != Tree::free_pages || free_list(data, number);
}

// A long value: pages in a row, the first with a header. `data` is filled for the free list only.
bool Walk::overflow(const LmdbNode& node, ByteView& data) noexcept {
    std::array<std::uint8_t, kLmdbPageHeader> header;
    const std::uint64_t at = node.child * header_.page_size;
    const std::uint64_t needed =
        (kLmdbPageHeader + node.data_size + header_.page_size - 1) / header_.page_size;
    if (!claim(node.child, needed, "is used twice")) {
        return false;
    }
    if (at + needed * header_.page_size > file_size_ || !big_.resize(header_.page_size) ||
        !read_lmdb_page(fd_, node.child, big_.span())) {
        return fail(node.child, "lies beyond the end of the file, which is truncated");
    }
    std::copy_n(big_.view().begin(), header.size(), header.begin());
    std::size_t keys = 0;
    const char* what = check_lmdb_page(big_.view(), node.child, LmdbPageKind::overflow, keys);
    const std::uint64_t pages = load_le<std::uint32_t>(header.data() + 12);
    if (what != nullptr || pages < needed) {
        return fail(node.child, what != nullptr ? what : "is shorter than its value");
    }
    counts_.overflow += pages;
    if (pages > needed && !claim(node.child + needed, pages - needed, "is used twice")) {
        return false;
    }
    if (kind_ != Tree::free_pages) {
        return true;
    }
    // Pages in a row are one long page.
    const std::size_t size = static_cast<std::size_t>(needed) * header_.page_size;
    if (!big_.resize(size)) {
        return fail(node.child, "cannot be checked: no memory");
    }
    for (std::uint64_t i = 0; i < needed; ++i) {
        const ByteSpan part = big_.span().subspan(i * header_.page_size, header_.page_size);
        if (!read_lmdb_page(fd_, node.child + i, part)) {
            return fail(node.child + i, "cannot be read");
        }
    }
    data = big_.view().subspan(kLmdbPageHeader, static_cast<std::size_t>(node.data_size));
    return true;
}

bool Walk::free_list(ByteView ids, std::uint64_t number) noexcept {
    if (ids.size() < 8 || ids.size() % 8 != 0) {
        return fail(number, "has a list of free pages that is none");
    }
    const auto count = load_le<std::uint64_t>(ids.data());
    if (count > ids.size() / 8 - 1) {
        return fail(number, "has a list of free pages that is none");
    }
    for (std::uint64_t i = 1; i <= count; ++i) {
        const auto page = load_le<std::uint64_t>(ids.data() + 8 * i);
        if (!claim(page, 1, "is called free and is in use")) {
            return false;
        }
    }
    return true;
}

bool Walk::prepare() noexcept {
    struct stat info;
    const std::size_t words = static_cast<std::size_t>(header_.last_page) / 64 + 1;
    claimed_.reset(new (std::nothrow) std::uint64_t[words]());
    if (claimed_ == nullptr || ::fstat(fd_, &info) != 0) {
        return false;
    }
    file_size_ = static_cast<std::uint64_t>(info.st_size);
    // LMDB need not have written its last pages when they were given up in the same transaction; so
    // a short file may be whole, but then every page must be looked at.
    may_stop_ = file_size_ >= header_.used_bytes();
    return true;
}

std::string Walk::run() noexcept {
    if (!prepare()) {
        return "cannot be checked: no memory";
    }
    bool good = tree(header_.unnamed, Tree::unnamed);
    for (std::size_t i = 0; good && i < named_count_; ++i) {
        good = tree(named_[i], Tree::named);
    }
    // Last: whatever is free must not have been met before. Half a walk cannot tell.
    good = good && (stopped_ || tree(header_.free_pages, Tree::free_pages));
    if (good) {
        return {};
    }
    return "is damaged: page " + std::to_string(damaged_) + " " + what_;
}

}  // namespace

std::string walk_lmdb(int fd, const LmdbHeader& snapshot,
                      std::chrono::steady_clock::time_point deadline) noexcept {
    return Walk(fd, snapshot, deadline).run();
}

}  // namespace sg
