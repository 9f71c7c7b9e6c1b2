// What came back: statuses, latencies, connections that failed; printed as one JSON object.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace bench {

using Clock = std::chrono::steady_clock;

class Tally {
  public:
    std::uint64_t finished = 0;  // answered or failed
    std::uint64_t failed = 0;
    std::uint64_t retried = 0;
    std::uint64_t refused = 0;

    void answered(std::string_view status, Clock::duration latency) {
        ++statuses_[std::string(status)];
        latency_us_.push_back(std::chrono::duration<float, std::micro>(latency).count());
        ++finished;
    }

    void print(double seconds, std::size_t tokens) {
        std::sort(latency_us_.begin(), latency_us_.end());
        std::printf(
            "{\"requests\":%llu,\"seconds\":%.6f,\"retried\":%llu,\"refused\":%llu,"
            "\"failed\":%llu,\"tokens\":%zu,\"least_us\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,"
            "\"statuses\":{",
            number(finished), seconds, number(retried), number(refused), number(failed), tokens,
            quantile(0), quantile(0.5), quantile(0.99));
        const char* comma = "";
        for (const auto& [status, times] : statuses_) {
            std::printf("%s\"%s\":%llu", comma, status.c_str(), number(times));
            comma = ",";
        }
        std::printf("}}\n");
    }

  private:
    static unsigned long long number(std::uint64_t value) { return value; }

    double quantile(double share) const {
        const auto last = static_cast<double>(latency_us_.size() - 1);
        return latency_us_.empty() ? 0 : latency_us_[static_cast<std::size_t>(share * last)];
    }

    std::map<std::string, std::uint64_t> statuses_;
    std::vector<float> latency_us_;
};

}  // namespace bench
