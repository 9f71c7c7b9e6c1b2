#include "store/lmdb_env.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <new>
#include <thread>

#include "core/bytes.h"
#include "store/lmdb_layout.h"
#include "store/lmdb_txn.h"

namespace sg {
namespace {

constexpr unsigned kFlags = MDB_NOSUBDIR | MDB_NOTLS;
constexpr unsigned kMaxReaders = 1024;
constexpr int kMostRounds = 8;  // of what another process may be in the middle of
constexpr std::chrono::milliseconds kLayoutPause{5};
constexpr off_t kProbedBytes = off_t{1} << 20;
constexpr std::chrono::milliseconds kMapPatience{1000};

// Trivially destructible: nothing runs when the module is unloaded.
struct Registry {
    std::mutex mutex;
    LmdbEnv* first = nullptr;
};
constinit Registry registry;

MDB_val value_of(const void* data, std::size_t size) noexcept {
    return {.mv_size = size, .mv_data = const_cast<void*>(data)};
}

// The record that says whose file this is, in the unnamed database.
int check_mark(MDB_txn* txn, MDB_dbi unnamed) noexcept {
    MDB_val key = value_of(kLmdbMark, sizeof kLmdbMark - 1);
    MDB_val value;
    const int rc = mdb_get(txn, unnamed, &key, &value);
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? MDB_INCOMPATIBLE : rc;
    }
    const bool ours =
        value.mv_size == kLmdbMarkBytes &&
        load_le<std::uint32_t>(static_cast<const std::uint8_t*>(value.mv_data)) == kLmdbLayout;
    return ours ? 0 : MDB_VERSION_MISMATCH;
}

int write_mark(MDB_txn* txn, MDB_dbi unnamed) noexcept {
    std::array<std::uint8_t, kLmdbMarkBytes> mark{};
    store_le<std::uint32_t>(mark.data(), kLmdbLayout);
    MDB_val key = value_of(kLmdbMark, sizeof kLmdbMark - 1);
    MDB_val value = value_of(mark.data(), mark.size());
    const int rc = mdb_put(txn, unnamed, &key, &value, MDB_NOOVERWRITE);
    return rc == MDB_KEYEXIST ? check_mark(txn, unnamed) : rc;
}

}  // namespace

LmdbEnvRef LmdbEnv::acquire(const std::string& path, uid_t user, std::size_t map_size,
                            LmdbLayout layout, std::string& error) noexcept {
    LmdbFile file;
    error = open_lmdb_file(path, user, O_RDWR, file);
    if (!error.empty()) {
        return nullptr;
    }
    const std::lock_guard guard(registry.mutex);
    for (LmdbEnv* env = registry.first; env != nullptr; env = env->next_) {
        if (env->id_ != file.id) {
            continue;
        }
        if (!env->is_usable()) {
            error = lmdb_error(path, "is held by the process that this one was forked from");
            return nullptr;
        }
        ++env->references_;
        return LmdbEnvRef(env);
    }
    if (file.size == 0 && layout == LmdbLayout::expected) {
        error = lmdb_error(path, "is empty");  // LMDB would make it a file of its own
        return nullptr;
    }
    std::unique_ptr<LmdbEnv> env(new (std::nothrow) LmdbEnv(path, map_size));
    const int rc = env != nullptr ? env->open_first(std::move(file), layout) : ENOMEM;
    if (rc != 0) {
        error = lmdb_error(path, mdb_strerror(rc));
        return nullptr;
    }
    env->references_ = 1;
    env->next_ = registry.first;
    registry.first = env.release();
    return LmdbEnvRef(registry.first);
}

void LmdbEnvRelease::operator()(LmdbEnv* env) const noexcept {
    if (!env->is_usable()) {
        return;  // the parent's: closing it would take the parent's locks and slots
    }
    const std::lock_guard guard(registry.mutex);
    if (--env->references_ > 0) {
        return;
    }
    LmdbEnv** link = &registry.first;
    while (*link != env) {
        link = &(*link)->next_;
    }
    *link = env->next_;
    delete env;
}

LmdbEnv::~LmdbEnv() {
    close();
}

int LmdbEnv::open_first(LmdbFile file, LmdbLayout layout) noexcept {
    id_ = file.id;
    turn_fd_ = std::move(file.fd);
    if (layout == LmdbLayout::expected) {
        return open(layout);
    }
    const WriteTurn turn(*this);
    return turn ? open(layout) : ETIMEDOUT;
}

// The caller sees to it that no other thread uses the environment.
int LmdbEnv::open(LmdbLayout layout) noexcept {
    int rc = mdb_env_create(&env_);
    if (rc != 0) {
        env_ = nullptr;
        return rc;
    }
    mdb_env_set_maxdbs(env_, 2);
    mdb_env_set_maxreaders(env_, kMaxReaders);
    mdb_env_set_mapsize(env_, std::min(limit(), kFirstMapBytes));
    rc = mdb_env_open(env_, path_.c_str(), kFlags, 0600);
    rc = rc == 0 ? check_identity() : rc;
    rc = rc == 0 ? open_databases(layout) : rc;
    for (int round = 1; rc == MDB_INCOMPATIBLE && round < kMostRounds; ++round) {
        // The process that lays the file out may just be showing its first commit.
        std::this_thread::sleep_for(kLayoutPause);
        rc = open_databases(layout);
    }
    rc = rc == 0 ? mdb_reader_check(env_, nullptr) : rc;
    if (rc != 0) {
        close();
    }
    return rc;
}

