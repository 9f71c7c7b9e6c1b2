// One worker of the node follows the store's feed (store/store.h): what other nodes end or change
// is asked about at its next request here, and everything else is believed for longer.
#pragma once

#include "nginx/ngx.h"

#include <array>

#include "nginx/tier/store_lane.h"
#include "store/health.h"

namespace sg::ngx {

class Listening final : public StoreErrand {
  public:
    Listening() noexcept = default;
    Listening(const Listening&) = delete;
    Listening& operator=(const Listening&) = delete;
    ~Listening();

    // `lane` and `realm` outlive it.
    void start(StoreLane& lane, RealmConf& realm, ngx_log_t* log) noexcept;

    void run(Store& store, TimeMs now) noexcept override;
    void done() noexcept override;

  private:
    static void timer_event(ngx_event_t* event) noexcept;
    void set_out() noexcept;

    static constexpr std::size_t kMostNotes = 512;

    StoreLane* lane_ = nullptr;
    RealmConf* realm_ = nullptr;
    bool is_out_ = false;
    ngx_event_t timer_{};

    // The thread's, while it is out.
    std::array<FeedPlace, kMaxServers> places_{};
    std::array<FeedNote, kMostNotes> notes_{};
    std::size_t count_ = 0;
    TimeMs sent_ = 0;
    FeedHeard heard_ = FeedHeard::unknown;
};

}  // namespace sg::ngx
