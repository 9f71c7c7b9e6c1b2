#include "store/memcached_feed.h"

#include <openssl/rand.h>

#include <algorithm>

namespace sg {
namespace {

constexpr TimeMs kSlotLife = kHour;
constexpr int kMostRounds = 8;                 // of looking for a free number
constexpr std::uint64_t kFurthestBack = 4096;  // slots that a node reads up; beyond, it is a gap

}  // namespace

void MemcachedFeed::open(const MemcachedConf& conf, std::uint8_t key_id) noexcept {
    servers_ = conf.count;
    key_ = conf.canary;
    key_id_ = key_id;
    head_name_ = memcached_name(MemcachedSlot::feed_head, key_);
}

// Slots of another epoch have other names.
StoreKey MemcachedFeed::slot_key(const FeedPosition& at) const noexcept {
    StoreKey key = key_;
    store_le(key.data(), load_le<std::uint64_t>(key.data()) ^ at.epoch);
    store_le(key.data() + 8, load_le<std::uint64_t>(key.data() + 8) ^ at.number);
    return key;
}

bool MemcachedFeed::open_head(const MemcachedExchange::Question& question,
                              FeedPosition& head) noexcept {
    std::array<std::uint8_t, kMaxFeedBytes> plain;
    const ByteView bytes = codec_.open_bytes(key_, kFeedKind, exchange_.value(question), plain);
    const auto decoded = decode_feed_head(bytes);
    head = decoded.value_or(FeedPosition{});
    return decoded && head.epoch != 0;
}

std::optional<std::size_t> MemcachedFeed::open_slot(const MemcachedExchange::Question& question,
                                                    const FeedPosition& at,
                                                    std::span<FeedNote> notes) noexcept {
    std::array<std::uint8_t, kMaxFeedBytes> plain;
    const ByteView bytes =
        codec_.open_bytes(slot_key(at), kFeedKind, exchange_.value(question), plain);
    return decode_feed_slot(bytes, at, notes);
}

// Only ever forward: with the cas of the head that was read.
void MemcachedFeed::put_head(std::size_t server, const FeedPosition& head, std::uint64_t cas,
                             TimeMs) noexcept {
    std::array<std::uint8_t, kFeedFixedBytes> plain;
    encode_feed_head(head, plain);
    ByteArena::Place place;
    if (codec_.seal_bytes(key_, kFeedKind, key_id_, plain, sealed_, place)) {
        exchange_.put_for_ever(server, head_name_, sealed_.view(place), cas);
    }
}

// A server without a head, or with one that cannot be read, begins a new epoch.
void MemcachedFeed::make_head(std::size_t server, std::uint64_t cas, TimeMs now) noexcept {
    FeedPosition head;
    std::array<std::uint8_t, sizeof head.epoch> epoch;
    if (RAND_bytes(epoch.data(), static_cast<int>(epoch.size())) == 1) {
        head.epoch = std::max<std::uint64_t>(load_le<std::uint64_t>(epoch.data()), 1);
        put_head(server, head, cas, now);
    }
}

void MemcachedFeed::ask(std::size_t server, const FeedPosition& from) noexcept {
    Turn& turn = turns_[server];
    turn.question = exchange_.count();
    turn.asked = true;
    exchange_.ask(server, head_name_);
    for (std::size_t i = 0; i < kWindow; ++i) {
        turn.names[i] = memcached_name(MemcachedSlot::feed_slot,
                                       slot_key({.epoch = from.epoch, .number = from.number + i}));
        exchange_.ask(server, turn.names[i]);
    }
}

void MemcachedFeed::clear() noexcept {
    count_ = 0;
    for (std::size_t i = 0; i < servers_; ++i) {
        turns_[i].count = 0;
        turns_[i].told = false;
    }
}

void MemcachedFeed::add(std::size_t server, const FeedNote& note) noexcept {
    Turn& turn = turns_[server];
    if (turn.count < turn.notes.size()) {
        turn.notes[turn.count++] = note;
        ++count_;
    }
}

void MemcachedFeed::tell(TimeMs now) noexcept {
    for (int round = 0; round < kMostRounds && exchange_.has_time(); ++round) {
        sealed_.clear();
        if (!exchange_.clear(servers_ * (1 + kWindow))) {
            return;
        }
        bool goes_on = false;
        for (std::size_t i = 0; i < servers_; ++i) {
            Turn& turn = turns_[i];
            turn.asked = false;
            turn.tried = false;
            if (turn.count > 0 && !turn.told && exchange_.is_up(i)) {
                goes_on = true;
                try_slot(i, now);
                ask(i, next_[i]);
            }
        }
        if (!goes_on) {
            return;
        }
        exchange_.run();
        for (std::size_t i = 0; i < servers_; ++i) {
            if (turns_[i].asked && exchange_.has_answered(i)) {
                hear_tried(i, now);
            }
        }
    }
}

// Takes the next number, if it is known and nobody else takes it.
void MemcachedFeed::try_slot(std::size_t server, TimeMs now) noexcept {
    Turn& turn = turns_[server];
    const FeedPosition& at = next_[server];
    std::array<std::uint8_t, kMaxFeedBytes> plain;
    const std::size_t size =
        at.epoch != 0 ? encode_feed_slot(at, std::span(turn.notes).first(turn.count), plain) : 0;
    turn.tried = size != 0 && codec_.seal_bytes(slot_key(at), kFeedKind, key_id_,
                                                ByteView(plain).first(size), sealed_, turn.own);
    if (turn.tried) {
        const MemcachedName name = memcached_name(MemcachedSlot::feed_slot, slot_key(at));
        exchange_.put(server, name, sealed_.view(turn.own), now + kSlotLife, 0);
    }
}

void MemcachedFeed::hear_tried(std::size_t server, TimeMs now) noexcept {
    Turn& turn = turns_[server];
    const MemcachedExchange::Question& of_head = exchange_[turn.question];
    FeedPosition head;
    if (!of_head.found || !open_head(of_head, head)) {
        make_head(server, of_head.cas, now);
        next_[server] = {};
        return;
    }
    FeedPosition& next = next_[server];
    // A number that the head has left behind was taken again after its slot had gone: nobody reads
    // it.
    if (head.epoch != next.epoch || next.number <= head.number) {
        next = {.epoch = head.epoch, .number = head.number + 1};
        return;
    }
    for (std::size_t i = 0; i < kWindow; ++i) {
        const MemcachedExchange::Question& slot = exchange_[turn.question + 1 + i];
        const bool is_own = i == 0 && turn.tried && slot.found &&
                            std::ranges::equal(exchange_.value(slot), sealed_.view(turn.own));
        if (is_own) {
            turn.told = true;
            put_head(server, next, of_head.cas, now);
        }
        if (!slot.found) {
            return;  // the first free one
        }
        ++next.number;
        if (is_own) {
            return;
        }
    }
}

FeedHeard MemcachedFeed::listen(std::span<FeedPlace> places, std::span<FeedNote> notes,
                                std::size_t& count, TimeMs now) noexcept {
    count = 0;
    sealed_.clear();
    if (places.size() < servers_ || !exchange_.clear(servers_ * (1 + kWindow))) {
        return FeedHeard::unknown;
    }
    for (std::size_t i = 0; i < servers_; ++i) {
        turns_[i].asked = false;
        if (exchange_.is_up(i)) {
            ask(i, {.epoch = places[i].epoch, .number = places[i].next});
        }
    }
    exchange_.run();
    bool gap = false;
    bool more = false;
    bool unknown = false;
    for (std::size_t i = 0; i < servers_; ++i) {
        const bool answered = turns_[i].asked && exchange_.has_answered(i);
        const FeedHeard heard =
            answered ? hear(i, places[i], notes, count, now) : FeedHeard::unknown;
        gap = gap || heard == FeedHeard::gap;
        more = more || heard == FeedHeard::more;
        unknown = unknown || heard == FeedHeard::unknown;
    }
    if (gap) {
        return FeedHeard::gap;
    }
    if (unknown) {
        return FeedHeard::unknown;
    }
    return more ? FeedHeard::more : FeedHeard::whole;
}

// The head was read before the slots: all up to it must be there.
FeedHeard MemcachedFeed::hear(std::size_t server, FeedPlace& place, std::span<FeedNote> notes,
                              std::size_t& count, TimeMs now) noexcept {
    const std::size_t question = turns_[server].question;
    const MemcachedExchange::Question& of_head = exchange_[question];
    FeedPosition head;
    if (!of_head.found || !open_head(of_head, head)) {
        make_head(server, of_head.cas, now);
        return FeedHeard::unknown;
    }
    const bool in_reach = head.epoch == place.epoch && place.next > 0 &&
                          head.number + kFurthestBack >= place.next &&
                          place.next + kFurthestBack > head.number;
    const FeedHeard heard =
        in_reach ? hear_slots(question + 1, head, place, notes, count) : FeedHeard::gap;
    if (heard == FeedHeard::gap) {
        place = {.epoch = head.epoch, .next = std::max(head.number, in_reach ? place.next : 0) + 1};
    }
    return heard;
}

FeedHeard MemcachedFeed::hear_slots(std::size_t question, const FeedPosition& head,
                                    FeedPlace& place, std::span<FeedNote> notes,
                                    std::size_t& count) noexcept {
    for (std::size_t i = 0; i < kWindow; ++i) {
        const MemcachedExchange::Question& slot = exchange_[question + i];
        if (!slot.found) {
            const bool goes_on = i + 1 < kWindow && exchange_[question + i + 1].found;
            return place.next <= head.number || goes_on ? FeedHeard::gap : FeedHeard::whole;
        }
        const std::span<FeedNote> room = notes.subspan(count);
        const auto told = open_slot(slot, {.epoch = place.epoch, .number = place.next}, room);
        if (!told.has_value()) {
            return FeedHeard::gap;
        }
        if (told.value() > room.size()) {
            return FeedHeard::more;
        }
        count += told.value();
        ++place.next;
    }
    return FeedHeard::more;
}

}  // namespace sg
