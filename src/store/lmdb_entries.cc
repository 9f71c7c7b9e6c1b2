#include "store/lmdb_entries.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "store/lmdb_layout.h"

namespace sg {
namespace {

// A value as it lies in the map: valid until the next write of the transaction.
struct Stored {
    bool exists = false;
    EntryKind kind = EntryKind::session;
    TimeMs expires = 0;
    ByteView sealed;  // empty: the value is too short to be one

    bool is_live(TimeMs now) const noexcept { return exists && expires > now; }
};

template <class Bytes>
MDB_val value_of(const Bytes& bytes) noexcept {
    return {.mv_size = bytes.size(), .mv_data = const_cast<std::uint8_t*>(bytes.data())};
}

ByteView view_of(const MDB_val& value) noexcept {
    return {static_cast<const std::uint8_t*>(value.mv_data), value.mv_size};
}

Stored parse(ByteView value) noexcept {
    Stored stored;
    stored.exists = true;
    if (value.size() < kLmdbPrefixBytes + kSealBytes) {
        stored.expires = INT64_MAX;  // damaged: unknown, not absent
        return stored;
    }
    stored.expires = static_cast<TimeMs>(load_le<std::uint64_t>(value.data()));
    stored.kind = static_cast<EntryKind>(value[8]);
    stored.sealed = value.subspan(kLmdbPrefixBytes);
    return stored;
}

int find(const LmdbContext& context, const StoreKey& key, LmdbSlot slot, Stored& stored) noexcept {
    const LmdbEntryKey bytes = lmdb_entry_key(key, slot);
    MDB_val name = value_of(bytes);
    MDB_val value;
    const int rc = mdb_get(context.txn, context.entries, &name, &value);
    if (rc == 0) {
        stored = parse(view_of(value));
    }
    return rc == MDB_NOTFOUND ? 0 : rc;
}

StoreFault fault_of(Sealer::Opened opened) noexcept {
    return opened == Sealer::Opened::newer_layout ? StoreFault::newer_layout : StoreFault::bad_seal;
}

StoreFault fault_of(EntryRead read) noexcept {
    switch (read) {
        case EntryRead::newer_layout:
            return StoreFault::newer_layout;
        case EntryRead::wrong_key:
            return StoreFault::wrong_key;
        default:
            return StoreFault::bad_seal;
    }
}

// Opens and decodes into `plain`. False, and the fault counted: unknown.
bool open(const LmdbContext& context, const StoreKey& key, const Stored& stored, ByteSpan plain,
          StoreEntry& entry) noexcept {
    std::size_t size = 0;
    const auto opened = stored.sealed.empty()
                            ? Sealer::Opened::failed
                            : context.sealer->open(key, stored.kind, stored.sealed, plain, size);
    if (opened != Sealer::Opened::ok) {
        count_fault(*context.health, fault_of(opened));
        return false;
    }
    EntryRead read = decode_entry(plain.first(size), key, entry);
    if (read == EntryRead::ok && entry.kind != stored.kind) {
        read = EntryRead::damaged;
    }
    if (read != EntryRead::ok) {
        count_fault(*context.health, fault_of(read));
        return false;
    }
    return true;
}

// The session or tombstone, into op.seen and op.seen_bytes.
bool open_state(const LmdbContext& context, const Stored& stored, StoreOp& op) noexcept {
    const std::size_t size = stored.sealed.size() - std::min(stored.sealed.size(), kSealBytes);
    return op.seen_bytes.resize(size) &&
           open(context, op.key, stored, op.seen_bytes.span(), op.seen);
}

bool open_activity(const LmdbContext& context, const StoreKey& key, const Stored& stored,
                   TimeMs& last_seen) noexcept {
    std::array<std::uint8_t, kEntryFixedBytes> plain;
    StoreEntry entry;
    const bool fits = stored.sealed.size() <= plain.size() + kSealBytes;
    if (!fits) {
        count_fault(*context.health, StoreFault::bad_seal);
    }
    if (!fits || !open(context, key, stored, plain, entry) || entry.kind != EntryKind::activity) {
        return false;
    }
    last_seen = entry.last_seen;
    return true;
}

int remove(const LmdbContext& context, MDB_dbi db, ByteView key) noexcept {
    MDB_val name = value_of(key);
    const int rc = mdb_del(context.txn, db, &name, nullptr);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int put(const LmdbContext& context, MDB_dbi db, ByteView key, ByteView bytes) noexcept {
    MDB_val name = value_of(key);
    MDB_val value = value_of(bytes);
    return mdb_put(context.txn, db, &name, &value, 0);
}

// Puts session or tombstone in the place of `old`, and keeps the index.
int put_state(const LmdbContext& context, const StoreOp& op, const Stored& old,
              ByteView value) noexcept {
    int rc = 0;
    const bool indexed = old.exists && !old.sealed.empty();
    if (indexed && old.expires != op.entry.expires) {
        rc = remove(context, context.expiry, lmdb_expiry_key(old.expires, op.key));
    }
    if (rc == 0 && (!indexed || old.expires != op.entry.expires)) {
        rc = put(context, context.expiry, lmdb_expiry_key(op.entry.expires, op.key), {});
    }
    return rc != 0 ? rc
                   : put(context, context.entries, lmdb_entry_key(op.key, LmdbSlot::state), value);
}

int remove_activity(const LmdbContext& context, const StoreKey& key) noexcept {
    return remove(context, context.entries, lmdb_entry_key(key, LmdbSlot::activity));
}

int create_or_change(const LmdbContext& context, StoreOp& op, ByteView value) noexcept {
    Stored old;
    int rc = find(context, op.key, LmdbSlot::state, old);
    if (rc != 0) {
        return rc;
    }
    if (old.is_live(context.now)) {
        if (!open_state(context, old, op)) {
            return 0;  // unknown
        }
        const bool same =
            op.seen.kind == EntryKind::session && op.seen.version == op.entry.version &&
            (op.verb == StoreVerb::change || same_token(op.seen.token, op.entry.token));
        if (same || op.verb == StoreVerb::create || !overtakes(op.entry, op.seen)) {
            op.answer = StoreAnswer::found;
            op.lost = !same;
            return 0;
        }
    } else if (old.exists) {
        rc = remove_activity(context, op.key);  // of a session that has expired
    }
    rc = rc == 0 ? put_state(context, op, old, value) : rc;
    op.answer = rc == 0 ? StoreAnswer::found : StoreAnswer::unknown;
    return rc;
}

int end(const LmdbContext& context, StoreOp& op, ByteView value) noexcept {
    Stored old;
    int rc = find(context, op.key, LmdbSlot::state, old);
    if (rc != 0) {
        return rc;
    }
    // A tombstone that can be read stays. Anything else gives way, damaged or newer ones too: a
    // logout must not depend on what it ends.
    if (old.is_live(context.now) && open_state(context, old, op)) {
        if (op.seen.kind == EntryKind::ended) {
            op.answer = StoreAnswer::found;
            return 0;
        }
        note_successor(op, op.seen);
    }
    rc = remove_activity(context, op.key);
    rc = rc == 0 ? put_state(context, op, old, value) : rc;
    op.answer = rc == 0 ? StoreAnswer::found : StoreAnswer::unknown;
    return rc;
}

int touch(const LmdbContext& context, StoreOp& op, ByteView value) noexcept {
    Stored state;
    int rc = find(context, op.key, LmdbSlot::state, state);
    if (rc != 0) {
        return rc;
    }
    if (!state.is_live(context.now) || state.kind == EntryKind::ended) {
        op.answer = StoreAnswer::absent;
        return 0;
    }
    if (state.kind != EntryKind::session) {
        count_fault(*context.health, StoreFault::bad_seal);
        return 0;
    }
    Stored old;
    rc = find(context, op.key, LmdbSlot::activity, old);
    if (rc != 0) {
        return rc;
    }
    TimeMs last_seen = 0;
    const bool known = old.is_live(context.now) && open_activity(context, op.key, old, last_seen);
    if (!known || last_seen < op.entry.last_seen) {
        rc = put(context, context.entries, lmdb_entry_key(op.key, LmdbSlot::activity), value);
    }
    op.answer = rc == 0 ? StoreAnswer::found : StoreAnswer::unknown;
    return rc;
}

// Removes what the index names, if it has really expired: the index could be older than the entry.
int remove_indexed(const LmdbContext& context, const StoreKey& key, TimeMs expires,
                   std::size_t& removed) noexcept {
    Stored stored;
    int rc = find(context, key, LmdbSlot::state, stored);
    const bool other = stored.expires != expires && !stored.sealed.empty();
    if (rc != 0 || !stored.exists || other) {
        return rc;
    }
    rc = remove_activity(context, key);
    rc = rc == 0 ? remove(context, context.entries, lmdb_entry_key(key, LmdbSlot::state)) : rc;
    removed += rc == 0 ? 1 : 0;
    return rc;
}

}  // namespace

int lmdb_get(const LmdbContext& context, StoreOp& op) noexcept {
    Stored state;
    Stored activity;
    int rc = find(context, op.key, LmdbSlot::state, state);
    if (rc != 0) {
        return rc;
    }
    if (!state.is_live(context.now)) {
        op.answer = StoreAnswer::absent;
        return 0;
    }
    if (!open_state(context, state, op)) {
        return 0;
    }
    if (op.seen.kind == EntryKind::session) {
        rc = find(context, op.key, LmdbSlot::activity, activity);
        TimeMs last_seen = 0;
        if (rc != 0) {
            return rc;
        }
        if (activity.is_live(context.now)) {
            if (!open_activity(context, op.key, activity, last_seen)) {
                return 0;  // unknown: without it a session in use would look idle
            }
            op.seen.last_seen = std::max(op.seen.last_seen, last_seen);
        }
    }
    op.answer = StoreAnswer::found;
    return 0;
}

int lmdb_write(const LmdbContext& context, StoreOp& op, ByteView value) noexcept {
    switch (op.verb) {
        case StoreVerb::create:
        case StoreVerb::change:
            return create_or_change(context, op, value);
        case StoreVerb::end:
            return end(context, op, value);
        case StoreVerb::touch:
            return touch(context, op, value);
        case StoreVerb::get:
            break;
    }
    return EINVAL;
}

int lmdb_remove_expired(const LmdbContext& context, std::size_t limit,
                        std::size_t& removed) noexcept {
    for (std::size_t n = 0; n < limit; ++n) {
        MDB_cursor* cursor = nullptr;
        int rc = mdb_cursor_open(context.txn, context.expiry, &cursor);
        if (rc != 0) {
            return rc;
        }
        MDB_val name;
        MDB_val nothing;
        rc = mdb_cursor_get(cursor, &name, &nothing, MDB_FIRST);
        TimeMs expires = 0;
        StoreKey key{};
        const bool readable = rc == 0 && name.mv_size == sizeof(LmdbExpiryKey);
        if (readable) {
            lmdb_read_expiry_key(static_cast<const std::uint8_t*>(name.mv_data), expires, key);
        }
        const bool due = rc == 0 && (!readable || expires <= context.now);
        rc = due ? mdb_cursor_del(cursor, 0) : rc;
        mdb_cursor_close(cursor);
        if (!due || rc != 0) {
            return rc == MDB_NOTFOUND ? 0 : rc;
        }
        rc = readable ? remove_indexed(context, key, expires, removed) : 0;
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

}  // namespace sg
