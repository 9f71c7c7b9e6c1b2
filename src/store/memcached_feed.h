// The feed (store.h) in memcached: on each server a head, and slots that are numbered one after the
// other. A number is taken by writing its slot, with "add"; it counts when the head, which is moved
// with the cas it was read with, has come as far. Nobody reads beyond the head, so one that goes
// back, or a slot that is missing (evicted, expired), shows.
//
// An operation is told on one server: whoever hears all servers hears it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/feed_note.h"
#include "store/byte_arena.h"
#include "store/memcached_codec.h"
#include "store/memcached_exchange.h"
#include "store/memcached_store.h"

namespace sg {

class MemcachedFeed {
  public:
    MemcachedFeed(MemcachedCodec& codec, MemcachedExchange& exchange) noexcept
        : codec_(codec), exchange_(exchange) {}

    void open(const MemcachedConf& conf, std::uint8_t key_id) noexcept;

    // What a batch has to tell: clear, add for each note, tell. Afterwards has_told() of a server:
    // what was added for it is in its feed.
    void clear() noexcept;
    bool is_empty() const noexcept { return count_ == 0; }
    void add(std::size_t server, const FeedNote& note) noexcept;
    void tell(TimeMs now) noexcept;
    bool has_told(std::size_t server) const noexcept { return turns_[server].told; }

    // Store::listen, within a batch of the exchange.
    FeedHeard listen(std::span<FeedPlace> places, std::span<FeedNote> notes,
                     std::size_t& count) noexcept;

  private:
    static constexpr std::size_t kWindow = 16;  // slots looked at in one question

    // One server in one batch.
    struct Turn {
        std::array<FeedNote, kMaxFeedNotes> notes;
        std::size_t count = 0;
        bool told = false;
        std::size_t question = 0;  // the head; the slots of the window follow
        bool asked = false;
        std::array<MemcachedName, kWindow> names;
        ByteArena::Place own;  // the slot that was tried
        bool tried = false;
    };

    // Where a server's feed was last. Epoch 0: not known.
    struct Next {
        FeedPosition at;        // of the slot to write
        std::uint64_t cas = 0;  // of the head
        bool landed = false;    // the slot is there; the head has not come as far
        std::uint64_t own_chain = 0;
    };

    StoreKey slot_key(const FeedPosition& at) const noexcept;
    bool open_head(const MemcachedExchange::Question& question, FeedPosition& head) noexcept;
    std::optional<std::size_t> open_slot(const MemcachedExchange::Question& question,
                                         const FeedPosition& at,
                                         std::span<FeedNote> notes) noexcept;
    void put_head(std::size_t server, const FeedPosition& head, std::uint64_t cas) noexcept;
    void make_head(std::size_t server, std::uint64_t cas) noexcept;
    void ask(std::size_t server, const FeedPosition& from) noexcept;

    void try_next(std::size_t server, TimeMs now) noexcept;
    void hear_tried(std::size_t server) noexcept;
    bool is_own_slot(const Turn& turn) const noexcept;
    void pass_others(const Turn& turn, Next& next) const noexcept;

    FeedHeard hear(std::size_t server, FeedPlace& place, std::span<FeedNote> notes,
                   std::size_t& count) noexcept;
    FeedHeard hear_slots(std::size_t question, const FeedPosition& head, FeedPlace& place,
                         std::span<FeedNote> notes, std::size_t& count) noexcept;

    MemcachedCodec& codec_;
    MemcachedExchange& exchange_;
    std::size_t servers_ = 0;
    StoreKey key_{};
    std::uint8_t key_id_ = 0;
    MemcachedName head_name_{};
    std::size_t count_ = 0;
    std::array<Turn, kMaxServers> turns_;
    std::array<Next, kMaxServers> next_{};
    ByteArena sealed_;
};

}  // namespace sg
