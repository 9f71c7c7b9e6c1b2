// What the model of rotation is held against: one or two nodes with a zone each, a store in memory
// that keeps the newest state of a session, and its feed. A request is driven through core/ as
// nginx/pass.cc, nginx/response.cc and nginx/tier/ do it.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/enforce.h"
#include "core/feed_note.h"
#include "core/feed_state.h"
#include "core/journal.h"
#include "core/lifecycle.h"
#include "core/random_pool.h"
#include "core/store_entry.h"
#include "core/web/control.h"

namespace sg::test {

inline constexpr int kMostFleetNodes = 2;

struct FleetConf {
    int nodes = 1;
    bool has_store = false;
    bool has_feed = false;
    TimeMs rotate = 0;
    TimeMs grace = 0;
    TimeMs revalidate = 0;
    TimeMs store_grace = 0;  // session_on_store_error
    Timeouts timeouts;
};

// What the store has, as bytes. Rules of overtaking as in store/.
class MemoryStore {
  public:
    struct Kept {
        std::vector<std::uint8_t> bytes;
        TimeMs last_seen = 0;
    };
    // Points into the store: good until it is written to.
    std::optional<StoreEntry> find(const Handle& handle) const;
    void keep(const Handle& handle, std::span<const std::uint8_t> bytes);
    void tell(FeedWhat what, const Handle& handle) { feed.push_back({what, handle}); }

    std::map<Handle, Kept> entries;
    std::vector<FeedNote> feed;
};

struct Verdict {
    Outcome outcome;  // without its views
    bool rotates = false;
    bool ended_it = false;  // reuse
    bool found = false;     // the store's answers
    bool absent = false;
    bool unknown = false;
};

class FleetNode final : public Journal {
  public:
    void start(const FleetConf& conf, int number, MemoryStore& store, const KeyRing& keys,
               std::span<std::byte> memory);

    // PREACCESS and ACCESS.
    Verdict request(std::span<const std::string_view> cookies, bool may_carry, TimeMs now);
    // The header filter: the Set-Cookie.
    std::optional<Token> respond(const Verdict& verdict, TimeMs now);

    std::optional<Token> login(RandomPool& random, TimeMs now);
    std::optional<Token> renew(RandomPool& random, const Token& token, TimeMs now);
    bool change(RandomPool& random, const Token& token, TimeMs now);
    bool logout(const Token& token, TimeMs now);

    // Everything that waits goes to the store, while it answers.
    void write(RandomPool& random, TimeMs now);
    void poll(TimeMs now);
    void reverse_writes();
    bool has_writes() const noexcept { return !writes_.empty(); }

    bool reaches_store = true;

    void saved(const SessionView& view, ByteView record) noexcept override;
    void ended(const Token& token, Departure why, TimeMs until) noexcept override;

  private:
    enum class Verb : std::uint8_t { put, end, touch };
    struct Write {
        Verb verb = Verb::put;
        Token token;
        TimeMs last_seen = 0;
        std::vector<std::uint8_t> bytes;
        bool has_command = false;
    };

    void ask_zone(std::span<const std::string_view> cookies, TimeMs now, Outcome& outcome);
    bool ask_store(Verdict& verdict, int& asked, TimeMs now);
    void without_store(Outcome& outcome, TimeMs now) const;
    void admit(Verdict& verdict, bool may_carry, TimeMs now);
    void apply(RandomPool& random, const Write& write, TimeMs now);
    void apply_put(RandomPool& random, const Write& write, const StoreEntry& entry, TimeMs now);

    FleetConf conf_;
    MemoryStore* store_ = nullptr;
    std::optional<Table> table_;
    std::unique_ptr<FeedState> feed_;
    Realm realm_;
    std::deque<Write> writes_;
    std::size_t heard_ = 0;  // of the feed
    bool follows_ = false;
    bool command_ = false;  // what is written now was made for a command
};

}  // namespace sg::test
