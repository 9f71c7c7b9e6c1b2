#include "unit/rotation/fleet.h"

#include <algorithm>
#include <array>

#include "core/handover.h"
#include "core/rotation.h"
#include "core/second_tier.h"
#include "unit/zone_support.h"

namespace sg::test {
namespace {

constexpr StoreKey kAnyKey{};  // names are the handles here
constexpr int kMostQuestions = 1 + kMaxSuccessors;
constexpr std::size_t kMaxAttributes = 1024;

ByteSpan scratch() {
    static std::array<std::uint8_t, kWorkBytes> work;
    return work;
}

std::vector<std::uint8_t> bytes_of(const StoreEntry& entry) {
    std::vector<std::uint8_t> bytes(encoded_size(entry));
    if (encode_entry(entry, kAnyKey, bytes) != bytes.size()) {
        std::abort();
    }
    return bytes;
}

StoreEntry entry_of(std::span<const std::uint8_t> bytes) {
    StoreEntry entry;
    if (decode_entry(bytes, kAnyKey, entry) != EntryRead::ok) {
        std::abort();
    }
    return entry;
}

ControlCommand command_of(ControlVerb verb) {
    ControlCommand command;
    command.verb = verb;
    command.user = "alice";
    return command;
}

}  // namespace

std::optional<StoreEntry> MemoryStore::find(const Handle& handle) const {
    const auto kept = entries.find(handle);
    if (kept == entries.end()) {
        return std::nullopt;
    }
    StoreEntry entry = entry_of(kept->second.bytes);
    entry.last_seen = std::max(entry.last_seen, kept->second.last_seen);
    return entry;
}

void MemoryStore::keep(const Handle& handle, std::span<const std::uint8_t> bytes) {
    entries[handle].bytes.assign(bytes.begin(), bytes.end());
}

void FleetNode::start(const FleetConf& conf, int number, MemoryStore& store, const KeyRing& keys,
                      std::span<std::byte> memory) {
    conf_ = conf;
    store_ = &store;
    table_ = make_table(memory);
    feed_ = std::make_unique<FeedState>();
    writes_.clear();
    heard_ = 0;
    follows_ = false;
    reaches_store = true;
    realm_ = {.name = "app",
              .keys = &keys,
              .table = &*table_,
              .timeouts = conf.timeouts,
              .rotate = conf.rotate,
              .rotation_grace = conf.grace,
              .has_store = conf.has_store,
              .revalidate = conf.revalidate,
              .node = static_cast<std::uint64_t>(number) + 1,
              .journal = conf.has_store ? this : nullptr,
              .feed = conf.has_feed ? feed_.get() : nullptr};
}

void FleetNode::ask_zone(std::span<const std::string_view> cookies, TimeMs now, Outcome& outcome) {
    static std::array<std::uint8_t, 4096> buffer;
    Candidates candidates;
    for (const std::string_view cookie : cookies) {
        candidates.values[candidates.count++] = cookie;
    }
    outcome = begin(realm_, candidates, now, buffer);
}

// Nobody knows more than the zone.
void FleetNode::without_store(Outcome& outcome, TimeMs now) const {
    const bool within_grace =
        age(outcome.session.slot.confirmed, now) <= conf_.revalidate + conf_.store_grace;
    if (outcome.status != Status::valid || !within_grace) {
        outcome.status = Status::store_unavailable;
        outcome.reused = false;
    }
    outcome.step = Outcome::Step::decided;
}

// True: the zone is to be asked again.
bool FleetNode::ask_store(Verdict& verdict, int& asked, TimeMs now) {
    Outcome& outcome = verdict.outcome;
    const bool of_successor = outcome.step == Outcome::Step::needs_successor;
    if ((asked > 0 && !of_successor) || asked == kMostQuestions) {
        outcome.step = Outcome::Step::decided;
        return false;
    }
    ++asked;
    Token token = outcome.token;
    if (of_successor) {
        token.key_id = realm_.keys->current_id();
        token.handle = outcome.session.slot.successor;
    }
    Lesson lesson;
    if (reaches_store) {
        const auto entry = store_->find(token.handle);
        (entry ? verdict.found : verdict.absent) = true;
        const StoreEntry nothing;
        lesson = learn(realm_, token,
                       {.answer = entry ? StoreAnswer::found : StoreAnswer::absent,
                        .entry = entry ? *entry : nothing,
                        .sent = now},
                       now, scratch());
    } else {
        verdict.unknown = true;
    }
    switch (lesson.learned) {
        case Learned::known:
            if (outcome.reused && !lesson.in_store) {
                break;
            }
            outcome = Outcome{};
            return true;
        case Learned::no_room:
            std::abort();  // the zones are large enough
        case Learned::gone:
            if (!of_successor || lesson.status != Status::absent) {
                outcome.status = lesson.status;
            }
            outcome.step = Outcome::Step::decided;
            outcome.reused = false;
            return false;
        case Learned::unknown:
            break;
    }
    without_store(outcome, now);
    return false;
}

Verdict FleetNode::request(std::span<const std::string_view> cookies, bool may_carry, TimeMs now) {
    Verdict verdict;
    Outcome& outcome = verdict.outcome;
    int asked = 0;
    do {
        ask_zone(cookies, now, outcome);
    } while (outcome.step != Outcome::Step::decided && ask_store(verdict, asked, now));
    if (outcome.reused && !find_departure(realm_, outcome.token.handle, now)) {
        if (!end_session(realm_, outcome.token.handle, Departure::ended, now)) {
            end_unknown(realm_, outcome.token, Departure::ended, now);
        }
        verdict.ended_it = true;
    }
    if (outcome.status == Status::valid) {
        admit(verdict, may_carry, now);
    }
    outcome.session.record.user = {};
    outcome.session.record.roles = {};
    outcome.session.record.attributes = {};
    return verdict;
}

void FleetNode::admit(Verdict& verdict, bool may_carry, TimeMs now) {
    const Session& session = verdict.outcome.session;
    if (session.restricted) {
        return;
    }
    if (touch_session(realm_, session.slot, now) && conf_.has_store) {
        const TimeMs tenth = std::max<TimeMs>(session.timeouts.idle / 10, kSecond);
        if (session.slot.last_seen / tenth != now / tenth) {
            writes_.push_back(
                {.verb = Verb::touch, .token = session.slot.token, .last_seen = now, .bytes = {}});
        }
    }
    if (session.holding == Holding::current && !is_rotation_due(realm_, session.record, now)) {
        return;
    }
    if (session.holding == Holding::next) {
        note_seen(realm_, verdict.outcome.token, now, scratch());
    } else {
        verdict.rotates = may_carry;
    }
}

std::optional<Token> FleetNode::respond(const Verdict& verdict, TimeMs now) {
    if (!verdict.rotates) {
        return std::nullopt;
    }
    const auto token = token_to_hand_out(realm_, verdict.outcome.token, now);
    return token && is_live(realm_, *token, now) ? token : std::nullopt;
}

std::optional<Token> FleetNode::login(RandomPool& random, TimeMs now) {
    const ControlCommand command = command_of(ControlVerb::create);
    return open_session(realm_, random, command, now, scratch()).token;
}

std::optional<Token> FleetNode::renew(RandomPool& random, const Token& token, TimeMs now) {
    const ControlCommand command = command_of(ControlVerb::renew);
    return change_session(realm_, random, token.handle, command, kMaxAttributes, now, scratch())
        .token;
}

bool FleetNode::change(RandomPool& random, const Token& token, TimeMs now) {
    command_ = true;
    const ControlCommand command = command_of(ControlVerb::update);
    const Changed changed =
        change_session(realm_, random, token.handle, command, kMaxAttributes, now, scratch());
    command_ = false;
    return changed.result == Change::done;
}

bool FleetNode::logout(const Token& token, TimeMs now) {
    return holds_session(realm_, token, now) &&
           end_session(realm_, token.handle, Departure::ended, now);
}

void FleetNode::saved(const SessionView& view, ByteView record) noexcept {
    const auto entry = session_entry(realm_, view, record);
    if (entry) {
        writes_.push_back({.verb = Verb::put,
                           .token = view.token,
                           .last_seen = 0,
                           .bytes = bytes_of(*entry),
                           .has_command = command_ && view.superseded_until == 0});
    }
}

void FleetNode::ended(const Token& token, Departure why, TimeMs until) noexcept {
    writes_.push_back({.verb = Verb::end,
                       .token = token,
                       .last_seen = 0,
                       .bytes = bytes_of(ended_entry(why, until))});
}

void FleetNode::write(RandomPool& random, TimeMs now) {
    while (reaches_store && !writes_.empty()) {
        const Write write = std::move(writes_.front());
        writes_.pop_front();
        apply(random, write, now);
    }
}

// Writes that were tried in vain are tried again in another order.
void FleetNode::reverse_writes() {
    std::reverse(writes_.begin(), writes_.end());
}

void FleetNode::apply(RandomPool& random, const Write& write, TimeMs now) {
    const Handle& handle = write.token.handle;
    const auto there = store_->find(handle);
    switch (write.verb) {
        case Verb::put:
            apply_put(random, write, entry_of(write.bytes), now);
            break;
        case Verb::touch:
            if (there && there->kind == EntryKind::session) {
                TimeMs& last_seen = store_->entries[handle].last_seen;
                last_seen = std::max(last_seen, write.last_seen);
            }
            break;
        case Verb::end: {
            const bool replaced =
                there && there->kind == EntryKind::session && there->superseded_until != 0;
            const Handle successor = replaced ? there->successor : Handle{};
            if (!there || there->kind != EntryKind::ended) {
                store_->keep(handle, write.bytes);
            }
            store_->tell(FeedWhat::ended, handle);
            if (replaced) {
                end_successor(realm_, successor, Departure::ended, now);
            }
            break;
        }
    }
}

void FleetNode::apply_put(RandomPool& random, const Write& write, const StoreEntry& entry,
                          TimeMs now) {
    const Handle& handle = write.token.handle;
    const auto there = store_->find(handle);
    const bool same = there && there->kind == EntryKind::session && there->version == entry.version;
    if (!there || same || overtakes(entry, *there)) {
        if (!same) {
            store_->keep(handle, write.bytes);
        }
        store_->tell(FeedWhat::changed, handle);
        note_held(realm_, entry);
        return;
    }
    if (entry.superseded_until != 0 && there->kind == EntryKind::ended) {
        end_successor(realm_, entry.successor, there->why, now);
    }
    learn(realm_, entry.token, {.answer = StoreAnswer::found, .entry = *there, .sent = now}, now,
          scratch());
    if (write.has_command) {
        command_ = true;
        change_again(realm_, random, handle, command_of(ControlVerb::update), kMaxAttributes, now,
                     scratch());
        command_ = false;
    }
}

void FleetNode::poll(TimeMs now) {
    if (!reaches_store || realm_.feed == nullptr) {
        return;
    }
    if (!follows_) {
        follows_ = true;
        heard_ = store_->feed.size();
        feed_->missed(now);
        return;
    }
    for (; heard_ < store_->feed.size(); ++heard_) {
        hear_of(realm_, store_->feed[heard_], now);
    }
    feed_->followed(now);
}

}  // namespace sg::test
