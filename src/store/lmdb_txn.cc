#include "store/lmdb_txn.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

namespace sg {
namespace {

constexpr std::chrono::nanoseconds kShortestPause{20'000};
constexpr std::chrono::nanoseconds kLongestPause{500'000};

bool lock_file(int fd, short type) noexcept {
    struct flock lock = {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_len = 1;
    int rc = 0;
    while ((rc = ::fcntl(fd, F_OFD_SETLK, &lock)) != 0 && errno == EINTR) {
    }
    return rc == 0;
}

}  // namespace

ReadTxn::ReadTxn(LmdbEnv& env) noexcept : env_(env), status_(env.begin(MDB_RDONLY, &txn_)) {}

ReadTxn::~ReadTxn() {
    if (status_ == 0) {
        mdb_txn_abort(txn_);
        env_.finish();
    }
}

WriteTurn::WriteTurn(LmdbEnv& env, TimeMs wait) noexcept : env_(env) {
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + std::chrono::milliseconds(wait);
    if (!env.turn_.try_lock_until(deadline)) {
        return;
    }
    auto pause = kShortestPause;
    while (!lock_file(env.turn_fd_.get(), F_WRLCK)) {
        if (Clock::now() >= deadline) {
            env.turn_.unlock();
            return;
        }
        std::this_thread::sleep_for(pause);
        pause = std::min(2 * pause, kLongestPause);
    }
    has_turn_ = true;
}

WriteTurn::~WriteTurn() {
    if (has_turn_) {
        lock_file(env_.turn_fd_.get(), F_UNLCK);
        env_.turn_.unlock();
    }
}

WriteTxn::WriteTxn(LmdbEnv& env, const WriteTurn& /*held*/) noexcept
    : env_(env), status_(env.begin(0, &txn_)) {}

WriteTxn::~WriteTxn() {
    if (txn_ != nullptr) {
        mdb_txn_abort(txn_);
        env_.finish();
    }
}

int WriteTxn::commit() noexcept {
    const int rc = mdb_txn_commit(txn_);
    txn_ = nullptr;
    env_.finish();
    return env_.explain_failed_write(rc);
}

}  // namespace sg
