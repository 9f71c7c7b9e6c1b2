#include "store/lmdb_files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace sg {
namespace {

// LMDB maps this file and writes to it through the map: on a full disk a file with holes would be a
// SIGBUS. So it gets its blocks here. 64 bytes for each of some 1 000 readers, and a header.
constexpr off_t kLockFileBytes = 68 * 1024;

std::string lock_path(const std::string& path) noexcept {
    return path + "-lock";
}

std::string directory_of(const std::string& path) noexcept {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) {
        return ".";
    }
    return path.substr(0, slash == 0 ? 1 : slash);
}

std::string failed(const std::string& path, const char* call, int error) noexcept {
    return lmdb_error(path, std::string(call) + " failed (" + std::to_string(error) + ": " +
                                std::strerror(error) + ")");
}

std::string octal(unsigned mode) noexcept {
    std::array<char, 8> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), mode, 8);
    return "0" + std::string(digits.data(), end.ptr);
}

// A new name survives a loss of power only when its directory has been written too.
std::string sync_directory(const std::string& directory) noexcept {
    const Fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd || ::fsync(fd.get()) != 0) {
        return failed(directory, "fsync()", errno);
    }
    return {};
}

std::string create_directory(const std::string& directory, const LmdbOwner& owner) noexcept {
    if (::mkdir(directory.c_str(), 0700) != 0) {
        return errno == EEXIST ? std::string() : failed(directory, "mkdir()", errno);
    }
    if (::lchown(directory.c_str(), owner.user, owner.group) != 0) {
        const int error = errno;
        ::rmdir(directory.c_str());
        return failed(directory, "chown()", error);
    }
    return sync_directory(directory_of(directory));
}

std::string create_file(const std::string& path, const LmdbOwner& owner, off_t size,
                        bool& created) noexcept {
    created = false;
    const Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) {
        return errno == EEXIST ? std::string() : failed(path, "open()", errno);
    }
    created = true;
    // Whatever the umask took away; and the owner last, while the file is still ours to change.
    int error = ::fchmod(fd.get(), 0600) != 0 ? errno : 0;
    if (error == 0 && size > 0) {
        error = ::posix_fallocate(fd.get(), 0, size);
    }
    if (error == 0 && ::fchown(fd.get(), owner.user, owner.group) != 0) {
        error = errno;
    }
    if (error == 0) {
        return {};
    }
    ::unlink(path.c_str());
    created = false;
    return failed(path, "creating it", error);
}

// LMDB keeps a shared lock on the first byte while an environment is open.
bool is_in_use(const std::string& lock) noexcept {
    const Fd fd(::open(lock.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!fd) {
        return false;
    }
    struct flock probe = {};
    probe.l_type = F_WRLCK;
    probe.l_whence = SEEK_SET;
    probe.l_len = 1;
    return ::fcntl(fd.get(), F_OFD_GETLK, &probe) == 0 && probe.l_type != F_UNLCK;
}

std::string check_stat(const std::string& path, const struct stat& info, uid_t user) noexcept {
    if (S_ISLNK(info.st_mode)) {
        return lmdb_error(path, "is a symbolic link");
    }
    if (!S_ISREG(info.st_mode)) {
        return lmdb_error(path, "is not a regular file");
    }
    if (info.st_nlink != 1) {
        // Under another name LMDB would lock another file.
        return lmdb_error(path, "has " + std::to_string(info.st_nlink) + " names (hard links)");
    }
    if (info.st_uid != user) {
        return lmdb_error(path, "belongs to user " + std::to_string(info.st_uid) +
                                    ", the workers run as " + std::to_string(user));
    }
    const unsigned mode = info.st_mode & 07777;
    if ((mode & 077) != 0 || (mode & 0600) != 0600) {
        return lmdb_error(path, "has mode " + octal(mode) +
                                    ": it must be accessible by its owner only (chmod 600)");
    }
    return {};
}

}  // namespace

std::string lmdb_error(const std::string& path, const std::string& what) noexcept {
    return "lmdb file \"" + path + "\": " + what;
}

std::string create_lmdb_files(const std::string& path, const LmdbOwner& owner,
                              bool& created) noexcept {
    created = false;
    struct stat info;
    const bool is_new = ::lstat(path.c_str(), &info) != 0 && errno == ENOENT;
    const std::string directory = directory_of(path);
    std::string error = is_new ? create_directory(directory, owner) : std::string();
    if (error.empty() && is_new && is_in_use(lock_path(path))) {
        // Two data files under one lock file would be mixed up.
        error = lmdb_error(path, "was removed while another process uses it; stop that first");
    }
    bool lock_created = false;
    if (error.empty()) {
        error = create_file(lock_path(path), owner, kLockFileBytes, lock_created);
    }
    if (error.empty()) {
        error = create_file(path, owner, 0, created);
    }
    if (error.empty() && (created || lock_created)) {
        error = sync_directory(directory);
    }
    return error;
}

void remove_lmdb_files(const std::string& path) noexcept {
    ::unlink(path.c_str());
    ::unlink(lock_path(path).c_str());
}

std::string open_lmdb_file(const std::string& path, uid_t user, int flags,
                           LmdbFile& file) noexcept {
    struct stat info;
    const std::string lock = lock_path(path);
    if (::lstat(lock.c_str(), &info) != 0) {
        return failed(lock, "lstat()", errno);
    }
    if (std::string error = check_stat(lock, info, user); !error.empty()) {
        return error;
    }
    // Not blocking: a pipe would keep us waiting for ever.
    file.fd = Fd(::open(path.c_str(), flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!file.fd) {
        return errno == ELOOP ? lmdb_error(path, "is a symbolic link")
                              : failed(path, "open()", errno);
    }
    if (::fstat(file.fd.get(), &info) != 0) {
        return failed(path, "fstat()", errno);
    }
    file.id = {.device = info.st_dev, .inode = info.st_ino};
    file.size = static_cast<std::uint64_t>(info.st_size);
    return check_stat(path, info, user);
}

}  // namespace sg
