#include "unit/rotation/model.h"

#include <algorithm>

namespace sg::model {

void RotationModel::login(int node, Ms now, const Text& token) {
    Session s;
    s.secrets.push_back({.text = token, .first = now, .noted = now});
    s.created = now;
    s.copies[static_cast<std::size_t>(node)].has_all = true;
    s.copies[static_cast<std::size_t>(node)].writes = true;
    places_[token] = {.session = static_cast<int>(sessions_.size())};
    sessions_.push_back(s);
    note_activity(now);
}

void RotationModel::note_activity(Ms now) {
    while (!activities_.empty() && activities_.front() < now - rules_.idle) {
        activities_.pop_front();
    }
    activities_.push_back(now);
}

bool RotationModel::was_active(Ms from, Ms to) const {
    return std::ranges::any_of(activities_, [from, to](Ms at) { return from <= at && at <= to; });
}

void RotationModel::stolen(const Text& token) {
    sessions_[static_cast<std::size_t>(places_.at(token).session)].is_stolen = true;
}

// Two nodes have changed what neither had in full: whichever counts, it knows what all know.
void RotationModel::fork(Session& s) const {
    int least = s.copies[0].lower;
    for (const Copy& copy : s.copies) {
        least = std::min(least, copy.lower);
    }
    for (Copy& copy : s.copies) {
        copy.lower = least;
        copy.has_all = false;
        copy.is_settled = false;
    }
    s.forked = true;
}

void RotationModel::change(Session& s, int node) const {
    if (rules_.nodes == 1 && !rules_.has_store) {
        return;
    }
    Copy& mine = s.copies[static_cast<std::size_t>(node)];
    if (!mine.has_all) {
        fork(s);
    }
    for (Copy& copy : s.copies) {
        copy.has_all = copy.has_all && &copy == &mine;
        copy.is_settled = false;
    }
    mine.writes = true;
}

void RotationModel::read(Session& s, int node) const {
    Copy& mine = s.copies[static_cast<std::size_t>(node)];
    const Copy& store = s.copies[kStore];
    if (store.has_all) {
        mine.lower = std::max(mine.lower, store.lower);
        mine.has_all = true;
        return;
    }
    if (!mine.has_all) {
        mine.lower = std::min(mine.lower, store.lower);
    }
    if (!s.forked) {
        return;
    }
    const auto nodes = std::span(s.copies).first(static_cast<std::size_t>(rules_.nodes));
    const bool quiet = std::ranges::none_of(nodes, [](const Copy& copy) { return copy.writes; });
    for (Copy& copy : nodes) {
        copy.is_settled = quiet && (copy.is_settled || &copy == &mine);
    }
    if (std::ranges::all_of(nodes, [](const Copy& copy) { return copy.is_settled; })) {
        fork(s);  // all have the same
        s.forked = false;
        for (Copy& copy : s.copies) {
            copy.has_all = true;
        }
    }
}

void RotationModel::wrote(int node, Ms now) {
    for (std::size_t i = 0; i < sessions_.size(); ++i) {
        Session& s = sessions_[i];
        Copy& mine = s.copies[static_cast<std::size_t>(node)];
        Copy& store = s.copies[kStore];
        if (mine.writes) {
            if (s.replaced_on == node && s.end_written != kNever) {
                end(s.successor, node, now);  // what was ended is not replaced
            }
            if (mine.has_all) {
                store.has_all = true;
                store.lower = mine.lower;
            } else {
                mine.lower = store.lower = std::min(mine.lower, store.lower);
            }
            mine.writes = false;
        }
        if (s.ended[static_cast<std::size_t>(node)] != kNever && s.end_written == kNever) {
            s.end_written = now;
            if (s.successor >= 0) {
                end(s.successor, node, now);
            }
        }
    }
}

void RotationModel::store_lost(const Text& token) {
    Session& s = sessions_[static_cast<std::size_t>(places_.at(token).session)];
    fork(s);
    s.was_lost = true;
}

void RotationModel::present(Session& s, int node, int k, Ms now) const {
    Copy& mine = s.copies[static_cast<std::size_t>(node)];
    Secret& secret = s.secrets[static_cast<std::size_t>(k)];
    secret.first = std::min(secret.first, now);
    s.top = std::max(s.top, k);
    if (k > mine.lower) {
        secret.noted = now;
        change(s, node);
        mine.lower = k;
    }
}

void RotationModel::end(int session, int node, Ms now) {
    Session& s = sessions_[static_cast<std::size_t>(session)];
    Ms& known = s.ended[static_cast<std::size_t>(node)];
    known = std::min(known, now);
    if (s.successor >= 0) {
        sessions_[static_cast<std::size_t>(s.successor)].may_be_ended = true;
    }
}

bool RotationModel::was_ended(const Session& s) const {
    return s.may_be_ended || s.ended[0] != kNever || s.ended[1] != kNever;
}

bool RotationModel::may_be_valid(const Session& s, int node, int k, Ms now) const {
    const int lower = s.copies[static_cast<std::size_t>(node)].lower;
    return k >= lower || (k == lower - 1 &&
                          now < s.secrets[static_cast<std::size_t>(lower)].noted + rules_.grace);
}

bool RotationModel::may_be_behind(const Session& s, int k, Ms now) const {
    return k <= s.top - 2 ||
           (k == s.top - 1 && now >= s.secrets[static_cast<std::size_t>(s.top)].first +
                                         rules_.grace - rules_.rounding);
}

Broken RotationModel::judge_valid(const Session& s, int node, int k, Ms now, const Got& got) const {
    const Ms late = rules_.bound + (got.unknown ? rules_.blind : 0);
    if (s.ended[static_cast<std::size_t>(node)] != kNever) {
        return "what was ended here stays ended";
    }
    if (was_ended(s) && s.end_written != kNever && now > s.end_written + late) {
        return "what was ended on one node is ended on the others in time";
    }
    if (got.answer == Answer::restricted) {
        return now < s.replaced + rules_.window && s.replaced != kNever
                   ? nullptr
                   : "an old handle passes for the window only";
    }
    if (s.replaced != kNever && (node == s.replaced_on || now > s.replaced + late)) {
        return "an old handle passes restricted or not at all";
    }
    if (now > activities_.back() + rules_.idle + 2 * rules_.rounding ||
        now > s.created + rules_.absolute) {
        return "an expired session does not pass";
    }
    return may_be_valid(s, node, k, now)
               ? nullptr
               : "a token that missed a rotation by more than the grace does not pass";
}

// The replaced handle is refused then; its successor may live on in a node's zone.
bool RotationModel::has_lost_successor(const Session& s, const Got& got) const {
    return got.absent && s.replaced != kNever &&
           sessions_[static_cast<std::size_t>(s.successor)].was_lost;
}

Broken RotationModel::judge_refusal(const Session& s, int node, int k, Ms now,
                                    const Got& got) const {
    const bool was_replaced = s.replaced != kNever;
    const bool behind = may_be_behind(s, k, now);
    switch (got.answer) {
        case Answer::ended:
            if (!got.reused) {
                const bool through =
                    was_replaced && was_ended(sessions_[static_cast<std::size_t>(s.successor)]);
                return was_ended(s) || through || has_lost_successor(s, got)
                           ? nullptr
                           : "nobody has ended it";
            }
            if (!behind || was_replaced) {
                return "only a token that missed a rotation by more than the grace is reuse";
            }
            if (rules_.has_store && !got.found) {
                return "it is reuse only when the store has the session";
            }
            return s.is_stolen ? nullptr : "a user alone is never thrown out";
        case Answer::regenerated:
            return was_replaced && (now >= s.replaced + rules_.window || behind)
                       ? nullptr
                       : "an old handle passes during the window";
        case Answer::expired:
            return !was_active(now - rules_.idle / 2, now - rules_.late) ||
                           now >= s.created + rules_.absolute
                       ? nullptr
                       : "it has not expired";
        case Answer::absent:
            return s.was_lost && got.absent ? nullptr : "there is such a session";
        case Answer::unavailable:
            return got.unknown || (got.absent && behind) ? nullptr
                                                         : "only what nobody knows is unavailable";
        default:
            break;
    }
    (void)node;
    return "a genuine token is refused for what it is";
}

Broken RotationModel::request(int node, Ms now, std::span<const Text> cookies, const Got& got,
                              Ticket& ticket) {
    Place best;
    for (const Text& cookie : cookies) {
        const auto at = places_.find(cookie);
        if (at == places_.end()) {
            return "the test sends tokens that were handed out";
        }
        if (best.session < 0 || at->second.generation > best.generation) {
            best = at->second;
        }
    }
    Session& s = sessions_[static_cast<std::size_t>(best.session)];
    const int k = best.generation;
    if (got.found) {
        read(s, node);
    }
    ticket = {.session = best.session, .generation = k};
    if (got.answer != Answer::valid && got.answer != Answer::restricted) {
        const Broken broken = judge_refusal(s, node, k, now, got);
        if (got.answer == Answer::ended && !has_lost_successor(s, got)) {
            end(best.session, node, now);
            s.copies[static_cast<std::size_t>(node)].writes |= got.reused;
        }
        return broken;
    }
    ticket.passes = true;
    ticket.restricted = got.answer == Answer::restricted;
    if (const Broken broken = judge_valid(s, node, k, now, got)) {
        return broken;
    }
    if (!ticket.restricted) {
        note_activity(now);
        present(s, node, k, now);
        const bool is_previous = k < s.copies[static_cast<std::size_t>(node)].lower;
        const bool is_due =
            k == s.top && now >= s.secrets[static_cast<std::size_t>(k)].noted + rules_.rotate;
        ticket.must_replace = is_previous || (is_due && !got.unknown);
    }
    return nullptr;
}

Broken RotationModel::response(int node, Ms now, const Ticket& ticket, const Text& token,
                               bool may_carry, bool at_once) {
    Session& s = sessions_[static_cast<std::size_t>(ticket.session)];
    const bool is_gone = s.ended[static_cast<std::size_t>(node)] != kNever || node == s.replaced_on;
    if (token.empty()) {
        return may_carry && at_once && ticket.must_replace && !is_gone ? "an old token is replaced"
                                                                       : nullptr;
    }
    if (!may_carry || !ticket.passes || ticket.restricted) {
        return "this response carries no token";
    }
    if (is_gone) {
        return "nothing is handed out for a session that is gone";
    }
    const int k = ticket.generation;
    const auto next = static_cast<std::size_t>(k) + 1;
    if (k == s.top && now < s.secrets[next - 1].first + rules_.rotate - rules_.rounding) {
        return "a token is not replaced before its time";
    }
    if (k + 1 < s.copies[static_cast<std::size_t>(node)].lower) {
        return "nothing is handed out that was replaced already";
    }
    if (next < s.secrets.size()) {
        return s.secrets[next].text == token ? nullptr
                                             : "all who hold a token are handed the same next one";
    }
    if (places_.contains(token)) {
        return "a new token is new";
    }
    s.secrets.push_back({.text = token});
    places_[token] = {.session = ticket.session, .generation = k + 1};
    return nullptr;
}

Broken RotationModel::renewed(int node, Ms now, const Ticket& ticket, const Text& token) {
    const Ms created = sessions_[static_cast<std::size_t>(ticket.session)].created;
    if (places_.contains(token)) {
        return "a new handle has new tokens";
    }
    login(node, now, token);
    Session& old = sessions_[static_cast<std::size_t>(ticket.session)];
    Session& fresh = sessions_.back();
    fresh.created = created;
    fresh.may_be_ended = was_ended(old);
    fresh.is_stolen = old.is_stolen;
    old.replaced = now;
    old.replaced_on = node;
    old.successor = static_cast<int>(sessions_.size()) - 1;
    change(old, node);
    return nullptr;
}

Broken RotationModel::logged_out(int node, Ms now, const Ticket& ticket, bool done) {
    if (!done) {
        return "whoever may pass may log out";
    }
    for (int i = ticket.session; i >= 0; i = sessions_[static_cast<std::size_t>(i)].successor) {
        end(i, node, now);
        if (!ticket.restricted) {
            break;
        }
    }
    return nullptr;
}

void RotationModel::changed(int node, const Ticket& ticket) {
    change(sessions_[static_cast<std::size_t>(ticket.session)], node);
}

bool RotationModel::is_over(const Text& token) const {
    const Session& s = sessions_[static_cast<std::size_t>(places_.at(token).session)];
    return was_ended(s);
}

bool RotationModel::is_newer_session(const Text& a, const Text& b) const {
    return places_.at(a).session > places_.at(b).session;
}

}  // namespace sg::model
