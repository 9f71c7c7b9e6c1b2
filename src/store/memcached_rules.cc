#include "store/memcached_rules.h"

#include <algorithm>

namespace sg {
namespace {

using Holds = MemcachedHolds;
using Replicas = std::span<const MemcachedReplica>;

template <class Predicate>
ReplicaSet replicas_where(Replicas replicas, Predicate predicate) noexcept {
    ReplicaSet set = 0;
    for (std::size_t i = 0; i < replicas.size(); ++i) {
        set = static_cast<ReplicaSet>(set | (predicate(replicas[i]) ? 1 << i : 0));
    }
    return set;
}

bool is_behind(const MemcachedReplica& replica, const StoreEntry& entry) noexcept {
    const bool tombstone = entry.kind == EntryKind::ended;
    switch (replica.state) {
        case Holds::nothing:
            return true;
        case Holds::live:
            return tombstone || replica.version < entry.version;
        case Holds::damaged:
            return tombstone;  // only an end goes over what cannot be read
        case Holds::unknown:
        case Holds::ended:
            break;
    }
    return false;
}

// Where no replica has anything readable. Something unreadable might be the session; and it takes
// one replica that is certain.
StoreAnswer absence(Replicas replicas) noexcept {
    using enum StoreAnswer;
    const bool damaged =
        std::ranges::any_of(replicas, [](const auto& one) { return one.state == Holds::damaged; });
    const bool certain = std::ranges::any_of(
        replicas, [](const auto& one) { return one.state == Holds::nothing && one.certain; });
    return certain && !damaged ? absent : unknown;
}

bool is_same_session(const StoreOp& op) noexcept {
    return op.seen.kind == EntryKind::session && op.seen.version == op.entry.version &&
           (op.verb == StoreVerb::change || same_token(op.seen.token, op.entry.token));
}

// The winning state is what counts, and goes where it is missing.
MemcachedDecision keep_winner(const StoreOp& op, bool lost, Replicas replicas) noexcept {
    return {.answer = StoreAnswer::found,
            .lost = lost,
            .writes_own = false,
            .states = replicas_behind(op.seen, replicas),
            .activities = 0};
}

MemcachedDecision write_own(const StoreOp& op, Replicas replicas) noexcept {
    MemcachedDecision decision;
    decision.writes_own = true;
    decision.states = replicas_behind(op.entry, replicas);
    return decision;
}

ReplicaSet activities_behind(TimeMs last_seen, Replicas replicas) noexcept {
    return replicas_where(replicas, [last_seen](const MemcachedReplica& one) {
        const bool missing = one.activity == Holds::nothing || one.activity == Holds::damaged ||
                             (one.activity == Holds::live && one.last_seen < last_seen);
        return one.state == Holds::live && missing;
    });
}

// Damaged, and no replica has it whole: without it, a session in use would look idle.
bool has_lost_activity(Replicas replicas) noexcept {
    const auto any = [replicas](Holds holds) {
        return std::ranges::any_of(replicas,
                                   [holds](const auto& one) { return one.activity == holds; });
    };
    return any(Holds::damaged) && !any(Holds::live);
}

MemcachedDecision decide_get(const StoreOp& op, const MemcachedMerged& merged,
                             Replicas replicas) noexcept {
    MemcachedDecision decision = keep_winner(op, false, replicas);
    if (op.seen.kind == EntryKind::session) {
        if (has_lost_activity(replicas)) {
            decision.answer = StoreAnswer::unknown;
        } else if (merged.last_seen > op.seen.last_seen) {
            decision.activities = activities_behind(merged.last_seen, replicas);
        }
    }
    return decision;
}

MemcachedDecision decide_put(const StoreOp& op, Replicas replicas) noexcept {
    const bool same = is_same_session(op);
    if (same || op.verb == StoreVerb::create || !overtakes(op.entry, op.seen)) {
        return keep_winner(op, !same, replicas);
    }
    return write_own(op, replicas);
}

MemcachedDecision decide_touch(const StoreOp& op, Replicas replicas) noexcept {
    MemcachedDecision decision;
    if (op.seen.kind == EntryKind::ended) {
        decision.answer = StoreAnswer::absent;
        return decision;
    }
    const TimeMs mine = op.entry.last_seen;
    const bool held = std::ranges::any_of(replicas, [mine](const auto& one) {
        return one.activity == Holds::live && one.last_seen >= mine;
    });
    if (!held && op.seen.last_seen >= mine && !has_lost_activity(replicas)) {
        decision.answer = StoreAnswer::found;  // the session's own entry says so
        return decision;
    }
    decision.answer = held ? StoreAnswer::found : StoreAnswer::unknown;
    decision.activities = activities_behind(mine, replicas);
    return decision;
}

// A new session has never been anywhere else; any other could have been ended where nobody answers
// now, or before the server came up empty.
MemcachedDecision decide_where_nothing_is(const StoreOp& op, Replicas replicas) noexcept {
    MemcachedDecision decision;
    switch (op.verb) {
        case StoreVerb::get:
        case StoreVerb::touch:
            decision.answer = absence(replicas);
            return decision;
        case StoreVerb::change:
            return absence(replicas) == StoreAnswer::absent ? write_own(op, replicas) : decision;
        case StoreVerb::create: {
            const bool damaged = std::ranges::any_of(
                replicas, [](const auto& one) { return one.state == Holds::damaged; });
            return damaged ? decision : write_own(op, replicas);
        }
        case StoreVerb::end:
            break;
    }
    return write_own(op, replicas);
}

}  // namespace

ReplicaSet replicas_behind(const StoreEntry& entry,
                           std::span<const MemcachedReplica> replicas) noexcept {
    return replicas_where(replicas, [&entry](const auto& one) { return is_behind(one, entry); });
}

MemcachedDecision decide(const StoreOp& op, const MemcachedMerged& merged,
                         std::span<const MemcachedReplica> replicas) noexcept {
    if (!merged.exists) {
        return decide_where_nothing_is(op, replicas);
    }
    switch (op.verb) {
        case StoreVerb::get:
            return decide_get(op, merged, replicas);
        case StoreVerb::create:
        case StoreVerb::change:
            return decide_put(op, replicas);
        case StoreVerb::end:
            return op.seen.kind == EntryKind::ended ? keep_winner(op, false, replicas)
                                                    : write_own(op, replicas);
        case StoreVerb::touch:
            break;
    }
    return decide_touch(op, replicas);
}

}  // namespace sg
