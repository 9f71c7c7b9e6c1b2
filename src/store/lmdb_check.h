// Whose file it is, before LMDB opens it. Nothing is changed.
#pragma once

#include <cstdint>
#include <string>

#include "store/lmdb_pages.h"

namespace sg {

enum class LmdbKind : std::uint8_t {
    blank,  // an LMDB file in which nothing was ever written
    ours,
};

// Looks at the headers and at the record that says whose file it is. The file may be in use. The
// text says what is wrong with it, for the error log; empty: good.
std::string identify_lmdb(int fd, LmdbKind& kind, LmdbHeader& header) noexcept;

}  // namespace sg
