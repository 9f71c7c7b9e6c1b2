#include "store/lmdb_feed.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "store/lmdb_layout.h"

namespace sg {
namespace {

constexpr std::uint64_t kRing = 4096;  // slots that are kept

// The feed has no store keys: its place in the file is its name.
StoreKey place_key(std::uint64_t number) noexcept {
    StoreKey key{};
    store_le(key.data() + 8, number);
    return key;
}

MDB_val value_of(ByteView bytes) noexcept {
    return {.mv_size = bytes.size(), .mv_data = const_cast<std::uint8_t*>(bytes.data())};
}

// 0 and empty: it is not there.
int find(const LmdbContext& context, std::uint64_t number, LmdbSlot slot, ByteView& out) noexcept {
    const LmdbEntryKey bytes = lmdb_entry_key(place_key(number), slot);
    MDB_val name = value_of(bytes);
    MDB_val value{};
    const int rc = mdb_get(context.txn, context.entries, &name, &value);
    out = rc == 0 ? ByteView(static_cast<const std::uint8_t*>(value.mv_data), value.mv_size)
                  : ByteView();
    return rc == MDB_NOTFOUND ? 0 : rc;
}

ByteView open(const LmdbContext& context, std::uint64_t number, ByteView sealed,
              ByteSpan plain) noexcept {
    std::size_t size = 0;
    if (sealed.size() > plain.size() + kSealBytes ||
        context.sealer->open(place_key(number), kFeedKind, sealed, plain, size) !=
            Sealer::Opened::ok) {
        count_fault(*context.health, StoreFault::bad_seal);
        return {};
    }
    return plain.first(size);
}

// Epoch 0: there is none, or it cannot be read.
int read_head(const LmdbContext& context, FeedPosition& head) noexcept {
    std::array<std::uint8_t, kMaxFeedBytes> plain;
    ByteView sealed;
    const int rc = find(context, 0, LmdbSlot::feed_head, sealed);
    head = {};
    if (rc == 0 && !sealed.empty()) {
        head = decode_feed_head(open(context, 0, sealed, plain)).value_or(FeedPosition{});
    }
    return rc;
}

int put(const LmdbContext& context, std::uint8_t key_id, RandomPool& random, std::uint64_t number,
        LmdbSlot slot, ByteView plain, std::uint64_t& chain) noexcept {
    std::array<std::uint8_t, kMaxFeedBytes + kSealBytes> sealed;
    std::array<std::uint8_t, kNonceBytes> nonce;
    const std::size_t size =
        random.take(nonce)
            ? context.sealer->seal(key_id, place_key(number), kFeedKind, plain, nonce, sealed)
            : 0;
    if (size == 0) {
        return ENOMEM;
    }
    chain = feed_chain(ByteView(sealed).first(size));
    const LmdbEntryKey bytes = lmdb_entry_key(place_key(number), slot);
    MDB_val name = value_of(bytes);
    MDB_val value = value_of(ByteView(sealed).first(size));
    return mdb_put(context.txn, context.entries, &name, &value, 0);
}

int remove(const LmdbContext& context, std::uint64_t number) noexcept {
    const LmdbEntryKey bytes = lmdb_entry_key(place_key(number), LmdbSlot::feed_slot);
    MDB_val name = value_of(bytes);
    const int rc = mdb_del(context.txn, context.entries, &name, nullptr);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

// Behind `head`, which then says so.
int put_slot(const LmdbContext& context, std::uint8_t key_id, RandomPool& random,
             FeedPosition& head, std::span<const FeedNote> notes) noexcept {
    std::array<std::uint8_t, kMaxFeedBytes> plain;
    const FeedPosition at{head.epoch, head.number + 1, head.chain};
    const std::size_t size = encode_feed_slot(at, notes, plain);
    const int rc = put(context, key_id, random, at.number, LmdbSlot::feed_slot,
                       ByteView(plain).first(size), head.chain);
    head.number = at.number;
    return rc == 0 && at.number > kRing ? remove(context, at.number - kRing) : rc;
}

int begin_epoch(RandomPool& random, FeedPosition& head) noexcept {
    std::array<std::uint8_t, sizeof head.epoch> epoch;
    if (!random.take(epoch)) {
        return ENOMEM;
    }
    head = {std::max<std::uint64_t>(load_le<std::uint64_t>(epoch.data()), 1), 0, 0};
    return 0;
}

}  // namespace

int lmdb_tell(const LmdbContext& context, std::uint8_t key_id, RandomPool& random,
              std::span<const StoreOp> batch) noexcept {
    std::array<FeedNote, kMaxFeedNotes> notes;
    FeedPosition head;
    int rc = 0;
    bool begun = false;
    for (std::size_t i = 0; rc == 0 && i < batch.size();) {
        std::size_t count = 0;
        for (; i < batch.size() && count < notes.size(); ++i) {
            if (const auto note = feed_note_of(batch[i])) {
                notes[count++] = *note;
            }
        }
        if (count == 0) {
            break;
        }
        if (!begun) {
            begun = true;
            rc = read_head(context, head);
            rc = rc == 0 && head.epoch == 0 ? begin_epoch(random, head) : rc;
        }
        rc = rc == 0 ? put_slot(context, key_id, random, head, std::span(notes).first(count)) : rc;
    }
    if (rc != 0 || !begun) {
        return rc;
    }
    std::array<std::uint8_t, kFeedFixedBytes> plain;
    encode_feed_head(head, plain);
    std::uint64_t unused = 0;
    return put(context, key_id, random, 0, LmdbSlot::feed_head, plain, unused);
}

int lmdb_listen(const LmdbContext& context, FeedPlace& place, std::span<FeedNote> notes,
                std::size_t& count, FeedHeard& heard) noexcept {
    FeedPosition head;
    int rc = read_head(context, head);
    if (rc != 0 || head.epoch == 0) {
        heard = FeedHeard::unknown;  // nothing has been told yet
        return rc;
    }
    heard = FeedHeard::gap;
    const bool in_reach = place.epoch == head.epoch && place.next > 0 &&
                          place.next <= head.number + 1 && head.number - place.next + 1 <= kRing;
    while (in_reach && place.next <= head.number) {
        std::array<std::uint8_t, kMaxFeedBytes> plain;
        ByteView sealed;
        rc = find(context, place.next, LmdbSlot::feed_slot, sealed);
        if (rc != 0) {
            heard = FeedHeard::unknown;
            return rc;
        }
        const std::span<FeedNote> room = notes.subspan(count);
        const ByteView bytes =
            sealed.empty() ? ByteView() : open(context, place.next, sealed, plain);
        const auto told = decode_feed_slot(bytes, {place.epoch, place.next, place.chain}, room);
        if (!told.has_value()) {
            break;
        }
        if (told.value() > room.size()) {
            heard = FeedHeard::more;
            return 0;
        }
        count += told.value();
        ++place.next;
        place.chain = feed_chain(sealed);
    }
    if (in_reach && place.next == head.number + 1 && place.chain == head.chain) {
        heard = FeedHeard::whole;
    } else {
        place = {head.epoch, head.number + 1, head.chain};
    }
    return 0;
}

}  // namespace sg
