// The zone's table by itself, for `make bench`: how much memory a session takes, how long a look-up
// does. Prints one JSON object.
//
//   lookup measure SESSIONS FINDS ROUNDS    all of it
//   lookup loop FINDS                       only begin() on one session, for callgrind
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/enforce.h"
#include "core/record.h"
#include "core/zone/shard_lock.h"
#include "core/zone/table.h"

namespace {

constexpr sg::TimeMs kNow = 1'700'000'000'000;
constexpr sg::SweepLimits kLimits{.idle = 0, .absolute = 8 * 3600 * sg::kSecond};

std::uint64_t state = 88172645463325252u;

std::uint64_t random_word() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1du;
}

sg::Token random_token() {
    std::uint64_t words[6];
    for (auto& word : words) {
        word = random_word();
    }
    sg::Token token;
    token.key_id = 1;
    std::memcpy(token.handle.data(), words, 16);
    std::memcpy(token.secret.data(), words + 2, 16);
    std::memcpy(token.tag.data(), words + 4, 15);
    return token;
}

// User of 16 characters, two roles, one attribute of 64 bytes: the session of 6-quality.md.
std::vector<std::uint8_t> typical_record() {
    std::array<std::uint8_t, 128> attributes;
    std::size_t used = 0;
    sg::append_attribute(attributes, used, "note", std::string(64, 'x'));
    sg::Record record;
    record.created = kNow;
    record.authenticated = kNow;
    record.user = "user000000000001";
    record.roles = "editor admin";
    record.attributes = sg::ByteView(attributes).first(used);
    std::vector<std::uint8_t> bytes(sg::encoded_size(record));
    bytes.resize(sg::encode_record(record, bytes));
    return bytes;
}

// A table in fresh shared memory, as nginx makes a zone.
class Zone {
  public:
    explicit Zone(std::size_t bytes)
        : bytes_(bytes),
          memory_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
        if (memory_ == MAP_FAILED) {
            std::perror("mmap");
            std::exit(2);
        }
        const std::array<std::uint8_t, 16> hash_key{0x3b, 7, 0x91, 0x55, 1, 2, 3, 4,
                                                    0xd3, 5, 0x67, 0xaf, 6, 7, 8, 9};
        const std::array<std::uint8_t, 32> master{};
        table_ = sg::Table::format({static_cast<std::byte*>(memory_), bytes}, hash_key, master);
    }
    ~Zone() { munmap(memory_, bytes_); }
    Zone(const Zone&) = delete;
    Zone& operator=(const Zone&) = delete;

    const sg::Table& table() const { return *table_; }

    bool insert(const sg::Token& token, sg::ByteView record) const {
        sg::LockedShard shard = table_->lock(token.handle);
        return table_->insert(shard, token, record, kNow, kLimits, kNow) ==
               sg::InsertResult::inserted;
    }

  private:
    std::size_t bytes_;
    void* memory_;
    std::optional<sg::Table> table_;
};

struct Sessions {
    std::vector<sg::Token> tokens;
    std::vector<std::array<char, sg::kTokenChars>> texts;

    explicit Sessions(std::size_t count) : tokens(count), texts(count) {
        for (std::size_t i = 0; i < count; ++i) {
            tokens[i] = random_token();
            sg::format_token(tokens[i], texts[i]);
        }
    }
};

// Sessions that fit before the first one is refused.
std::size_t fill(const Zone& zone, const Sessions& sessions, sg::ByteView record) {
    std::size_t fit = 0;
    while (fit < sessions.tokens.size() && zone.insert(sessions.tokens[fit], record)) {
        ++fit;
    }
    return fit;
}

