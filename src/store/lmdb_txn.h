// Transactions of an LMDB environment.
//
//   ReadTxn    a snapshot; never waits for a writer
//   WriteTurn  the right to write, waited for with a limit
//   WriteTxn   one transaction under a WriteTurn; a commit is durable
//
// LMDB's own writer mutex is robust: a killed writer is noticed at once. But whoever waits for it
// waits for ever while its holder is merely stopped. Hence WriteTurn before it: a lock that can be
// tried, and that the kernel drops with its holder. All writers of this module take it, so LMDB's
// mutex is always free when they come to it. What no lock can bound is the holder's own fdatasync()
// on a hung disk.
#pragma once

#include <lmdb.h>

#include "core/time_ms.h"
#include "store/lmdb_env.h"

namespace sg {

class ReadTxn {
  public:
    explicit ReadTxn(LmdbEnv& env) noexcept;
    ~ReadTxn();
    ReadTxn(const ReadTxn&) = delete;
    ReadTxn& operator=(const ReadTxn&) = delete;

    int status() const noexcept { return status_; }  // 0, else why there is no transaction
    MDB_txn* get() const noexcept { return txn_; }

  private:
    LmdbEnv& env_;
    MDB_txn* txn_ = nullptr;
    int status_;
};

// One writer at a time, of all threads and processes.
class WriteTurn {
  public:
    static constexpr TimeMs kLongestWait = kSecond;

    explicit WriteTurn(LmdbEnv& env, TimeMs wait = kLongestWait) noexcept;
    ~WriteTurn();
    WriteTurn(const WriteTurn&) = delete;
    WriteTurn& operator=(const WriteTurn&) = delete;

    explicit operator bool() const noexcept { return has_turn_; }

  private:
    LmdbEnv& env_;
    bool has_turn_ = false;
};

class WriteTxn {
  public:
    WriteTxn(LmdbEnv& env, const WriteTurn& turn) noexcept;
    ~WriteTxn();  // gives up what was not committed
    WriteTxn(const WriteTxn&) = delete;
    WriteTxn& operator=(const WriteTxn&) = delete;

    int status() const noexcept { return status_; }
    MDB_txn* get() const noexcept { return txn_; }
    int commit() noexcept;

  private:
    LmdbEnv& env_;
    MDB_txn* txn_ = nullptr;
    int status_;
};

}  // namespace sg
