#include "store/placement.h"

#include <algorithm>
#include <cmath>

#include "core/bytes.h"

namespace sg {
namespace {

// A good mixer of 64 bits is all that is needed: store keys are keyed digests already, and nobody
// can choose one.
std::uint64_t mix(std::uint64_t x) noexcept {
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93;
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93;
    return x ^ x >> 32;
}

// The server's waiting time at a race in which it moves at the speed of its weight: the logarithm
// of a number from (0, 1), divided by the weight. The k shortest times win; a server wins as often
// as its weight is a part of the sum.
double waiting_time(std::uint64_t random, double share) noexcept {
    const double uniform = (static_cast<double>(random >> 11) + 0.5) * 0x1p-53;
    return -std::log(uniform) * share;
}

}  // namespace

bool Placement::add(std::string_view name, std::uint16_t port, std::uint16_t weight) noexcept {
    if (count_ == servers_.size() || weight == 0) {
        return false;
    }
    std::uint64_t seed = mix(port + std::uint64_t{1});
    for (const char c : name) {
        seed = mix(seed + static_cast<std::uint8_t>(c) + 1);
    }
    servers_[count_++] = {.seed = seed, .share = 1.0 / weight};
    return true;
}

std::size_t Placement::place(const StoreKey& key, std::span<std::uint8_t> out) const noexcept {
    if (count_ == 1 && !out.empty()) {
        out[0] = 0;
        return 1;
    }
    const auto low = load_le<std::uint64_t>(key.data());
    const auto high = load_le<std::uint64_t>(key.data() + 8);
    std::array<double, kMaxServers> times;
    std::size_t filled = 0;
    for (std::size_t i = 0; i < count_; ++i) {
        const Server& server = servers_[i];
        const double time = waiting_time(mix(mix(low ^ server.seed) ^ high), server.share);
        std::size_t at = filled;
        while (at > 0 && time < times[at - 1]) {
            --at;
        }
        if (at >= out.size()) {
            continue;
        }
        filled = std::min(filled + 1, out.size());
        for (std::size_t j = filled - 1; j > at; --j) {
            times[j] = times[j - 1];
            out[j] = out[j - 1];
        }
        times[at] = time;
        out[at] = static_cast<std::uint8_t>(i);
    }
    return filled;
}

}  // namespace sg