// The smallest zone, in bytes per session, that takes them all; handles spread over the shards at
// random, and the fullest shard decides.
double smallest_zone(const Sessions& sessions, sg::ByteView record) {
    const std::size_t count = sessions.tokens.size();
    std::size_t low = sg::Table::bytes_per_session(record.size()) * count;
    std::size_t high = low + low / 4;
    while (high - low > count / 4 + 64) {
        const std::size_t middle = (low + high) / 2;
        (fill(Zone(middle), sessions, record) == count ? high : low) = middle;
    }
    return static_cast<double>(high) / static_cast<double>(count);
}

// CPU time: on a busy machine this process is not always on.
double cpu_ns() {
    timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

template <typename Look>
double nanoseconds(std::size_t times, Look look) {
    const double start = cpu_ns();
    for (std::size_t i = 0; i < times; ++i) {
        look(i);
    }
    return (cpu_ns() - start) / static_cast<double>(times);
}

[[noreturn]] void not_found() {
    std::fprintf(stderr, "a session was not found\n");
    std::exit(1);
}

// `order` names the sessions one after the other; consecutive ones have nothing to do with each
// other.
double find_ns(const Zone& zone, const std::vector<sg::Handle>& order, std::size_t finds) {
    std::array<std::uint8_t, 512> record;
    std::size_t next = 0;
    return nanoseconds(finds, [&](std::size_t) {
        sg::SessionView view;
        if (zone.table().find(order[next], view, record) != sg::FindResult::found) {
            not_found();
        }
        next = next + 1 < order.size() ? next + 1 : 0;
    });
}

// What the machine takes for one read of such memory, each at a place that the one before told: no
// look-up that misses the caches can be quicker.
double read_ns(std::size_t bytes, std::size_t reads) {
    const std::size_t words = bytes / sizeof(std::uint64_t);
    void* const memory =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    auto* const word = static_cast<std::uint64_t*>(memory);
    for (std::size_t i = 0; i < words; ++i) {
        word[i] = random_word();
    }
    // Multiply-shift, as in the table: a division would take longer than the hash.
    const auto place = [words](std::uint64_t hash) {
        return static_cast<std::size_t>((static_cast<unsigned __int128>(hash) * words) >> 64);
    };
    std::uint64_t at = 1;
    const double spent = nanoseconds(
        reads, [&](std::size_t i) { at = word[place((at ^ i) * 0x9e3779b97f4a7c15u)]; });
    munmap(memory, bytes);
    return at != 0 ? spent : 0;
}

sg::Realm realm_of(const Zone& zone, const sg::KeyRing& keys) {
    sg::Realm realm;
    realm.name = "app";
    realm.keys = &keys;
    realm.table = &zone.table();
    realm.timeouts = {.idle = 900 * sg::kSecond, .absolute = 8 * 3600 * sg::kSecond};
    return realm;
}

void begin_or_die(const sg::Realm& realm, std::string_view text) {
    std::array<std::uint8_t, sg::kTypicalRecordBytes> record;
    sg::Candidates candidates;
    candidates.values[0] = text;
    candidates.count = 1;
    if (sg::begin(realm, candidates, kNow, record).status != sg::Status::valid) {
        not_found();
    }
}

struct Spread {
    double least = 0;
    double median = 0;
};

template <typename Round>
Spread rounds(int times, Round round) {
    std::vector<double> all;
    all.reserve(static_cast<std::size_t>(times));
    for (int i = 0; i < times; ++i) {
        all.push_back(round());
    }
    std::sort(all.begin(), all.end());
    return {all.front(), all[all.size() / 2]};
}

// The same in as many processes at once as there are cores; the mean of them.
double in_processes(int processes, const Zone& zone, const std::vector<sg::Handle>& order,
                    std::size_t finds) {
    int ends[2];
    if (pipe(ends) != 0) {
        std::exit(2);
    }
    for (int i = 0; i < processes; ++i) {
        if (fork() == 0) {
            const double spent = find_ns(zone, order, finds);
            _exit(write(ends[1], &spent, sizeof spent) == sizeof spent ? 0 : 1);
        }
    }
    double sum = 0;
    for (int i = 0; i < processes; ++i) {
        double spent = 0;
        if (read(ends[0], &spent, sizeof spent) != sizeof spent) {
            std::exit(2);
        }
        sum += spent;
        wait(nullptr);
    }
    close(ends[0]);
    close(ends[1]);
    return sum / processes;
}

std::vector<sg::Handle> shuffled_handles(const Sessions& sessions, std::size_t count) {
    std::vector<sg::Handle> order;
    for (std::size_t i = 0; i < count; ++i) {
        order.push_back(sessions.tokens[i].handle);
    }
    for (std::size_t i = count; i > 1; --i) {
        std::swap(order[i - 1], order[random_word() % i]);
    }
    return order;
}

void print(const char* name, const Spread& spread) {
    std::printf(",\"%s\":{\"least\":%.1f,\"median\":%.1f}", name, spread.least, spread.median);
}

int measure(std::size_t count, std::size_t finds, int times) {
    const std::vector<std::uint8_t> record = typical_record();
    const Sessions sessions(count);
    std::printf("{\"sessions\":%zu,\"record_bytes\":%zu,\"bytes_computed\":%zu", count,
                record.size(), sg::Table::bytes_per_session(record.size()));
    std::printf(",\"bytes_measured\":%.1f", smallest_zone(sessions, record));
    std::printf(",\"bytes_longer_record\":%zu", sg::Table::bytes_per_session(record.size() + 2));

    const Zone zone(count * 320);
    std::size_t fit = fill(zone, sessions, record);
    std::printf(",\"fit_in_320\":%zu,\"cells_in_320\":%llu", fit,
                static_cast<unsigned long long>(zone.table().stats().cells_total));
    std::fflush(stdout);

    const auto random = shuffled_handles(sessions, fit);
    const auto hot = shuffled_handles(sessions, std::min<std::size_t>(1000, fit));
    const int cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
    sg::KeyRing keys;  // not asked for a session that is found
    const sg::Realm realm = realm_of(zone, keys);
    print("find_hot_ns", rounds(times, [&] { return find_ns(zone, hot, finds); }));
    print("find_random_ns", rounds(times, [&] { return find_ns(zone, random, finds); }));
    print("find_hot_all_cores_ns",
          rounds(times, [&] { return in_processes(cores, zone, hot, finds); }));
    print("find_random_all_cores_ns",
          rounds(times, [&] { return in_processes(cores, zone, random, finds); }));
    print("begin_hot_ns", rounds(times, [&] {
              return nanoseconds(finds, [&](std::size_t i) {
                  const auto& text = sessions.texts[i % hot.size()];
                  begin_or_die(realm, {text.data(), text.size()});
              });
          }));
    print("one_read_ns", rounds(3, [&] { return read_ns(count * 320, finds); }));
    std::printf(",\"cores\":%d}\n", cores);
    return 0;
}

int loop(std::size_t finds) {
    const Sessions sessions(16);
    const Zone zone(64 * 1024);
    const auto record = typical_record();
    sg::KeyRing keys;
    const sg::Realm realm = realm_of(zone, keys);
    if (fill(zone, sessions, record) != sessions.tokens.size()) {
        return 1;
    }
    for (std::size_t i = 0; i < finds; ++i) {
        begin_or_die(realm, {sessions.texts[7].data(), sg::kTokenChars});
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view mode = argc > 1 ? argv[1] : "";
    if (mode == "measure" && argc == 5) {
        return measure(std::strtoull(argv[2], nullptr, 10), std::strtoull(argv[3], nullptr, 10),
                       std::atoi(argv[4]));
    }
    if (mode == "loop" && argc == 3) {
        return loop(std::strtoull(argv[2], nullptr, 10));
    }
    std::fprintf(stderr, "usage: lookup measure SESSIONS FINDS ROUNDS | lookup loop FINDS\n");
    return 2;
}
