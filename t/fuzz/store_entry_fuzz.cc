// Fuzzes the store entry. Bytes that are an entry are written back as the same bytes, and only
// under their own key; what is composed from arbitrary parts and can be written can be read; of two
// entries never both win. Input: a key, then an entry's bytes.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/store_entry.h"

namespace {

using Bytes = std::vector<std::uint8_t>;

void require(bool condition, const char* what) {
    if (!condition) {
        std::fprintf(stderr, "broken promise: %s\n", what);
        std::abort();
    }
}

Bytes encode(const sg::StoreEntry& entry, const sg::StoreKey& key) {
    Bytes bytes(sg::encoded_size(entry));
    bytes.resize(sg::encode_entry(entry, key, bytes));
    return bytes;
}

bool inside(sg::ByteView part, sg::ByteView whole) {
    return part.empty() || (part.data() >= whole.data() &&
                            part.data() + part.size() <= whole.data() + whole.size());
}

bool same_entry(const sg::StoreEntry& a, const sg::StoreEntry& b) {
    return a.kind == b.kind && a.version == b.version && a.expires == b.expires &&
           sg::same_token(a.token, b.token) && a.last_seen == b.last_seen &&
           a.superseded_until == b.superseded_until && a.successor == b.successor &&
           sg::as_text(a.record) == sg::as_text(b.record) && a.why == b.why;
}

void check_order(const sg::StoreEntry& a, const sg::StoreEntry& b) {
    require(!(sg::wins(a, b) && sg::wins(b, a)), "never both win");
    require(!sg::wins(a, a), "nothing replaces itself");
    require(b.kind != sg::EntryKind::ended || !sg::wins(a, b), "ended stays ended");
}

void check_read(sg::ByteView bytes, const sg::StoreKey& key, const sg::StoreEntry& entry) {
    require(encode(entry, key) == Bytes(bytes.begin(), bytes.end()),
            "an entry is written as it was read");
    require(sg::encoded_size(entry) == bytes.size(), "the size is known before");
    require(bytes.size() <= sg::kMaxEntryBytes, "an entry has its limit");
    require(inside(entry.record, bytes), "the record stays inside");
    sg::StoreEntry other;
    sg::StoreKey other_key = key;
    other_key[bytes.size() % key.size()] ^= 1;
    require(sg::decode_entry(bytes, other_key, other) == sg::EntryRead::wrong_key,
            "an entry is of one key");
    require(sg::decode_entry(bytes.first(bytes.size() - 1), key, other) == sg::EntryRead::damaged,
            "a truncated entry is none");
}

// The key of the bytes themselves, so that the fuzzer need not guess it.
void check_bytes(sg::ByteView bytes, sg::StoreKey key) {
    sg::StoreEntry entry;
    const sg::EntryRead read = sg::decode_entry(bytes, key, entry);
    require(
        (read == sg::EntryRead::newer_layout) == (!bytes.empty() && bytes[0] > sg::kEntryVersion),
        "newer is what its first byte says");
    if (read == sg::EntryRead::wrong_key) {
        std::memcpy(key.data(), bytes.data() + 16, key.size());
        require(sg::decode_entry(bytes, key, entry) == sg::EntryRead::ok,
                "an entry of another key is one");
    } else if (read != sg::EntryRead::ok) {
        return;
    }
    check_read(bytes, key, entry);
    sg::StoreEntry ended = entry;
    ended.kind = sg::EntryKind::ended;
    check_order(entry, ended);
}

// Parts of the input as the fields of an entry.
sg::StoreEntry composed(sg::ByteView bytes) {
    std::uint8_t head[128] = {};
    std::memcpy(head, bytes.data(), bytes.size() < sizeof head ? bytes.size() : sizeof head);
    sg::StoreEntry entry;
    entry.kind = static_cast<sg::EntryKind>(head[0] % 5);
    entry.why = static_cast<sg::Departure>(head[1] % 7);
    entry.version = {.counter = head[2], .node = sg::load_le<std::uint64_t>(head + 3)};
    entry.expires = static_cast<sg::TimeMs>(sg::load_le<std::uint64_t>(head + 11));
    entry.last_seen = static_cast<sg::TimeMs>(sg::load_le<std::uint64_t>(head + 19));
    entry.superseded_until = head[27] == 0 ? 0 : static_cast<sg::TimeMs>(head[28]) - 1;
    std::memcpy(entry.successor.data(), head + 29, entry.successor.size());
    std::memcpy(&entry.token, head + 45, sizeof entry.token);
    entry.record = bytes;
    return entry;
}

void check_composed(sg::ByteView bytes, const sg::StoreKey& key) {
    const sg::StoreEntry entry = composed(bytes);
    check_order(entry, composed(bytes.subspan(bytes.size() / 2)));
    const Bytes written = encode(entry, key);
    if (written.empty()) {
        return;
    }
    sg::StoreEntry read;
    require(sg::decode_entry(written, key, read) == sg::EntryRead::ok,
            "what can be written can be read");
    check_read(written, key, read);
    require(
        read.kind == entry.kind && read.version == entry.version && read.expires == entry.expires,
        "what is read is what was written");
    if (entry.kind == sg::EntryKind::session) {
        sg::StoreEntry wanted = entry;
        wanted.why = sg::StoreEntry{}.why;
        if (wanted.superseded_until == 0) {
            wanted.successor = {};
        }
        require(same_entry(read, wanted), "and all of it");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    sg::StoreKey key{};
    if (size < key.size()) {
        return 0;
    }
    std::memcpy(key.data(), data, key.size());
    const sg::ByteView bytes(data + key.size(), size - key.size());
    check_bytes(bytes, key);
    check_composed(bytes, key);
    return 0;
}
