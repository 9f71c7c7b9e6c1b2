#include "store/memcached_exchange.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace sg {
namespace {

using Said = MemcachedLink::Said;

constexpr std::size_t kLargestValue = kMaxEntryBytes + kSealBytes;

StoreFault fault_of(Said said) noexcept {
    switch (said) {
        case Said::unreachable:
            return StoreFault::unreachable;
        case Said::timed_out:
            return StoreFault::timed_out;
        default:
            return StoreFault::protocol;
    }
}

}  // namespace

bool MemcachedExchange::open(const MemcachedConf& conf, const SealKeys& keys) noexcept {
    connect_timeout_ = conf.connect_timeout;
    timeout_ = conf.timeout;
    servers_ = conf.count;
    if (keys.count == 0) {
        return false;
    }
    // The last key of the file is the oldest, so that all nodes can read it while a new one is
    // being handed out.
    canary_.open(conf.canary, keys.keys[keys.count - 1].id, conf.reseeding);
    for (std::size_t i = 0; i < servers_; ++i) {
        if (!links_[i].open(conf.servers[i], connect_timeout_)) {
            return false;
        }
    }
    return true;
}

TimeMs MemcachedExchange::wall_now() const noexcept {
    return now_ + (steady_ms() - steady_begin_);
}

// A server whose turn comes after a slow one's has had the time to answer, but perhaps not the
// room.
TimeMs MemcachedExchange::time_left() const noexcept {
    const TimeMs now = steady_ms();
    const TimeMs of_round = std::max(round_end_ - now, timeout_ / 4);
    return std::clamp<TimeMs>(steady_end_ - now, 0, of_round);
}

// Time for a server that fails and for another that is slow.
void MemcachedExchange::begin(TimeMs now) noexcept {
    now_ = now;
    steady_begin_ = steady_ms();
    steady_end_ = steady_begin_ + 2 * (connect_timeout_ + timeout_);
    std::fill_n(turns_.begin(), servers_, Turn{});
}

bool MemcachedExchange::is_up(std::size_t server) noexcept {
    Turn& turn = turns_[server];
    if (turn.may == May::unasked) {
        const bool allowed = health_.breakers[server].allows(wall_now());
        turn.may = allowed ? May::yes : May::no;
        turn.down = !allowed;
        if (!allowed) {
            count_fault(health_, StoreFault::breaker_open);
        }
    }
    return !turn.down;
}

void MemcachedExchange::succeeded(std::size_t server) noexcept {
    if (!turns_[server].told) {
        turns_[server].told = true;
        health_.breakers[server].succeeded();
    }
}

void MemcachedExchange::failed(std::size_t server, Said said) noexcept {
    links_[server].drop();
    turns_[server].down = true;
    health_.breakers[server].failed(wall_now());
    count_fault(health_, fault_of(said));
}

void MemcachedExchange::put(std::size_t server, const MemcachedName& name, ByteView value,
                            TimeMs expires, std::uint64_t cas) noexcept {
    put_until(server, name, value, memcached_expiry(expires, now_), cas);
}

void MemcachedExchange::put_for_ever(std::size_t server, const MemcachedName& name, ByteView value,
                                     std::uint64_t cas) noexcept {
    put_until(server, name, value, 0, cas);
}

void MemcachedExchange::put_until(std::size_t server, const MemcachedName& name, ByteView value,
                                  std::int64_t expiry, std::uint64_t cas) noexcept {
    if (!is_up(server)) {
        return;
    }
    const std::string_view text(name.data(), name.size());
    if (!links_[server].put(text, value, expiry, cas, timeout_)) {
        failed(server, Said::timed_out);
    }
}

bool MemcachedExchange::clear(std::size_t most) noexcept {
    count_ = 0;
    values_.clear();
    if (most + servers_ <= room_) {
        return true;
    }
    room_ = 0;
    const std::size_t room = most + servers_;
    questions_.reset(new (std::nothrow) Question[room]);
    names_.reset(new (std::nothrow) const char*[room]);
    sizes_.reset(new (std::nothrow) std::size_t[room]);
    order_.reset(new (std::nothrow) std::uint32_t[room]);
    if (questions_ == nullptr || names_ == nullptr || sizes_ == nullptr || order_ == nullptr) {
        return false;
    }
    std::fill_n(sizes_.get(), room, kMemcachedNameSize);
    room_ = room;
    return true;
}

void MemcachedExchange::ask(std::size_t server, const MemcachedName& name) noexcept {
    questions_[count_++] = {.name = name.data(),
                            .server = static_cast<std::uint8_t>(server),
                            .found = false,
                            .cas = 0,
                            .place = {}};
}

void MemcachedExchange::sort_questions() noexcept {
    for (std::size_t i = 0; i < servers_; ++i) {
        turns_[i].count = 0;
        turns_[i].answered = false;
        turns_[i].certain = false;
    }
    for (std::size_t i = 0; i < count_; ++i) {
        ++turns_[questions_[i].server].count;
    }
    std::size_t at = 0;
    for (std::size_t i = 0; i < servers_; ++i) {
        turns_[i].first = at;
        at += turns_[i].count;
        names_[at++] = canary_.name().data();
        turns_[i].count = 0;
    }
    for (std::size_t i = 0; i < count_; ++i) {
        Turn& turn = turns_[questions_[i].server];
        names_[turn.first + turn.count] = questions_[i].name;
        order_[turn.first + turn.count++] = static_cast<std::uint32_t>(i);
    }
}

