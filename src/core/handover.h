// Where a session is while workers of earlier configurations live. After a reload with another zone
// size there is a new table, but the workers of before know theirs only. So every session stays in
// one table, one that all who may be asked about it know, and moves when the workers of that table
// are gone: nothing is kept twice, and what one worker does is done for all.
//
// The tables have an order: realm.older, oldest first, then realm.table. The first one that has the
// session, or a note that it was ended, decides. Sessions only ever move towards younger tables:
// who looks in that order misses none.
#pragma once

#include <optional>
#include <span>

#include "core/realm.h"
#include "core/zone/shard_lock.h"
#include "core/zone/table.h"

namespace sg {

// The same as look_up where there are older tables, or a writer is in the way.
FindResult look_up_everywhere(const Realm& realm, const Handle& handle, SessionView& view,
                              ByteSpan record) noexcept;

// Reads one handle, without a lock or, when a writer is in the way, with the shard's. On the way of
// every request: what is common is here.
[[gnu::always_inline]] inline FindResult look_up(const Realm& realm, const Handle& handle,
                                                 SessionView& view, ByteSpan record) noexcept {
    if (realm.older.empty()) [[likely]] {
        const FindResult result = realm.table->find(handle, view, record);
        if (result != FindResult::busy) [[likely]] {
            return result;
        }
    }
    return look_up_everywhere(realm, handle, view, record);
}

// Why this handle left, if that is still known in some table.
std::optional<Departure> find_departure(const Realm& realm, const Handle& handle,
                                        TimeMs now) noexcept;

// Activity of the session that look_up found. False: nothing to note, or the session is gone.
bool touch_session(const Realm& realm, const SessionView& view, TimeMs now) noexcept;

// Removes the session and leaves notes, in every table. What was removed, if anything was; read and
// removed under one lock, so that no regeneration comes between.
std::optional<SessionView> remove_session(const Realm& realm, const Handle& handle, Departure why,
                                          TimeMs tombstone_until) noexcept;

// Sessions and cells used in all tables; the rest is of the youngest.
TableStats stats_of(const Realm& realm) noexcept;

// The table that decides about a handle, with the handle's shard locked; the youngest where none
// knows it.
class LockedHome {
  public:
    LockedHome(const Realm& realm, const Handle& handle) noexcept;

    // Where a new session belongs: into the oldest table that takes it in, so that all know it.
    LockedHome(const Realm& realm, const Handle& handle, std::size_t record_size) noexcept;

    const Table& table() const noexcept { return *table_; }
    LockedShard& shard() noexcept { return *shard_; }

  private:
    void enter(const Table& table, const Handle& handle) noexcept;

    const Table* table_ = nullptr;
    std::optional<LockedShard> shard_;
};

// Empties one closed table in small steps.
struct Drain {
    std::size_t shard = 0;
    std::size_t cell = 0;
    std::uint64_t moved = 0;

    enum class Step : std::uint8_t {
        more,     // call again
        waiting,  // all shards were visited, some sessions found no room: try again later
        done,     // the table is empty, and has retired
    };
    // Looks at some `cells` cells. `younger`: the tables they may go to, next one first.
    Step step(const Table& from, std::span<const Table> younger, std::size_t cells,
              TimeMs now) noexcept;

  private:
    Step finish_round(const Table& from) noexcept;
};

}  // namespace sg
