// Housekeeping of a store, about once a minute by one worker of the node.
#pragma once

#include "nginx/ngx.h"

#include "nginx/tier/store_lane.h"

namespace sg::ngx {

class Tidying final : public StoreErrand {
  public:
    Tidying() noexcept = default;
    Tidying(const Tidying&) = delete;
    Tidying& operator=(const Tidying&) = delete;
    ~Tidying();

    // `lane` outlives it.
    void start(StoreLane& lane, ngx_log_t* log) noexcept;

    void run(Store& store, TimeMs now) noexcept override;
    void done() noexcept override;

  private:
    static void minute_event(ngx_event_t* event) noexcept;

    StoreLane* lane_ = nullptr;
    ngx_event_t minute_{};
};

}  // namespace sg::ngx
