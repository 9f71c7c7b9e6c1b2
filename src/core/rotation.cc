#include "core/rotation.h"

#include <algorithm>
#include <array>
#include <limits>

#include "core/feed_state.h"
#include "core/handover.h"
#include "core/rewrite.h"

namespace sg {
namespace {

// A copy of a session may be some rotations behind: they were seen on other nodes.
constexpr std::uint32_t kMostAhead = 8;

// Whether no other node can have replaced the secret twice since this copy was certain: the request
// may have taken long, and what its browser would be handed be old by now. Half, for the way back.
bool is_recent(const Realm& realm, const SessionView& view, TimeMs now) noexcept {
    if (!realm.has_store) {
        return true;
    }
    const TimeMs bound = realm.rotate / 2;
    const FeedState* const feed = realm.feed;
    if (feed != nullptr && feed->has_told(view.token.handle, view.confirmed)) {
        return false;  // another node has changed it
    }
    return sg::is_recent(view.confirmed, now, bound) ||
           (feed != nullptr && feed->vouches(view.confirmed, now, bound));
}

}  // namespace

Held holding_of(const Realm& realm, const SessionView& view, const Record& record,
                const Token& token, TimeMs now) noexcept {
    if (same_token(view.token, token)) {
        return {Holding::current, record.generation};
    }
    if (token.key_id != view.token.key_id) {
        return {};  // a handle never changes its key
    }
    const std::uint32_t first = record.generation - std::min(record.generation, 1U);
    for (std::uint32_t n = first; n <= record.generation + kMostAhead; ++n) {
        const auto derived = realm.keys->token_of(token.key_id, token.handle, record.seed, n);
        if (!derived) {
            return {};
        }
        if (!same_token(*derived, token)) {
            continue;
        }
        if (n > record.generation) {
            return {Holding::next, n};
        }
        return age(rotated_at(record), now) < realm.rotation_grace ? Held{Holding::previous, n}
                                                                   : Held{Holding::behind, n};
    }
    return {Holding::behind, 0};
}

std::optional<Token> token_to_hand_out(const Realm& realm, const Token& token,
                                       TimeMs now) noexcept {
    std::array<std::uint8_t, 192> bytes;
    SessionView view;
    Record record;
    const FindResult found = look_up(realm, token.handle, view, bytes);
    if ((found != FindResult::found && found != FindResult::too_small) ||
        view.superseded_until != 0 || !view_numbers(bytes, record)) {
        return std::nullopt;
    }
    switch (holding_of(realm, view, record, token, now).holding) {
        case Holding::current:
            if (is_rotation_due(realm, record, now) && is_recent(realm, view, now)) {
                return realm.keys->token_of(token.key_id, token.handle, record.seed,
                                            record.generation + 1);
            }
            return owes_second_cookie(record) ? std::optional(view.token) : std::nullopt;
        case Holding::previous:
            return view.token;
        case Holding::next:
        case Holding::behind:
        case Holding::unknown:
            break;
    }
    return std::nullopt;
}

void note_second_cookie(const Realm& realm, const Token& token, TimeMs now,
                        ByteSpan work) noexcept {
    const ByteSpan stored = work.first(kLargestRecordBytes);
    SessionView view;
    if (look_up(realm, token.handle, view, stored) != FindResult::found ||
        view.superseded_until != 0) {
        return;
    }
    auto record = decode_record(stored.first(view.record_size));
    if (!record || !owes_second_cookie(*record)) {
        return;
    }
    record->flags &= static_cast<std::uint8_t>(~kFirstCookieFlag);
    ++record->change_counter;
    record->node = realm.node;
    rewrite(realm, view.token, *record, now, work.subspan(kLargestRecordBytes, kLargestRecordBytes),
            stored);
}

bool note_seen(const Realm& realm, const Token& token, TimeMs now, ByteSpan work) noexcept {
    const ByteSpan stored = work.first(kLargestRecordBytes);
    SessionView view;
    if (look_up(realm, token.handle, view, stored) != FindResult::found ||
        view.superseded_until != 0) {
        return false;
    }
    auto record = decode_record(stored.first(view.record_size));
    const Held held = record ? holding_of(realm, view, *record, token, now) : Held{};
    if (held.holding != Holding::next) {
        return false;
    }
    constexpr TimeMs kLatest = std::numeric_limits<std::uint32_t>::max();
    record->generation = held.generation;
    record->flags &= static_cast<std::uint8_t>(~kFirstCookieFlag);
    record->rotated_s =
        static_cast<std::uint32_t>(std::min<TimeMs>(age(record->created, now) / kSecond, kLatest));
    ++record->change_counter;
    record->node = realm.node;
    return rewrite(realm, token, *record, now,
                   work.subspan(kLargestRecordBytes, kLargestRecordBytes), stored) == Change::done;
}

}  // namespace sg
