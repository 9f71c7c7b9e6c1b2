#include "store/fake_store.h"

#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <optional>

namespace sg::test {
namespace {

using Name = FakeMemory::Name;

bool system_random(ByteSpan out) noexcept {
    return RAND_bytes(out.data(), static_cast<int>(out.size())) == 1;
}

class FakeStore final : public Store {
  public:
    FakeStore(FakeMemory& memory, StoreHealth& health) : memory_(memory), health_(health) {}

    bool load(const SealKeys& keys) noexcept { return sealer_.load(keys); }

    void run(std::span<StoreOp> batch, TimeMs now) noexcept override;
    FeedHeard listen(std::span<FeedPlace> places, std::span<FeedNote> notes, std::size_t& count,
                     TimeMs now) noexcept override;

  private:
    // An entry as it was found: absent when not there or expired, unknown when it cannot be read.
    struct Read {
        StoreAnswer answer = StoreAnswer::absent;
        StoreEntry entry;
    };

    bool passes(const StoreOp& op) noexcept;
    void carry_out(StoreOp& op, TimeMs now) noexcept;
    void get(StoreOp& op, TimeMs now) noexcept;
    void put(StoreOp& op, TimeMs now) noexcept;
    void end(StoreOp& op, TimeMs now) noexcept;
    void touch(StoreOp& op, TimeMs now) noexcept;

    Read read(const Name& name, TimeMs now, BytesBox& bytes) noexcept;
    Read read_state(StoreOp& op, TimeMs now) noexcept;
    StoreAnswer open(const std::string& sealed, const Name& name, BytesBox& bytes,
                     StoreEntry& entry) noexcept;
    StoreAnswer write(const StoreOp& op) noexcept;
    StoreAnswer count(StoreFault fault) noexcept;

