// A worker's way to one realm's store: operations go in two lanes, look-ups and writes, so that a
// slow commit never delays a look-up and writes keep their order.
#pragma once

#include "nginx/ngx.h"

#include "core/journal.h"
#include "core/realm.h"
#include "nginx/tier/listening.h"
#include "nginx/tier/reseeding.h"
#include "nginx/tier/second_look.h"
#include "nginx/tier/store_lane.h"
#include "nginx/tier/tidying.h"

namespace sg::ngx {

class StoreQueue final : public Journal {
  public:
    // NGX_ERROR, logged: the store cannot be opened.
    ngx_int_t start(RealmConf& realm, ngx_log_t* log) noexcept;
    void flush() noexcept;

    // Asks about a token; joins a look-up of the same key that has not set out yet. False: no
    // memory, or too many are waiting: the answer is unknown.
    bool ask(const Token& token, Watcher& watcher) noexcept { return look_up(token, &watcher); }

    // Has the replicas of this session's entry compared, without anybody waiting.
    void repair(const Token& token) noexcept { (void)look_up(token, nullptr); }

    // Of this worker: what has not set out yet, and what is tried again.
    std::size_t waiting() const noexcept { return look_ups_.waiting() + writes_.waiting(); }
    std::size_t retrying() const noexcept { return writes_.retrying(); }

    SecondLooks& second_looks() noexcept { return second_looks_; }

    // Last activity, without anybody waiting.
    void touch(const Token& token, TimeMs last_seen, TimeMs expires) noexcept;

    // Of the lanes: what an answer to a write means for the zone. True: it goes on as another
    // write, which those who wait now wait for.
    bool heard(StoreTask& task) noexcept;

    // Journal: written through. The request that is being served (WriteScope) waits.
    void opened(const SessionView& view, ByteView record) noexcept override;
    void saved(const SessionView& view, ByteView record) noexcept override;
    void ended(const Token& token, Departure why, TimeMs until) noexcept override;
    void wanted(const Token& token) noexcept override { repair(token); }

  private:
    bool look_up(const Token& token, Watcher* watcher) noexcept;
    void write(const Token& token, StoreVerb verb, const StoreEntry& entry) noexcept;
    void attend(StoreTask& task) noexcept;
    bool make_again(StoreTask& outrun) noexcept;
    bool follow_roster(StoreTask& task) noexcept;

    RealmConf* realm_ = nullptr;
    StoreLane look_ups_;
    StoreLane writes_;
    SecondLooks second_looks_;
    Tidying tidying_;  // one worker's
    Reseeding reseeding_;
    Listening listening_;            // likewise
    StoreTask* followed_ = nullptr;  // a write that another one is being made for just now
};

}  // namespace sg::ngx
