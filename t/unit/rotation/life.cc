#include "unit/rotation/life.h"

#include <algorithm>
#include <cstdio>

#include "unit/support.h"

namespace sg::test {
namespace {

constexpr int kStepsOfALife = 250;
constexpr int kStepsAfterTheEnd = 12;
constexpr TimeMs kOverdue = 1;

model::Answer answer_of(const Outcome& outcome) {
    using enum model::Answer;
    switch (outcome.status) {
        case Status::valid:
            return outcome.session.restricted ? restricted : valid;
        case Status::ended:
            return ended;
        case Status::regenerated:
            return regenerated;
        case Status::expired_idle:
        case Status::expired_absolute:
            return expired;
        case Status::absent:
            return absent;
        case Status::store_unavailable:
            return unavailable;
        case Status::forged:
            return forged;
        default:
            return other;
    }
}

model::Got got_of(const Verdict& verdict) {
    return {.answer = answer_of(verdict.outcome),
            .reused = verdict.ended_it,
            .found = verdict.found,
            .absent = verdict.absent,
            .unknown = verdict.unknown};
}

std::string text_or_nothing(const std::optional<Token>& token) {
    return token ? std::string(std::string_view(text_of(*token))) : std::string();
}

}  // namespace

Life::Life(const KeyRing& keys, std::array<std::span<std::byte>, kMostFleetNodes> memories)
    : keys_(keys), memories_(memories), random_(fake_random) {}

std::uint64_t Life::draw(std::uint64_t below) {
    return (scramble(state_++) >> 16) % below;
}

TimeMs Life::between(TimeMs from, TimeMs to) {
    return from + static_cast<TimeMs>(draw(static_cast<std::uint64_t>(to - from) + 1));
}

void Life::choose_conf() {
    constexpr std::array<TimeMs, 3> kGraces{10 * kSecond, 30 * kSecond, 59 * kSecond};
    conf_ = {};
    conf_.has_store = chance(800);
    conf_.nodes = conf_.has_store && chance(750) ? 2 : 1;
    conf_.has_feed = conf_.nodes == 2 && chance(500);
    conf_.rotate = kMinute;
    conf_.grace = kGraces[draw(kGraces.size())];
    conf_.revalidate = chance(500) ? 5 * kSecond : kSecond;
    conf_.store_grace = chance(500) ? 5 * kMinute : 0;
    conf_.timeouts = {.idle = 30 * kMinute, .absolute = 3 * kHour};
    has_thief_ = chance(500);
    has_outages_ = conf_.has_store && chance(400);
    has_long_requests_ = chance(400);
    has_two_cookies_ = chance(250);
    writes_late_ = chance(500);
}

void Life::log_in() {
    model_.start({.nodes = conf_.nodes,
                  .has_store = conf_.has_store,
                  .rotate = conf_.rotate,
                  .grace = conf_.grace,
                  .idle = conf_.timeouts.idle,
                  .absolute = conf_.timeouts.absolute,
                  .bound = conf_.revalidate,
                  .blind = conf_.store_grace,
                  .late = conf_.timeouts.idle / 10 + 3 * kMinute,
                  .window = kRegenerationWindow,
                  .rounding = kSecond});
    const int node = static_cast<int>(draw(static_cast<std::uint64_t>(conf_.nodes)));
    people_[0].jar = text_or_nothing(node_at(node).login(random_, now_));
    model_.login(node, now_, people_[0].jar);
    note("login", node, name(people_[0].jar));
    write(node);  // a login waits for the store
}

model::Broken Life::run(std::uint64_t number, bool traced) {
    state_ = scramble(number);
    random_state = state_;
    random_ = RandomPool{fake_random};
    is_traced_ = traced;
    broken_ = nullptr;
    trace.clear();
    flights_.clear();
    people_ = {};
    now_ = kNow;
    renewed_at_ = 0;
    write_at_ = {};
    polled_at_ = {};
    blind_until_ = {};
    store_.entries.clear();
    store_.feed.clear();
    choose_conf();
    for (int i = 0; i < conf_.nodes; ++i) {
        const auto at = static_cast<std::size_t>(i);
        nodes_[at].start(conf_, i, store_, keys_, memories_[at]);
        poll_at_[at] = now_;
    }
    log_in();
    for (steps_left_ = kStepsOfALife; steps_left_ > 0 && broken_ == nullptr; --steps_left_) {
        ++steps;
        step();
        if (model_.is_over(people_[0].jar)) {
            steps_left_ = std::min(steps_left_, kStepsAfterTheEnd);
        }
    }
    return broken_;
}

void Life::step() {
    const std::uint64_t kind = draw(1000);
    const TimeMs pause = kind < 700   ? between(0, 1500)
                         : kind < 950 ? between(5 * kSecond, 40 * kSecond)
                         : kind < 997 ? between(kMinute, 3 * kMinute)
                                      : between(5 * kMinute, 40 * kMinute);
    advance(now_ + pause);
    if (broken_ == nullptr) {
        act();
    }
}

void Life::advance(TimeMs to) {
    while (broken_ == nullptr && (end_outage(to) || run_next_event(to))) {
    }
    now_ = to;
}

// No other event comes before it.
bool Life::end_outage(TimeMs until) {
    for (int i = 0; i < conf_.nodes; ++i) {
        const TimeMs end = blind_until_[static_cast<std::size_t>(i)];
        if (node_at(i).reaches_store || end > until || run_next_event(end)) {
            continue;
        }
        now_ = std::max(now_, end);
        node_at(i).reaches_store = true;
        note("reaches the store", i, "");
        if (chance(500)) {
            node_at(i).reverse_writes();
        }
        return true;
    }
    return false;
}

// The earliest of what is due.
bool Life::run_next_event(TimeMs until) {
    TimeMs first = until + 1;
    std::size_t flight = flights_.size();
    for (std::size_t i = 0; i < flights_.size(); ++i) {
        if (flights_[i].at < first) {
            first = flights_[i].at;
            flight = i;
        }
    }
    int writer = -1;
    int poller = -1;
    for (int i = 0; i < conf_.nodes; ++i) {
        const auto at = static_cast<std::size_t>(i);
        if (nodes_[at].has_writes() && write_at_[at] == 0) {
            write_at_[at] = now_ + (writes_late_ ? between(0, 3 * kSecond) : kOverdue);
        }
        if (nodes_[at].has_writes() && nodes_[at].reaches_store && write_at_[at] < first) {
            first = write_at_[at];
            writer = i;
            poller = -1;
        }
        if (conf_.has_feed && poll_at_[at] < first) {
            first = poll_at_[at];
            poller = i;
        }
    }
    if (first > until) {
        return false;
    }
    now_ = std::max(now_, first);
    if (poller >= 0) {
        poll_at_[static_cast<std::size_t>(poller)] = now_ + between(100, 2000);
        node_at(poller).poll(now_);
        polled_at_[static_cast<std::size_t>(poller)] = now_;
    } else if (writer >= 0) {
        write(writer);
    } else {
        Flight going = std::move(flights_[flight]);
        flights_.erase(flights_.begin() + static_cast<std::ptrdiff_t>(flight));
        switch (going.phase) {
            case Flight::Phase::arrives:
                on_arrival(going);
                break;
            case Flight::Phase::answered:
                on_answer(going);
                break;
            case Flight::Phase::comes_back:
                on_return(going);
                break;
        }
    }
    return true;
}

void Life::write(int node) {
    write_at_[static_cast<std::size_t>(node)] = 0;
    node_at(node).write(random_, now_);
    if (conf_.has_store && !node_at(node).has_writes()) {
        model_.wrote(node, now_);
        note("wrote", node, "");
    }
}

void Life::act() {
    const std::uint64_t kind = draw(1000);
    if (kind < 700) {
        send(0);
    } else if (kind < 850) {
        if (has_thief_) {
            people_[1].jar.empty() || chance(20) ? steal() : send(1);
        }
    } else if (kind < 900) {
        forge();
    } else if (kind < 950) {
        people_[0].old = people_[0].jar;
    } else {
        disturb();
    }
}

void Life::steal() {
    if (chance(200) && !model_.is_over(people_[0].jar)) {
        people_[1].jar = people_[0].jar;
        model_.stolen(people_[1].jar);
        note("theft of", 0, name(people_[1].jar));
    }
}

void Life::send(std::size_t person) {
    Person& who = people_[person];
    if (who.in_flight == 5) {
        return;
    }
    ++who.in_flight;
    Flight flight;
    flight.person = person;
    flight.node = static_cast<int>(draw(static_cast<std::uint64_t>(conf_.nodes)));
    flight.cookies.push_back(who.jar);
    if (has_two_cookies_ && !who.old.empty() && who.old != who.jar &&
        model_.session(who.old) == model_.session(who.jar)) {
        flight.cookies.push_back(who.old);
        if (chance(500)) {
            std::swap(flight.cookies[0], flight.cookies[1]);
        }
        ++happened.two_cookies;
    }
    flight.at = now_ + (chance(500) ? 0 : between(0, 2 * kSecond));
    flight.works = chance(500)                         ? 0
                   : has_long_requests_ && chance(100) ? between(20 * kSecond, 5 * kMinute)
                                                       : between(0, kSecond);
    flight.way_back = chance(500) ? 0 : between(0, 3 * kSecond);
    flight.may_carry = chance(800);
    flight.is_lost = chance(80);
    const std::uint64_t wish = draw(1000);
    flight.wish = wish < 10   ? Wish::renew
                  : wish < 30 ? Wish::change
                  : wish < 33 ? Wish::logout
                              : Wish::page;
    flights_.push_back(std::move(flight));
}

void Life::forge() {
    const std::string& known =
        chance(500) || people_[1].jar.empty() ? people_[0].jar : people_[1].jar;
    Token token = parse_token(known).value();
    auto* const bytes = reinterpret_cast<std::uint8_t*>(&token);
    bytes[1 + draw(kTokenBytes - 1)] ^= static_cast<std::uint8_t>(1U << draw(8));
    const TokenText text = text_of(token);
    const std::string_view cookie = text;
    const int node = static_cast<int>(draw(static_cast<std::uint64_t>(conf_.nodes)));
    const Verdict verdict = node_at(node).request({&cookie, 1}, true, now_);
    ++happened.forged;
    note("forged", node, name(known));
    check(model_.forged(got_of(verdict)));
}

// The store: unreachable for a while, or it has lost something.
void Life::disturb() {
    if (!has_outages_) {
        return;
    }
    const int node = static_cast<int>(draw(static_cast<std::uint64_t>(conf_.nodes)));
    FleetNode& that = node_at(node);
    if (chance(50)) {
        const auto lost = parse_token(people_[0].jar).value();
        const auto entry = store_.find(lost.handle);
        if (entry && entry->kind == EntryKind::session && entry->superseded_until == 0) {
            store_.entries.erase(lost.handle);
            model_.store_lost(people_[0].jar);
            note("the store lost", 0, name(people_[0].jar));
        }
        return;
    }
    if (that.reaches_store) {
        that.reaches_store = false;
        blind_until_[static_cast<std::size_t>(node)] = now_ + between(kSecond, 2 * kMinute);
        note("does not reach the store", node, "");
    }
}

void Life::count(const Verdict& verdict) {
    const Outcome& outcome = verdict.outcome;
    const bool valid = outcome.status == Status::valid;
    ++happened.requests;
    happened.next += valid && outcome.session.holding == Holding::next;
    happened.previous += valid && outcome.session.holding == Holding::previous;
    happened.reuse += verdict.ended_it;
    happened.restricted += valid && outcome.session.restricted;
    happened.unavailable += outcome.status == Status::store_unavailable;
    happened.refused_elsewhere +=
        outcome.status == Status::ended && !verdict.ended_it && verdict.found;
}

void Life::on_arrival(Flight& flight) {
    std::array<std::string_view, 2> cookies;
    std::copy(flight.cookies.begin(), flight.cookies.end(), cookies.begin());
    FleetNode& node = node_at(flight.node);
    flight.verdict =
        node.request(std::span(cookies).first(flight.cookies.size()), flight.may_carry, now_);
    count(flight.verdict);
    if (is_traced_) {
        const Verdict& verdict = flight.verdict;
        std::string what = flight.person == 0 ? "browser:" : "thief:";
        for (const std::string& cookie : flight.cookies) {
            what += ' ' + name(cookie);
        }
        what += " -> ";
        what += status_name(verdict.outcome.status);
        what += verdict.outcome.session.restricted ? " restricted" : "";
        what += verdict.ended_it ? " REUSE" : "";
        what += verdict.found ? " (found)" : "";
        what += verdict.absent ? " (absent)" : "";
        what += verdict.unknown ? " (unknown)" : "";
        note("", flight.node, what);
    }
    check(model_.request(flight.node, now_, flight.cookies, got_of(flight.verdict), flight.ticket));
    if (polled_at_[static_cast<std::size_t>(flight.node)] == now_) {
        // What the feed tells in the millisecond in which the store is asked makes its answer
        // doubtful.
        flight.ticket.must_replace = false;
    }
    if (flight.ticket.passes && flight.wish == Wish::logout) {
        note("logout", flight.node, "");
        check(model_.logged_out(flight.node, now_, flight.ticket,
                                node.logout(flight.verdict.outcome.token, now_)));
    }
    flight.at = now_ + flight.works;
    flight.phase = Flight::Phase::answered;
    if (flight.works == 0) {
        on_answer(flight);
    } else {
        flights_.push_back(std::move(flight));
    }
}

// What the application asks for, and the Set-Cookie.
void Life::on_answer(Flight& flight) {
    FleetNode& node = node_at(flight.node);
    const bool may_command = flight.ticket.passes && !flight.ticket.restricted;
    if (flight.wish == Wish::change && may_command &&
        node.change(random_, flight.verdict.outcome.token, now_)) {
        model_.changed(flight.node, flight.ticket);
        note("change", flight.node, "");
    }
    if (flight.wish == Wish::renew && may_command) {
        renew(flight);
    }
    if (flight.set_cookie.empty()) {
        const auto token = node.respond(flight.verdict, now_);
        const std::string text = text_or_nothing(token);
        check(model_.response(flight.node, now_, flight.ticket, text, flight.may_carry,
                              flight.works == 0));
        if (token) {
            ++happened.rotations;
            note("hands out", flight.node, name(text));
        }
        flight.set_cookie = text;
    }
    flight.at = now_ + flight.way_back;
    flight.phase = Flight::Phase::comes_back;
    flights_.push_back(std::move(flight));
}

// Withheld until the store has it; its answer is not lost.
void Life::renew(Flight& flight) {
    const auto reaches = [](const FleetNode& node) { return node.reaches_store; };
    if (now_ < renewed_at_ + 4 * kSecond ||
        !std::all_of(nodes_.begin(), nodes_.begin() + conf_.nodes, reaches) ||
        model_.is_replaced(flight.ticket)) {
        return;
    }
    FleetNode& node = node_at(flight.node);
    const auto token = node.renew(random_, flight.verdict.outcome.token, now_);
    if (!token) {
        return;
    }
    ++happened.renewed;
    renewed_at_ = now_;
    flight.set_cookie = text_or_nothing(token);
    flight.is_lost = false;
    check(model_.renewed(flight.node, now_, flight.ticket, flight.set_cookie));
    note("renews to", flight.node, name(flight.set_cookie));
    write(flight.node);
}

void Life::on_return(Flight& flight) {
    Person& who = people_[flight.person];
    --who.in_flight;
    happened.lost += flight.is_lost;
    if (flight.is_lost || flight.set_cookie.empty() || !model_.is_known(flight.set_cookie) ||
        model_.is_newer_session(who.jar, flight.set_cookie)) {
        return;
    }
    who.jar = flight.set_cookie;
    note(flight.person == 0 ? "browser's jar" : "thief's jar", flight.node, name(who.jar));
}

std::string Life::name(const std::string& token) const {
    if (!is_traced_) {
        return {};
    }
    return model_.is_known(token) ? std::to_string(model_.session(token)) + "." +
                                        std::to_string(model_.generation(token))
                                  : "?";
}

void Life::note(const char* what, int node, const std::string& detail) {
    if (!is_traced_) {
        return;
    }
    std::array<char, 160> line;
    std::snprintf(line.data(), line.size(), "%10.3f s  node %d  %s %s",
                  static_cast<double>(now_ - kNow) / 1000, node, what, detail.c_str());
    trace.emplace_back(line.data());
}

}  // namespace sg::test