    FakeMemory& memory_;
    StoreHealth& health_;
    Sealer sealer_;
    RandomPool random_{&system_random};
};

StoreAnswer FakeStore::count(StoreFault fault) noexcept {
    count_fault(health_, fault);
    return StoreAnswer::unknown;
}

void FakeStore::run(std::span<StoreOp> batch, TimeMs now) noexcept {
    ++memory_.batches;
    if (memory_.before_batch) {
        memory_.before_batch(batch);
    }
    for (StoreOp& op : batch) {
        ++memory_.operations;
        op.answer = StoreAnswer::unknown;
        op.lost = false;
        if (passes(op)) {
            const std::lock_guard guard(memory_.mutex);
            carry_out(op, now);
            if (const auto note = feed_note_of(op)) {
                memory_.told.push_back(*note);
            }
        }
        if (memory_.fault == FakeFault::lost_answers) {
            op.answer = count(StoreFault::timed_out);
            op.lost = false;
        }
    }
}

FeedHeard FakeStore::listen(std::span<FeedPlace> places, std::span<FeedNote> notes,
                            std::size_t& count, TimeMs) noexcept {
    count = 0;
    if (memory_.fault != FakeFault::none && memory_.fault != FakeFault::full) {
        return FeedHeard::unknown;
    }
    const std::lock_guard guard(memory_.mutex);
    FeedPlace& place = places[0];
    const std::uint64_t next = memory_.told.size() + 1;
    if (place.epoch != 1 || place.next == 0 || place.next > next) {
        place = {.epoch = 1, .next = next};
        return FeedHeard::gap;
    }
    for (; place.next < next && count < notes.size(); ++place.next) {
        notes[count++] = memory_.told[place.next - 1];
    }
    return place.next < next ? FeedHeard::more : FeedHeard::whole;
}

bool FakeStore::passes(const StoreOp& op) noexcept {
    switch (memory_.fault) {
        case FakeFault::none:
        case FakeFault::lost_answers:
            return true;
        case FakeFault::unreachable:
            count(StoreFault::unreachable);
            return false;
        case FakeFault::timed_out:
            count(StoreFault::timed_out);
            return false;
        case FakeFault::breaker_open:
            count(StoreFault::breaker_open);
            return false;
        case FakeFault::full:
            break;
    }
    if (op.verb == StoreVerb::create || op.verb == StoreVerb::change) {
        count(StoreFault::full);
        return false;
    }
    return true;
}

void FakeStore::carry_out(StoreOp& op, TimeMs now) noexcept {
    switch (op.verb) {
        case StoreVerb::get:
            return get(op, now);
        case StoreVerb::create:
        case StoreVerb::change:
            return put(op, now);
        case StoreVerb::end:
            return end(op, now);
        case StoreVerb::touch:
            return touch(op, now);
    }
}

void FakeStore::get(StoreOp& op, TimeMs now) noexcept {
    op.answer = read_state(op, now).answer;
    if (op.answer != StoreAnswer::found || op.seen.kind != EntryKind::session) {
        return;
    }
    BytesBox bytes;
    const Read activity = read({.key = op.key, .is_activity = true}, now, bytes);
    if (activity.answer == StoreAnswer::unknown) {
        op.answer = StoreAnswer::unknown;  // without it, a session in use would look idle
    } else if (activity.answer == StoreAnswer::found) {
        op.seen.last_seen = std::max(op.seen.last_seen, activity.entry.last_seen);
    }
}

void FakeStore::put(StoreOp& op, TimeMs now) noexcept {
    const Read old = read_state(op, now);
    if (old.answer == StoreAnswer::unknown) {
        return;
    }
    if (old.answer == StoreAnswer::absent ||
        (op.verb == StoreVerb::change && overtakes(op.entry, old.entry))) {
        op.answer = write(op);
        return;
    }
    op.answer = StoreAnswer::found;
    op.lost = old.entry.kind == EntryKind::ended || old.entry.version != op.entry.version ||
              (op.verb == StoreVerb::create && !same_token(old.entry.token, op.entry.token));
}

void FakeStore::end(StoreOp& op, TimeMs now) noexcept {
    const Read old = read_state(op, now);
    const bool has_ended = old.answer == StoreAnswer::found && old.entry.kind == EntryKind::ended;
    if (old.answer == StoreAnswer::found) {
        note_successor(op, old.entry);
    }
    op.answer = has_ended ? StoreAnswer::found : write(op);
    if (op.answer == StoreAnswer::found) {
        memory_.sealed.erase({.key = op.key, .is_activity = true});
    }
}

void FakeStore::touch(StoreOp& op, TimeMs now) noexcept {
    const Read state = read_state(op, now);
    if (state.answer != StoreAnswer::found || state.entry.kind != EntryKind::session) {
        const bool unknown = state.answer == StoreAnswer::unknown;
        op.answer = unknown ? StoreAnswer::unknown : StoreAnswer::absent;
        return;
    }
    BytesBox bytes;
    const Read old = read({.key = op.key, .is_activity = true}, now, bytes);
    const bool is_later =
        old.answer != StoreAnswer::found || old.entry.last_seen < op.entry.last_seen;
    op.answer = is_later ? write(op) : StoreAnswer::found;
}

FakeStore::Read FakeStore::read_state(StoreOp& op, TimeMs now) noexcept {
    const Read state = read({.key = op.key, .is_activity = false}, now, op.seen_bytes);
    op.seen = state.entry;
    return state;
}

FakeStore::Read FakeStore::read(const Name& name, TimeMs now, BytesBox& bytes) noexcept {
    Read read;
    const auto found = memory_.sealed.find(name);
    if (found == memory_.sealed.end()) {
        return read;
    }
    read.answer = open(found->second, name, bytes, read.entry);
    if (read.answer == StoreAnswer::found && read.entry.expires <= now) {
        memory_.sealed.erase(found);
        read.answer = StoreAnswer::absent;
    }
    return read;
}

// Session and tombstone lie under one name: whichever it opens as.
StoreAnswer FakeStore::open(const std::string& sealed, const Name& name, BytesBox& bytes,
                            StoreEntry& entry) noexcept {
    using enum EntryKind;
    const std::size_t room = sealed.size() - std::min(sealed.size(), kSealBytes);
    if (!bytes.resize(room)) {
        return StoreAnswer::unknown;
    }
    for (const EntryKind kind : {name.is_activity ? activity : session, ended}) {
        std::size_t size = 0;
        const auto opened = sealer_.open(name.key, kind, as_bytes(sealed), bytes.span(), size);
        if (opened == Sealer::Opened::newer_layout) {
            return count(StoreFault::newer_layout);
        }
        if (opened != Sealer::Opened::ok) {
            continue;
        }
        switch (decode_entry(bytes.view().first(size), name.key, entry)) {
            case EntryRead::ok:
                return entry.kind == kind ? StoreAnswer::found : count(StoreFault::bad_seal);
            case EntryRead::newer_layout:
                return count(StoreFault::newer_layout);
            case EntryRead::wrong_key:
                return count(StoreFault::wrong_key);
            case EntryRead::damaged:
                return count(StoreFault::bad_seal);
        }
    }
    return count(StoreFault::bad_seal);
}

StoreAnswer FakeStore::write(const StoreOp& op) noexcept {
    BytesBox plain;
    std::array<std::uint8_t, kNonceBytes> nonce;
    if (!plain.resize(encoded_size(op.entry)) || !random_.take(nonce)) {
        return StoreAnswer::unknown;
    }
    const std::size_t size = encode_entry(op.entry, op.key, plain.span());
    std::string sealed(size + kSealBytes, '\0');
    const ByteSpan out(reinterpret_cast<std::uint8_t*>(sealed.data()), sealed.size());
    if (size == 0 || sealer_.seal(op.key_id, op.key, op.entry.kind, plain.view().first(size), nonce,
                                  out) != out.size()) {
        return StoreAnswer::unknown;
    }
    memory_.sealed[{.key = op.key, .is_activity = op.verb == StoreVerb::touch}] = sealed;
    return StoreAnswer::found;
}

}  // namespace

std::unique_ptr<Store> make_fake_store(FakeMemory& memory, const SealKeys& keys,
                                       StoreHealth& health) {
    auto store = std::make_unique<FakeStore>(memory, health);
    return store->load(keys) ? std::move(store) : nullptr;
}

}  // namespace sg::test