void MemcachedExchange::run() noexcept {
    sort_questions();
    round_end_ = steady_end_;
    for (std::size_t i = 0; i < servers_; ++i) {
        Turn& turn = turns_[i];
        if (turn.count > 0 && !turn.down && !send(i)) {
            turn.count = 0;
        }
    }
    round_end_ = steady_ms() + timeout_;
    for (std::size_t i = 0; i < servers_; ++i) {
        if (turns_[i].count > 0 && !turns_[i].down) {
            collect(i);
        }
    }
}

// False: the server has failed.
bool MemcachedExchange::send(std::size_t server) noexcept {
    const Turn& turn = turns_[server];
    const std::span<const char* const> names(names_.get() + turn.first, turn.count + 1);
    for (;;) {
        const Said said = links_[server].ask(names, sizes_.get(), timeout_);
        if (said == Said::ok) {
            return true;
        }
        if (!may_retry(server, said)) {
            failed(server, said);
            return false;
        }
    }
}

void MemcachedExchange::collect(std::size_t server) noexcept {
    Turn& turn = turns_[server];
    for (;;) {
        const Said said = read_all(server);
        if (said == Said::end) {
            turn.answered = true;
            succeeded(server);
            return;
        }
        if (!may_retry(server, said)) {
            failed(server, said);
            return;
        }
        if (!send(server)) {
            return;
        }
    }
}

// An old connection whose server was restarted, a mixed-up one, or a server without a canary.
bool MemcachedExchange::may_retry(std::size_t server, Said said) noexcept {
    Turn& turn = turns_[server];
    links_[server].drop();
    if (said == Said::nothing && !turn.seeded) {
        turn.seeded = true;
        return put_canary(server, 0);
    }
    if (said == Said::timed_out || turn.retried || !has_time()) {
        return false;
    }
    turn.retried = true;
    return true;
}

bool MemcachedExchange::put_canary(std::size_t server, std::uint64_t cas) noexcept {
    ByteArena::Place place;
    if (!canary_.make(codec_, wall_now(), values_, place)) {
        return false;
    }
    const MemcachedName& name = canary_.name();
    // Without an end: what expires would look like a server that came up empty.
    const bool sent =
        links_[server].put({name.data(), name.size()}, values_.view(place), 0, cas, timeout_);
    values_.give_back(place);
    return sent;
}

// `end`: everything that was asked for has been answered. `nothing`: without the canary.
Said MemcachedExchange::read_all(std::size_t server) noexcept {
    Turn& turn = turns_[server];
    turn.has_canary = false;
    for (std::size_t i = 0; i < turn.count; ++i) {
        questions_[order_[turn.first + i]].found = false;
    }
    MemcachedLink::Value value;
    Said said = Said::ok;
    for (std::size_t next = 0;;) {
        said = links_[server].next(time_left(), value);
        if (said != Said::ok) {
            break;
        }
        if (!take(turn, value, next)) {
            count_fault(health_, StoreFault::wrong_key);
            return Said::protocol;
        }
    }
    if (said != Said::end) {
        return said;
    }
    if (!turn.has_canary) {
        return Said::nothing;
    }
    const auto tells = canary_.look(codec_, server, values_.view(turn.canary), now_);
    turn.certain = tells == MemcachedCanary::Tells::certain;
    if (tells != MemcachedCanary::Tells::damaged) {
        health_.born[server].store(canary_.born(server), std::memory_order_relaxed);
    }
    if (tells == MemcachedCanary::Tells::damaged && !turn.seeded) {
        turn.seeded = true;
        put_canary(server, turn.canary_cas);
    }
    return Said::end;
}

// Values come in the order they were asked for, without those that are not there. False: nobody
// asked for that, or it has come already.
bool MemcachedExchange::take(Turn& turn, const MemcachedLink::Value& value,
                             std::size_t& next) noexcept {
    if (value.name.size() != kMemcachedNameSize) {
        return false;
    }
    const auto has_name = [&](std::size_t i) {
        return std::memcmp(names_[turn.first + i], value.name.data(), kMemcachedNameSize) == 0;
    };
    for (std::size_t tries = 0; tries <= turn.count; ++tries) {
        const std::size_t i = next;
        next = next < turn.count ? next + 1 : 0;
        if (!has_name(i)) {
            continue;
        }
        if (i == turn.count) {
            const bool again = turn.has_canary;
            turn.has_canary = true;
            turn.canary_cas = value.cas;
            return !again && keep(value, turn.canary);
        }
        Question& question = questions_[order_[turn.first + i]];
        const bool again = question.found;
        question.found = true;
        question.cas = value.cas;
        return !again && keep(value, question.place);
    }
    return false;
}

// A value that is too large is kept as an empty one: it cannot be read either.
bool MemcachedExchange::keep(const MemcachedLink::Value& value, ByteArena::Place& place) noexcept {
    const ByteView bytes = value.bytes.size() <= kLargestValue ? value.bytes : ByteView();
    return values_.append(bytes, place);
}

}  // namespace sg