void LmdbEnv::close() noexcept {
    if (env_ != nullptr) {
        mdb_env_close(env_);
        env_ = nullptr;
    }
}

// LMDB opens by name: the name may lead to another file by now.
int LmdbEnv::check_identity() noexcept {
    mdb_filehandle_t fd = -1;
    struct stat info;
    const int rc = mdb_env_get_fd(env_, &fd);
    if (rc != 0 || ::fstat(fd, &info) != 0) {
        return rc != 0 ? rc : errno;
    }
    return FileId{.device = info.st_dev, .inode = info.st_ino} == id_ ? 0 : ESTALE;
}

int LmdbEnv::open_databases(LmdbLayout layout) noexcept {
    const bool lay_out = layout == LmdbLayout::lay_out;
    MDB_txn* txn = nullptr;
    int rc = mdb_txn_begin(env_, nullptr, lay_out ? 0U : unsigned{MDB_RDONLY}, &txn);
    if (rc != 0) {
        return rc;
    }
    MDB_dbi unnamed = 0;
    const unsigned create = lay_out ? unsigned{MDB_CREATE} : 0U;
    rc = mdb_dbi_open(txn, nullptr, 0, &unnamed);
    rc = rc == 0 && lay_out ? write_mark(txn, unnamed) : rc;
    rc = rc == 0 ? check_mark(txn, unnamed) : rc;
    rc = rc == 0 ? mdb_dbi_open(txn, kLmdbEntries, create, &entries_) : rc;
    rc = rc == 0 ? mdb_dbi_open(txn, kLmdbExpiry, create, &expiry_) : rc;
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

// Opens a transaction and leaves map_lock_ shared, if 0 is returned.
int LmdbEnv::begin(unsigned flags, MDB_txn** txn) noexcept {
    int rc = EAGAIN;
    for (int round = 0; round < kMostRounds; ++round) {
        if (!map_lock_.try_lock_shared_for(kMapPatience)) {
            return ETIMEDOUT;
        }
        rc = env_ != nullptr ? mdb_txn_begin(env_, nullptr, flags, txn) : MDB_PANIC;
        if (rc == 0) {
            return 0;
        }
        map_lock_.unlock_shared();
        if (const int failure = recover(rc); failure != 0) {
            return failure;
        }
    }
    return rc;
}

void LmdbEnv::finish() noexcept {
    map_lock_.unlock_shared();
}

// 0: the transaction may be tried again.
int LmdbEnv::recover(int failure) noexcept {
    if (failure == MDB_READERS_FULL) {
        check_readers();
        return 0;
    }
    if (failure != MDB_MAP_RESIZED && failure != MDB_PANIC) {
        return failure;
    }
    const std::unique_lock alone(map_lock_, kMapPatience);
    if (!alone) {
        return ETIMEDOUT;
    }
    if (failure == MDB_MAP_RESIZED && env_ != nullptr) {
        return remap(0);  // another process has let the file grow
    }
    // A commit that may be half written: LMDB wants the environment opened anew.
    close();
    return open(LmdbLayout::expected);
}

// The caller holds map_lock_ alone.
int LmdbEnv::remap(std::size_t size) noexcept {
    const int rc = mdb_env_set_mapsize(env_, size);
    if (rc != 0) {
        close();  // it has no map any more
    }
    return rc;
}

bool LmdbEnv::grow(std::size_t limit) noexcept {
    const std::unique_lock alone(map_lock_, kMapPatience);
    MDB_envinfo info;
    if (!alone || env_ == nullptr || mdb_env_info(env_, &info) != 0 || info.me_mapsize >= limit) {
        return false;
    }
    return remap(std::min(limit, 2 * info.me_mapsize)) == 0;
}

void LmdbEnv::give_back_reserve() noexcept {
    const std::unique_lock alone(map_lock_, kMapPatience);
    if (alone && env_ != nullptr) {
        remap(limit());  // LMDB keeps what is used of it
    }
}

void LmdbEnv::check_readers() noexcept {
    const std::shared_lock shared(map_lock_, kMapPatience);
    if (shared && env_ != nullptr) {
        mdb_reader_check(env_, nullptr);
    }
}

// LMDB answers EIO when only a part could be written, which is what a full disk does: ask for room
// to tell the two apart. The caller has the turn, so the end of the file is nobody else's.
int LmdbEnv::explain_failed_write(int failure) noexcept {
    struct stat info;
    const int fd = turn_fd_.get();
    if (failure != EIO || ::fstat(fd, &info) != 0) {
        return failure;
    }
    if (::fallocate(fd, 0, info.st_size, kProbedBytes) == 0) {
        return ::ftruncate(fd, info.st_size) == 0 ? failure : errno;
    }
    const bool no_room = errno == ENOSPC || errno == EDQUOT || errno == EFBIG;
    return no_room ? errno : failure;
}

}  // namespace sg
