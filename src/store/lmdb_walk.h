// Whether an LMDB file is sound, page by page. Nothing is changed.
#pragma once

#include <chrono>
#include <string>

#include "store/lmdb_pages.h"

namespace sg {

// Walks the trees of one snapshot, which the caller keeps from being reused (a read transaction):
// every page used once, every key in order, every count right. Ends at `deadline`, content with
// what it has seen, unless the file is shorter than its headers say: then all of it is walked. The
// text says what is wrong, for the error log; empty: good.
std::string walk_lmdb(int fd, const LmdbHeader& snapshot,
                      std::chrono::steady_clock::time_point deadline) noexcept;

}  // namespace sg
