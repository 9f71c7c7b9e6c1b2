// Writes a session's changed record over the edition that it was made from.
#pragma once

#include <cstddef>

#include "core/bytes.h"
#include "core/realm.h"
#include "core/record.h"
#include "core/zone/table.h"

namespace sg {

class LockedHome;  // core/handover.h

enum class Change : std::uint8_t {
    done,
    gone,       // the session is not live any more; nothing was changed
    full,       // no room in the zone: refuse, live logins stay
    too_large,  // attributes over max_data, or a record no zone of this size can hold
    no_random,  // the random generator or OpenSSL failed: refuse
    damaged,    // the stored record cannot be read
    limited,    // the user has as many sessions as may be: refuse
};

// Work space for open_session and change_session: two records of any legal size and the merged
// attributes. Not sized by `max_data`, which a reload may have lowered under what sessions hold.
inline constexpr std::size_t kLargestRecordBytes =
    kRecordFixedBytes + RecordLimits::kUserBytes +
    RecordLimits::kRoles * (RecordLimits::kRoleBytes + 1) + RecordLimits::kMaxDataBytes;
inline constexpr std::size_t kWorkBytes = 2 * kLargestRecordBytes + RecordLimits::kMaxDataBytes;

inline SweepLimits sweep_limits(const Realm& realm) noexcept {
    return {
        .idle = realm.timeouts.idle, .absolute = realm.timeouts.absolute, .evict = realm.has_store};
}

Change from_insert(InsertResult result) noexcept;

// To the journal, if there is one.
void tell_saved(const Realm& realm, const SessionView& view, ByteView record) noexcept;

// Whether the locked shard still holds the edition of the record that a change was made from: two
// workers may be changing one session. `scratch` is overwritten, with the record as it is.
bool is_edition(LockedHome& home, const Handle& handle, std::uint32_t counter, ByteSpan scratch,
                SessionView& view) noexcept;

// The live session with this handle gets the record, whose counter is one more than that of its
// edition, and the token; then the journal hears of it. `scratch` may be what the record's views
// point to: it is encoded into `out` first. gone: it is not live, or has another edition.
Change rewrite(const Realm& realm, const Token& token, const Record& record, TimeMs now,
               ByteSpan out, ByteSpan scratch) noexcept;

}  // namespace sg
