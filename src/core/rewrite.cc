#include "core/rewrite.h"

#include "core/handover.h"
#include "core/journal.h"

namespace sg {

Change from_insert(InsertResult result) noexcept {
    switch (result) {
        case InsertResult::inserted:
            return Change::done;
        case InsertResult::full:
            return Change::full;
        case InsertResult::too_large:
            return Change::too_large;
        case InsertResult::exists:
            break;
    }
    return Change::no_random;  // 128 random bits collided: the generator is broken
}

void tell_saved(const Realm& realm, const SessionView& view, ByteView record) noexcept {
    if (realm.journal != nullptr) {
        realm.journal->saved(view, record);
    }
}

bool is_edition(LockedHome& home, const Handle& handle, std::uint32_t counter, ByteSpan scratch,
                SessionView& view) noexcept {
    if (home.table().find_locked(home.shard(), handle, view, scratch) != FindResult::found) {
        return false;
    }
    const auto record = decode_record(scratch.first(view.record_size));
    return record && record->change_counter == counter;
}

Change rewrite(const Realm& realm, const Token& token, const Record& record, TimeMs now,
               ByteSpan out, ByteSpan scratch) noexcept {
    const std::size_t size = encode_record(record, out);
    if (size == 0) {
        return Change::too_large;
    }
    SessionView view;
    {
        LockedHome home(realm, token.handle);
        if (!is_edition(home, token.handle, record.change_counter - 1, scratch, view)) {
            return Change::gone;
        }
        const auto result =
            home.table().replace(home.shard(), token, out.first(size), sweep_limits(realm), now);
        if (result != InsertResult::inserted) {
            return result ? from_insert(*result) : Change::gone;
        }
    }
    view.token = token;
    tell_saved(realm, view, out.first(size));
    return Change::done;
}

}  // namespace sg
