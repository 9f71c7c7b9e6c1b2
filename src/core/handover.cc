#include "core/handover.h"

namespace sg {
namespace {

[[gnu::noinline]] FindResult look_up_locked(const Table& table, const Handle& handle,
                                            SessionView& view, ByteSpan record) noexcept {
    LockedShard shard = table.lock(handle);
    return table.find_locked(shard, handle, view, record);
}

[[gnu::always_inline]] inline FindResult look_up_in(const Table& table, const Handle& handle,
                                                    SessionView& view, ByteSpan record) noexcept {
    const FindResult result = table.find(handle, view, record);
    return result == FindResult::busy ? look_up_locked(table, handle, view, record) : result;
}

// What a look-up found, and where.
struct Found {
    const Table* table = nullptr;
    FindResult result = FindResult::absent;
};

[[gnu::noinline, gnu::cold]] Found look_up_by_age(const Realm& realm, const Handle& handle,
                                                  SessionView& view, ByteSpan record) noexcept {
    for (const Table& table : realm.older) {
        if (table.is_retired()) {
            continue;
        }
        const FindResult result = look_up_in(table, handle, view, record);
        if (result != FindResult::absent || table.has_ended(handle)) {
            return {&table, result};
        }
    }
    return {realm.table, look_up_in(*realm.table, handle, view, record)};
}

// A session that moves between look-up and touch is followed.
[[gnu::noinline, gnu::cold]] bool touch_by_handle(const Realm& realm, const Handle& handle,
                                                  TimeMs now) noexcept {
    for (std::size_t tries = 0; tries <= realm.older.size(); ++tries) {
        SessionView view;
        const Found found = look_up_by_age(realm, handle, view, {});
        if (found.result == FindResult::absent || now < view.last_seen + kSecond) {
            return false;
        }
        if (found.table->touch(view.slot, now)) {
            return true;
        }
    }
    return false;
}

std::optional<SessionView> remove_from(const Table& table, const Handle& handle, Departure why,
                                       TimeMs tombstone_until) noexcept {
    LockedShard shard = table.lock(handle);
    SessionView view;
    const FindResult found = table.find_locked(shard, handle, view, {});
    table.remove(shard, handle, why, tombstone_until);
    return found != FindResult::absent ? std::optional(view) : std::nullopt;
}

}  // namespace

[[gnu::noinline, gnu::cold]] FindResult look_up_everywhere(const Realm& realm, const Handle& handle,
                                                           SessionView& view,
                                                           ByteSpan record) noexcept {
    return look_up_by_age(realm, handle, view, record).result;
}

std::optional<Departure> find_departure(const Realm& realm, const Handle& handle,
                                        TimeMs now) noexcept {
    for (const Table& table : realm.older) {
        const auto why = table.is_retired() ? std::nullopt : table.find_tombstone(handle, now);
        if (why) {
            return why;
        }
    }
    return realm.table->find_tombstone(handle, now);
}

bool touch_session(const Realm& realm, const SessionView& view, TimeMs now) noexcept {
    if (!realm.older.empty()) [[unlikely]] {
        return touch_by_handle(realm, view.token.handle, now);
    }
    return realm.table->touch(view.slot, now);
}

// Oldest first, as sessions move: what has left one table is met in a later one.
std::optional<SessionView> remove_session(const Realm& realm, const Handle& handle, Departure why,
                                          TimeMs tombstone_until) noexcept {
    std::optional<SessionView> removed;
    for (const Table& table : realm.older) {
        if (!table.is_retired()) {
            const auto here = remove_from(table, handle, why, tombstone_until);
            removed = removed ? removed : here;
        }
    }
    const auto here = remove_from(*realm.table, handle, why, tombstone_until);
    return removed ? removed : here;
}

TableStats stats_of(const Realm& realm) noexcept {
    TableStats all = realm.table->stats();
    for (const Table& table : realm.older) {
        const TableStats stats = table.is_retired() ? TableStats{} : table.stats();
        all.live += stats.live;
        all.cells_used += stats.cells_used;
    }
    return all;
}

void LockedHome::enter(const Table& table, const Handle& handle) noexcept {
    table_ = &table;
    shard_.emplace(table.shard_of(handle));  // the one before is unlocked first
}

LockedHome::LockedHome(const Realm& realm, const Handle& handle) noexcept {
    for (const Table& table : realm.older) {
        if (!table.is_retired()) {
            enter(table, handle);
            if (table.knows(*shard_, handle)) {
                return;
            }
        }
    }
    enter(*realm.table, handle);
}

LockedHome::LockedHome(const Realm& realm, const Handle& handle, std::size_t record_size) noexcept {
    for (const Table& table : realm.older) {
        if (!table.is_closed()) {
            enter(table, handle);
            if (table.takes_in(*shard_, record_size)) {
                return;
            }
        }
    }
    enter(*realm.table, handle);
}

Drain::Step Drain::step(const Table& from, std::span<const Table> younger, std::size_t cells,
                        TimeMs now) noexcept {
    from.close();
    if (cell == 0) {
        from.copy_tombstones(shard, younger.front(), now);
    }
    moved += from.move_cells(shard, cell, cells, younger);
    cell += cells;
    if (cell < from.cells_per_shard()) {
        return Step::more;
    }
    cell = 0;
    return ++shard < from.shard_count() ? Step::more : finish_round(from);
}

// A change moves a session to another cell, perhaps to one behind us: the counts decide. They never
// grow again, since every shard was locked after the table was closed.
Drain::Step Drain::finish_round(const Table& from) noexcept {
    shard = 0;
    if (const TableStats left = from.stats(); left.live + left.rosters != 0) {
        return Step::waiting;
    }
    from.retire();
    return Step::done;
}

}  // namespace sg
