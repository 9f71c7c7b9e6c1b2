// The two files of an LMDB store, data and lock: made and checked before LMDB sees them, because
// LMDB follows links, takes any owner and mode, and initialises whatever is empty.
// All functions answer with what is wrong, for the error log; empty: good.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <string>

namespace sg {

// An open file, closed at the end of the scope.
class Fd {
  public:
    Fd() noexcept = default;
    explicit Fd(int fd) noexcept : fd_(fd) {}
    Fd(Fd&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
    Fd& operator=(Fd&& other) noexcept {
        if (this != &other) {
            close();
            fd_ = other.fd_;
            other.fd_ = -1;
        }
        return *this;
    }
    ~Fd() { close(); }

    explicit operator bool() const noexcept { return fd_ >= 0; }
    int get() const noexcept { return fd_; }

  private:
    void close() noexcept {
        if (fd_ >= 0) {
            ::close(fd_);
        }
    }

    int fd_ = -1;
};

// Which file it is, whatever it is called.
struct FileId {
    dev_t device = 0;
    ino_t inode = 0;
    bool operator==(const FileId&) const noexcept = default;
};

struct LmdbOwner {
    uid_t user = 0;
    gid_t group = 0;
};

// Creates what is missing of directory (0700), data and lock file (0600), for `owner`; what is
// there is not touched. `created`: the data file is new, and empty.
std::string create_lmdb_files(const std::string& path, const LmdbOwner& owner,
                              bool& created) noexcept;

// Removes both files after a creation that did not come to its end.
void remove_lmdb_files(const std::string& path) noexcept;

struct LmdbFile {
    Fd fd;
    FileId id;
    std::uint64_t size = 0;
};

// Opens the data file if both files are what create_lmdb_files makes: regular, no link, one name,
// of `user`, for the owner only. The lock file is not opened: closing it would drop the locks of an
// environment that this process may hold.
std::string open_lmdb_file(const std::string& path, uid_t user, int flags, LmdbFile& file) noexcept;

// "PATH: WHAT" in the form of all messages about the file.
std::string lmdb_error(const std::string& path, const std::string& what) noexcept;

}  // namespace sg
