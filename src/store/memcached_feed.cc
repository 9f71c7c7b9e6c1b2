#include "store/memcached_feed.h"

#include <openssl/rand.h>

#include <algorithm>

namespace sg {
namespace {

constexpr TimeMs kSlotLife = kHour;
constexpr int kMostRounds = 8;         // of looking for a free number
constexpr std::uint64_t kRing = 4096;  // slots that a node reads up; beyond, it is a gap

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

void MemcachedFeed::put_head(std::size_t server, const FeedPosition& head,
                             std::uint64_t cas) noexcept {
    std::array<std::uint8_t, kFeedFixedBytes> plain;
    encode_feed_head(head, plain);
    ByteArena::Place place;
    if (codec_.seal_bytes(key_, kFeedKind, key_id_, plain, sealed_, place)) {
        exchange_.put_for_ever(server, head_name_, sealed_.view(place), cas);
    }
}

// A server without a head, or with one that cannot be read, begins a new epoch.
void MemcachedFeed::make_head(std::size_t server, std::uint64_t cas) noexcept {
    FeedPosition head;
    std::array<std::uint8_t, sizeof head.epoch> epoch;
    if (RAND_bytes(epoch.data(), static_cast<int>(epoch.size())) == 1) {
        head.epoch = std::max<std::uint64_t>(load_le<std::uint64_t>(epoch.data()), 1);
        put_head(server, head, cas);
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
        next_[i].landed = false;  // what an earlier batch had no time for
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
                try_next(i, now);
                ask(i, next_[i].at);
            }
        }
        if (!goes_on) {
            return;
        }
        exchange_.run();
        for (std::size_t i = 0; i < servers_; ++i) {
            if (turns_[i].asked && exchange_.has_answered(i)) {
                hear_tried(i);
            }
        }
    }
}

// Takes the next number, where it is known; or has the head come as far.
void MemcachedFeed::try_next(std::size_t server, TimeMs now) noexcept {
    Turn& turn = turns_[server];
    Next& next = next_[server];
    if (next.landed) {
        put_head(server, {next.at.epoch, next.at.number, next.own_chain}, next.cas);
        return;
    }
    std::array<std::uint8_t, kMaxFeedBytes> plain;
    const std::size_t size =
        next.at.epoch != 0
            ? encode_feed_slot(next.at, std::span(turn.notes).first(turn.count), plain)
            : 0;
    turn.tried = size != 0 && codec_.seal_bytes(slot_key(next.at), kFeedKind, key_id_,
                                                ByteView(plain).first(size), sealed_, turn.own);
    if (turn.tried) {
        const MemcachedName name = memcached_name(MemcachedSlot::feed_slot, slot_key(next.at));
        exchange_.put(server, name, sealed_.view(turn.own), now + kSlotLife, 0);
        next.own_chain = feed_chain(sealed_.view(turn.own));
    }
}

bool MemcachedFeed::is_own_slot(const Turn& turn) const noexcept {
    const MemcachedExchange::Question& slot = exchange_[turn.question + 1];
    return turn.tried && slot.found &&
           std::ranges::equal(exchange_.value(slot), sealed_.view(turn.own));
}

void MemcachedFeed::hear_tried(std::size_t server) noexcept {
    Turn& turn = turns_[server];
    Next& next = next_[server];
    const MemcachedExchange::Question& of_head = exchange_[turn.question];
    FeedPosition head;
    if (!of_head.found || !open_head(of_head, head)) {
        make_head(server, of_head.cas);
        next = {};
        return;
    }
    next.cas = of_head.cas;
    if (head.epoch != next.at.epoch || head.number >= next.at.number) {
        // A slot that went in when the head had long been past it is read by nobody.
        turn.told = head.epoch == next.at.epoch && next.landed;
        next = {.at = {head.epoch, head.number + 1, head.chain}, .cas = of_head.cas};
    } else if (!next.landed) {
        next.landed = is_own_slot(turn);
        pass_others(turn, next);
    }
}

// Behind what others have told, and the head does not say yet.
void MemcachedFeed::pass_others(const Turn& turn, Next& next) const noexcept {
    for (std::size_t i = 0; !next.landed && i < kWindow; ++i) {
        const MemcachedExchange::Question& slot = exchange_[turn.question + 1 + i];
        if (!slot.found) {
            return;
        }
        ++next.at.number;
        next.at.chain = feed_chain(exchange_.value(slot));
    }
}

FeedHeard MemcachedFeed::listen(std::span<FeedPlace> places, std::span<FeedNote> notes,
                                std::size_t& count) noexcept {
    count = 0;
    sealed_.clear();
    if (places.size() < servers_ || !exchange_.clear(servers_ * (1 + kWindow))) {
        return FeedHeard::unknown;
    }
    for (std::size_t i = 0; i < servers_; ++i) {
        turns_[i].asked = false;
        if (exchange_.is_up(i)) {
            ask(i, {places[i].epoch, places[i].next, places[i].chain});
        }
    }
    exchange_.run();
    bool gap = false;
    bool more = false;
    bool unknown = false;
    for (std::size_t i = 0; i < servers_; ++i) {
        const bool answered = turns_[i].asked && exchange_.has_answered(i);
        const FeedHeard heard = answered ? hear(i, places[i], notes, count) : FeedHeard::unknown;
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
                              std::size_t& count) noexcept {
    const std::size_t question = turns_[server].question;
    const MemcachedExchange::Question& of_head = exchange_[question];
    FeedPosition head;
    if (!of_head.found || !open_head(of_head, head)) {
        make_head(server, of_head.cas);
        return FeedHeard::unknown;
    }
    const bool in_reach = head.epoch == place.epoch && place.next > 0 &&
                          place.next <= head.number + 1 && head.number - place.next + 1 <= kRing;
    const FeedHeard heard =
        in_reach ? hear_slots(question + 1, head, place, notes, count) : FeedHeard::gap;
    if (heard == FeedHeard::gap) {
        place = {head.epoch, head.number + 1, head.chain};
    }
    return heard;
}

FeedHeard MemcachedFeed::hear_slots(std::size_t question, const FeedPosition& head,
                                    FeedPlace& place, std::span<FeedNote> notes,
                                    std::size_t& count) noexcept {
    for (std::size_t i = 0; i < kWindow && place.next <= head.number; ++i) {
        const MemcachedExchange::Question& slot = exchange_[question + i];
        const std::span<FeedNote> room = notes.subspan(count);
        const auto told = slot.found ? open_slot(slot, {place.epoch, place.next, place.chain}, room)
                                     : std::optional<std::size_t>();
        if (!told.has_value()) {
            return FeedHeard::gap;
        }
        if (told.value() > room.size()) {
            return FeedHeard::more;
        }
        count += told.value();
        ++place.next;
        place.chain = feed_chain(exchange_.value(slot));
    }
    if (place.next <= head.number) {
        return FeedHeard::more;
    }
    return place.chain == head.chain ? FeedHeard::whole : FeedHeard::gap;
}

}  // namespace sg
