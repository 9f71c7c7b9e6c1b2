// An open LMDB environment: one per process and file, shared by every store made for the file and
// closed with the last of them, because LMDB must not open a file twice in one process.
// Transactions: lmdb_txn.h.
//
// Any thread may use an environment; none may after a fork (is_usable()).
#pragma once

#include <lmdb.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>

#include "store/lmdb_files.h"

namespace sg {

class LmdbEnv;

// Whether an empty file is given its layout.
enum class LmdbLayout : std::uint8_t { expected, lay_out };

struct LmdbEnvRelease {
    void operator()(LmdbEnv* env) const noexcept;
};
using LmdbEnvRef = std::unique_ptr<LmdbEnv, LmdbEnvRelease>;

class LmdbEnv {
  public:
    static constexpr std::size_t kFirstMapBytes = std::size_t{64} << 20;
    static constexpr std::size_t kSmallestMapBytes = std::size_t{1} << 20;

    // Opens the files, which must be there and `user`'s, or joins those in this process that have
    // them open. `map_size` bounds the data file. nullptr and `error` filled on failure.
    static LmdbEnvRef acquire(const std::string& path, uid_t user, std::size_t map_size,
                              LmdbLayout layout, std::string& error) noexcept;
    ~LmdbEnv();
    LmdbEnv(const LmdbEnv&) = delete;
    LmdbEnv& operator=(const LmdbEnv&) = delete;

    // False in a child of the process that opened it.
    bool is_usable() const noexcept { return owner_ == ::getpid(); }

    // While a transaction is open.
    MDB_dbi entries() const noexcept { return entries_; }
    MDB_dbi expiry() const noexcept { return expiry_; }

    // Doubles the map, at most to `limit`; false when that is reached or it cannot be done. No
    // transaction of the calling thread may be open.
    bool grow(std::size_t limit) noexcept;

    // What sessions may fill, and what the file may become: the rest is for logouts and for the
    // removal of expired entries, which need pages too.
    std::size_t limit() const noexcept { return (map_size_ - map_size_ / 16) & ~kMapGrain; }
    std::size_t last_reserve() const noexcept { return map_size_; }
    void give_back_reserve() noexcept;

    // Frees the reader slots of dead processes.
    void check_readers() noexcept;

  private:
    static constexpr std::size_t kMapGrain = 0xffff;  // 64 KiB: a multiple of any page

    friend struct LmdbEnvRelease;
    friend class ReadTxn;
    friend class WriteTurn;
    friend class WriteTxn;

    LmdbEnv(const std::string& path, std::size_t map_size) noexcept
        : path_(path), map_size_(map_size & ~kMapGrain) {}

    int open_first(LmdbFile file, LmdbLayout layout) noexcept;
    int open(LmdbLayout layout) noexcept;
    int check_identity() noexcept;
    int open_databases(LmdbLayout layout) noexcept;
    void close() noexcept;
    int begin(unsigned flags, MDB_txn** txn) noexcept;
    void finish() noexcept;
    int recover(int failure) noexcept;
    int remap(std::size_t size) noexcept;
    int explain_failed_write(int failure) noexcept;

    const std::string path_;
    const std::size_t map_size_;
    const pid_t owner_ = ::getpid();
    FileId id_;
    Fd turn_fd_;
    std::timed_mutex turn_;             // the threads of this process, before the lock on turn_fd_
    std::shared_timed_mutex map_lock_;  // shared: a transaction is open; alone: the map may move
    MDB_env* env_ = nullptr;            // null: could not be opened again after a failure
    MDB_dbi entries_ = 0;
    MDB_dbi expiry_ = 0;

    // the registry's, under its mutex
    std::size_t references_ = 0;
    LmdbEnv* next_ = nullptr;
};

}  // namespace sg
