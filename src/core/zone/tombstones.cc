#include "core/zone/tombstones.h"

#include <algorithm>

namespace sg {
namespace {

constexpr int kTries = 100;

std::uint64_t pack(Departure why, TimeMs until) noexcept {
    return static_cast<std::uint64_t>(std::max<TimeMs>(until, 0)) << 8 |
           static_cast<std::uint64_t>(why);
}

TimeMs until_of(std::uint64_t packed) noexcept {
    return static_cast<TimeMs>(packed >> 8);
}

// The same handle's entry, else an empty one, else the one that ends soonest.
Tombstone& place_for(TombstoneSet& set, HandleWords words) noexcept {
    Tombstone* place = &set.entries[0];
    for (Tombstone& entry : set.entries) {
        if (entry.handle[0].load() == words.low && entry.handle[1].load() == words.high) {
            return entry;
        }
        if (entry.until_and_why.load() < place->until_and_why.load()) {
            place = &entry;
        }
    }
    return *place;
}

bool known_departure(std::uint64_t why) noexcept {
    return why >= static_cast<std::uint64_t>(Departure::ended) &&
           why <= static_cast<std::uint64_t>(Departure::expired_absolute);
}

}  // namespace

void write_tombstone(const ShardView& shard, HandleWords words, std::uint64_t hash, Departure why,
                     TimeMs until) noexcept {
    TombstoneSet& set = tombstone_set_of(shard, hash);
    Tombstone& entry = place_for(set, words);
    set.sequence.begin_write();
    entry.handle[0].store(words.low);
    entry.handle[1].store(words.high);
    entry.until_and_why.store(pack(why, until));
    set.sequence.end_write();
}

std::optional<Departure> read_tombstone(const ShardView& shard, HandleWords words,
                                        std::uint64_t hash, TimeMs now) noexcept {
    const TombstoneSet& set = tombstone_set_of(shard, hash);
    for (int i = 0; i < kTries; ++i) {
        const std::uint32_t begun = set.sequence.begin_read();
        std::uint64_t packed = 0;
        for (const Tombstone& entry : set.entries) {
            if (entry.handle[0].load() == words.low && entry.handle[1].load() == words.high) {
                packed = entry.until_and_why.load();
            }
        }
        if (!set.sequence.unchanged(begun)) {
            continue;
        }
        const std::uint64_t why = packed & 0xff;
        if (!known_departure(why) || until_of(packed) <= now) {
            return std::nullopt;
        }
        return static_cast<Departure>(why);
    }
    return std::nullopt;  // a hint only: the refusal is then called `absent`
}

void repair_tombstones(const ShardView& shard) noexcept {
    for (std::uint32_t i = 0; i < shard.header->tombstone_sets; ++i) {
        TombstoneSet& set = shard.sets[i];
        if (!set.sequence.is_odd()) {
            continue;
        }
        for (Tombstone& entry : set.entries) {
            entry.until_and_why.store(0);
        }
        set.sequence.end_write();
    }
}

}  // namespace sg
