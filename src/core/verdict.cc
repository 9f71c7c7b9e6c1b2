#include "core/verdict.h"

#include <array>
#include <cstddef>

namespace sg {
namespace {

struct Row {
    std::string_view name;
    unsigned http;
    std::string_view title;
    std::uint8_t telling;  // rank among refusals
    bool expire_cookie;
};

// In the order of the enum.
constexpr std::array<Row, 15> kRows{{
    {"none", 401, "Not logged in", 0, false},
    {"valid", 200, "Session valid", 0, false},
    {"malformed", 401, "Not logged in", 1, true},
    {"forged", 401, "Not logged in", 2, true},
    {"unknown_key", 401, "Session not recognised", 3, false},
    {"absent", 401, "Session not found", 4, true},
    {"expired_idle", 401, "Session expired", 8, true},
    {"expired_absolute", 401, "Session expired", 9, true},
    {"ended", 401, "Session ended", 7, true},
    {"regenerated", 401, "Session replaced", 6, false},
    {"ambiguous", 401, "Ambiguous session", 10, true},
    {"insecure", 403, "Secure connection required", 11, false},
    {"csrf", 403, "Cross-site request refused", 12, false},
    {"limited", 403, "Too many sessions", 13, false},
    {"store_unavailable", 503, "Session store unavailable", 14, false},
}};

const Row& row(Status status) noexcept {
    return kRows[static_cast<std::size_t>(status)];
}

static_assert(static_cast<std::size_t>(Status::store_unavailable) + 1 == kRows.size());

}  // namespace

std::string_view status_name(Status status) noexcept {
    return row(status).name;
}

unsigned http_status(Status status) noexcept {
    return row(status).http;
}

std::string_view status_title(Status status) noexcept {
    return row(status).title;
}

Status more_telling(Status a, Status b) noexcept {
    return row(a).telling >= row(b).telling ? a : b;
}

bool may_expire_cookie(Status status) noexcept {
    return row(status).expire_cookie;
}

}  // namespace sg
