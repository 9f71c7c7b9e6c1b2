// A store that fails or stalls on demand, in front of the real one; in test builds only. The test
// sets the word through the file that also moves the clock (nginx/clock.h).
#pragma once

#include "nginx/clock.h"

#if (SESSION_GUARD_TEST_CLOCK)

#include <unistd.h>

#include <memory>

#include "store/store.h"

namespace sg::ngx {

class TestStore final : public Store {
  public:
    explicit TestStore(std::unique_ptr<Store> real) noexcept : real_(std::move(real)) {}

    void run(std::span<StoreOp> batch, TimeMs now) noexcept override {
        if (works()) {
            real_->run(batch, now);
        }
    }

    FeedHeard listen(std::span<FeedPlace> places, std::span<FeedNote> notes, std::size_t& count,
                     TimeMs now) noexcept override {
        count = 0;
        return works() ? real_->listen(places, notes, count, now) : FeedHeard::unknown;
    }

    std::size_t tidy(std::size_t limit, TimeMs now) noexcept override {
        return real_->tidy(limit, now);
    }

  private:
    static bool works() noexcept {
        constexpr int kMostStalls = 2000;
        for (int i = 0; test_store() == TestStoreState::stalls && i < kMostStalls; ++i) {
            usleep(5000);
        }
        return test_store() != TestStoreState::fails;
    }

    std::unique_ptr<Store> real_;
};

inline std::unique_ptr<Store> for_tests(std::unique_ptr<Store> real) noexcept {
    return real != nullptr ? std::unique_ptr<Store>(new (std::nothrow) TestStore(std::move(real)))
                           : nullptr;
}

}  // namespace sg::ngx

#else

namespace sg::ngx {

inline std::unique_ptr<Store> for_tests(std::unique_ptr<Store> real) noexcept {
    return real;
}

}  // namespace sg::ngx

#endif
