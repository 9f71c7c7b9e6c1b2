#include <fcntl.h>
#include <sys/fsuid.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "store/lmdb_check.h"
#include "store/lmdb_env.h"
#include "store/lmdb_files.h"
#include "store/lmdb_store.h"
#include "store/lmdb_txn.h"
#include "store/lmdb_walk.h"

namespace sg {
namespace {

constexpr int kMostRounds = 100;  // of catching a snapshot's header before it is overwritten
constexpr std::size_t kMaxPath = 4000;

// The master is root, the directory may be the workers': LMDB opens by name, so it opens as them.
// It also shows at once what the workers could not reach.
class AsUser {
  public:
    explicit AsUser(const LmdbOwner& owner) noexcept
        : active_(::geteuid() == 0 && owner.user != 0) {
        if (active_) {
            ::setfsgid(owner.group);
            ::setfsuid(owner.user);
        }
    }
    ~AsUser() {
        if (active_) {
            ::setfsuid(::geteuid());
            ::setfsgid(::getegid());
        }
    }
    AsUser(const AsUser&) = delete;
    AsUser& operator=(const AsUser&) = delete;

  private:
    const bool active_;
};

std::string check_conf(const LmdbConf& conf) noexcept {
    const std::string path(conf.path);
    if (path.empty() || path.front() != '/' || path.back() == '/' || path.size() > kMaxPath ||
        path.find('\0') != std::string::npos) {
        return lmdb_error(path, "is not the absolute path of a file");
    }
    if (conf.map_size < LmdbEnv::kSmallestMapBytes) {
        return lmdb_error(path, "map_size must be at least 1m");
    }
    return {};
}

// The header of the snapshot that `txn` reads; it stands until two more commits.
bool read_snapshot(int fd, MDB_txn* txn, LmdbHeader& header) noexcept {
    const std::uint64_t id = mdb_txn_id(txn);
    LmdbHeader older;
    LmdbHeader newest;
    if (!read_lmdb_headers(fd, older, newest).empty()) {
        return false;
    }
    header = newest.transaction == id ? newest : older;
    return header.transaction == id;
}

std::string walk(LmdbEnv& env, int fd, TimeMs budget) noexcept {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(budget);
    for (int round = 0; round < kMostRounds; ++round) {
        const ReadTxn txn(env);
        if (txn.status() != 0) {
            return mdb_strerror(txn.status());
        }
        LmdbHeader snapshot;
        LmdbHeader again;
        if (read_snapshot(fd, txn.get(), snapshot) && read_snapshot(fd, txn.get(), again) &&
            snapshot == again) {
            return walk_lmdb(fd, snapshot, deadline);
        }
    }
    return {};  // so busy that it is in good use
}

// Nothing is written to a file that has anything in it.
std::string check_or_lay_out(const LmdbConf& conf, uid_t user, TimeMs budget) noexcept {
    const std::string path(conf.path);
    LmdbFile file;
    std::string error = open_lmdb_file(path, user, O_RDONLY, file);
    if (!error.empty()) {
        return error;
    }
    LmdbKind kind = LmdbKind::blank;
    LmdbHeader header;
    if (file.size > 0) {
        error = identify_lmdb(file.fd.get(), kind, header);
    }
    if (!error.empty()) {
        return lmdb_error(path, error);
    }
    if (kind == LmdbKind::ours && header.used_bytes() > conf.map_size) {
        return lmdb_error(path, "holds " + std::to_string(header.used_bytes()) +
                                    " bytes, map_size allows " + std::to_string(conf.map_size));
    }
    const auto layout = kind == LmdbKind::blank ? LmdbLayout::lay_out : LmdbLayout::expected;
    const LmdbEnvRef env = LmdbEnv::acquire(path, user, conf.map_size, layout, error);
    if (env == nullptr || kind == LmdbKind::blank) {
        return error;
    }
    error = walk(*env, file.fd.get(), budget);
    return error.empty() ? error : lmdb_error(path, error);
}

// Another process may have finished what this one began.
bool is_laid_out(const std::string& path, uid_t user) noexcept {
    LmdbFile file;
    LmdbKind kind = LmdbKind::blank;
    LmdbHeader header;
    return open_lmdb_file(path, user, O_RDONLY, file).empty() &&
           identify_lmdb(file.fd.get(), kind, header).empty() && kind == LmdbKind::ours;
}

}  // namespace

std::string prepare_lmdb(const LmdbConf& conf, uid_t user, gid_t group, TimeMs budget) noexcept {
    std::string error = check_conf(conf);
    if (!error.empty()) {
        return error;
    }
    const std::string path(conf.path);
    const LmdbOwner owner{.user = user, .group = group};
    bool created = false;
    error = create_lmdb_files(path, owner, created);
    if (!error.empty()) {
        return error;
    }
    {
        const AsUser as_user(owner);
        error = check_or_lay_out(conf, user, budget);
    }
    if (!error.empty() && created && !is_laid_out(path, user)) {
        remove_lmdb_files(path);  // nothing half made stays behind
    }
    return error;
}

}  // namespace sg
