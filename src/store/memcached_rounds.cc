#include "store/memcached_rounds.h"

#include <algorithm>
#include <utility>

namespace sg {
namespace {

using Holds = MemcachedHolds;

// Reads of one operation. Each loses at most one race against somebody who won it.
constexpr int kMostRounds = 12;
// Where the answer is known, and only some replica is still behind.
constexpr int kMostRepairs = 4;
constexpr int kMostRepairsOfGet = 2;

}  // namespace

void MemcachedRounds::carry_out(std::span<StoreOp> batch, TimeMs now) noexcept {
    now_ = now;
    if (!batch_.begin(batch, placement_, replicas_)) {
        return;
    }
    batch_.seal(codec_, now_);
    create_unread();
    bool goes_on = true;
    while (goes_on && !batch_.is_done() && exchange_.has_time()) {
        goes_on = round();
    }
}

// Nothing is where a new session goes, nearly always: written at once, it is acknowledged by the
// first read.
void MemcachedRounds::create_unread() noexcept {
    for (MemcachedTask& task : batch_.tasks()) {
        if (task.op->verb != StoreVerb::create || !task.is_ready()) {
            continue;
        }
        for (std::size_t i = 0; i < replicas_; ++i) {
            exchange_.put(task.servers[i], task.state_name, batch_.own(task),
                          task.op->entry.expires, 0);
        }
    }
}

// False: no memory.
bool MemcachedRounds::round() noexcept {
    if (!exchange_.clear(2 * replicas_ * batch_.tasks().size())) {
        return false;
    }
    for (MemcachedTask& task : batch_.tasks()) {
        task.asked = task.is_ready();
        if (task.asked) {
            ask(task);
        }
    }
    exchange_.run();
    for (MemcachedTask& task : batch_.tasks()) {
        if (task.asked) {
            hear(task);
            settle(task);
        }
    }
    return true;
}

void MemcachedRounds::ask(MemcachedTask& task) noexcept {
    task.question = exchange_.count();
    for (std::size_t i = 0; i < replicas_; ++i) {
        MemcachedReplica& replica = task.replicas[i];
        replica = {};
        if (!exchange_.is_up(task.servers[i])) {
            continue;
        }
        replica.state = Holds::nothing;  // until the answer says something else
        exchange_.ask(task.servers[i], task.state_name);
        if (task.reads_activity()) {
            exchange_.ask(task.servers[i], task.activity_name);
        }
    }
}

void MemcachedRounds::hear(MemcachedTask& task) noexcept {
    std::size_t question = task.question;
    task.merged = {};
    for (std::size_t i = 0; i < replicas_; ++i) {
        MemcachedReplica& replica = task.replicas[i];
        if (replica.state == Holds::unknown) {
            continue;  // was not asked
        }
        const std::size_t server = task.servers[i];
        const std::size_t first = question;
        question += task.reads_activity() ? 2 : 1;
        if (!exchange_.has_answered(server)) {
            replica.state = Holds::unknown;
            continue;
        }
        replica.certain =
            exchange_.is_certain(server) && !health_.gaps.may_miss(server, task.op->key, now_);
        hear_state(task, replica, exchange_[first]);
        if (task.reads_activity()) {
            hear_activity(task, replica, exchange_[first + 1]);
        }
    }
    if (task.merged.exists) {
        task.merged.last_seen = std::max(task.merged.last_seen, task.op->seen.last_seen);
    }
}

void MemcachedRounds::hear_state(MemcachedTask& task, MemcachedReplica& replica,
                                 const MemcachedExchange::Question& question) noexcept {
    if (!question.found) {
        return;
    }
    StoreOp& op = *task.op;
    replica.state_cas = question.cas;
    StoreEntry entry;
    if (!codec_.open_state(op.key, exchange_.value(question), plain_, entry)) {
        replica.state = Holds::damaged;
        return;
    }
    if (entry.expires <= now_) {
        replica.certain = true;  // nothing is what this means, not something lost
        return;
    }
    replica.state = entry.kind == EntryKind::ended ? Holds::ended : Holds::live;
    replica.version = entry.version;
    if (!task.merged.exists || wins(entry, op.seen)) {
        task.merged.exists = true;
        op.seen = entry;
        std::swap(op.seen_bytes, plain_);  // the record goes on pointing into it
    }
}

void MemcachedRounds::hear_activity(MemcachedTask& task, MemcachedReplica& replica,
                                    const MemcachedExchange::Question& question) noexcept {
    replica.activity = Holds::nothing;
    if (!question.found) {
        return;
    }
    replica.activity_cas = question.cas;
    StoreEntry entry;
    if (!codec_.open_activity(task.op->key, exchange_.value(question), entry)) {
        replica.activity = Holds::damaged;
    } else if (entry.expires > now_) {
        replica.activity = Holds::live;
        replica.last_seen = entry.last_seen;
        task.merged.last_seen = std::max(task.merged.last_seen, entry.last_seen);
    }
}

void MemcachedRounds::settle(MemcachedTask& task) noexcept {
    if (task.op->verb == StoreVerb::end && task.merged.exists) {
        note_successor(*task.op, task.op->seen);
    }
    task.decision = decide(*task.op, task.merged, batch_.replicas(task));
    ++task.rounds;
    const bool is_get = task.op->verb == StoreVerb::get;
    const int repairs = is_get ? kMostRepairsOfGet : kMostRepairs;
    const int most = task.decision.answer == StoreAnswer::unknown ? kMostRounds : repairs;
    if (!task.decision.has_writes() || task.rounds >= most) {
        finish(task);
    } else {
        write(task);
    }
}

void MemcachedRounds::finish(MemcachedTask& task) noexcept {
    StoreOp& op = *task.op;
    task.done = true;
    op.answer = task.decision.answer;
    op.lost = task.decision.lost;
    if (op.verb == StoreVerb::get && op.seen.kind == EntryKind::session) {
        op.seen.last_seen = task.merged.last_seen;
    }
    const bool is_nowhere = std::ranges::any_of(
        batch_.replicas(task), [](const auto& one) { return one.state == Holds::nothing; });
    if (task.decision.writes_own && is_nowhere) {
        count_fault(health_, StoreFault::full);  // written again and again, and never there
    }
    if (replicas_ > 1) {
        remember_missed(task);
    }
}

void MemcachedRounds::write(MemcachedTask& task) noexcept {
    const StoreOp& op = *task.op;
    const MemcachedDecision& decision = task.decision;
    if (decision.states != 0) {
        const StoreEntry& entry = decision.writes_own ? op.entry : op.seen;
        const ByteView value = decision.writes_own ? batch_.own(task) : seal(entry, op);
        for (std::size_t i = 0; i < replicas_; ++i) {
            if ((decision.states >> i & 1) != 0 && !value.empty()) {
                exchange_.put(task.servers[i], task.state_name, value, entry.expires,
                              task.replicas[i].state_cas);
            }
        }
    }
    if (decision.activities != 0) {
        write_activities(task);
    }
}

void MemcachedRounds::write_activities(const MemcachedTask& task) noexcept {
    const StoreOp& op = *task.op;
    StoreEntry entry;
    entry.kind = EntryKind::activity;
    entry.version = op.seen.version;
    entry.expires = op.seen.expires;
    entry.last_seen = task.merged.last_seen;
    const bool is_own = op.verb == StoreVerb::touch;
    const ByteView value = is_own ? batch_.own(task) : seal(entry, op);
    const TimeMs expires = is_own ? op.entry.expires : entry.expires;
    for (std::size_t i = 0; i < replicas_; ++i) {
        if ((task.decision.activities >> i & 1) != 0 && !value.empty()) {
            exchange_.put(task.servers[i], task.activity_name, value, expires,
                          task.replicas[i].activity_cas);
        }
    }
}

// Until the next one. Empty: it cannot be sealed here.
ByteView MemcachedRounds::seal(const StoreEntry& entry, const StoreOp& op) noexcept {
    ByteArena::Place place;
    sealed_.clear();
    return codec_.seal(entry, op.key, op.key_id, sealed_, place) ? sealed_.view(place) : ByteView();
}

// A write that has reached one replica and not another.
void MemcachedRounds::remember_missed(const MemcachedTask& task) noexcept {
    const StoreOp& op = *task.op;
    const bool is_write = op.verb != StoreVerb::get && op.verb != StoreVerb::touch;
    if (!is_write || op.answer != StoreAnswer::found) {
        return;
    }
    const ReplicaSet behind = replicas_behind(op.seen, batch_.replicas(task));
    for (std::size_t i = 0; i < replicas_; ++i) {
        if (task.replicas[i].state == Holds::unknown || (behind >> i & 1) != 0) {
            health_.gaps.add(task.servers[i], op.key, op.key_id, now_, longest_);
        }
    }
}

}  // namespace sg
