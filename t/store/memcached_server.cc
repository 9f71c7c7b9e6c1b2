#include "store/memcached_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

namespace sg::test {
namespace {

using namespace std::chrono_literals;

constexpr const char* kBinary = "/usr/bin/memcached";
constexpr auto kStartLimit = 10s;

sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

[[noreturn]] void give_up(const char* what) {
    perror(what);
    std::exit(1);
}

// Does not come back.
[[noreturn]] void become_memcached(const std::string& socket_path, std::uint16_t port) {
    // A crashed test leaves nothing running. A change of user would undo that: the server stays the
    // test's own.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const passwd* const user = getpwuid(geteuid());
    const char* const name = user != nullptr ? user->pw_name : "root";
    const std::string number = std::to_string(port);
    // Without its housekeeping thread: moving entries about, it hides some from a listing.
    std::vector<const char*> words = {
        "memcached", "-u", name, "-t", "1", "-m", "64", "-U", "0", "-o", "no_lru_maintainer"};
    if (socket_path.empty()) {
        words.insert(words.end(), {"-l", "127.0.0.1", "-p", number.c_str()});
    } else {
        words.insert(words.end(), {"-s", socket_path.c_str(), "-a", "0700"});
    }
    words.push_back(nullptr);
    execv(kBinary, const_cast<char* const*>(words.data()));
    _exit(127);
}

// memcached's listing writes the names like the path of a URL.
std::string plain_name(const std::string& listed) {
    std::string name;
    for (std::size_t i = 0; i < listed.size(); ++i) {
        if (listed[i] == '%' && i + 2 < listed.size()) {
            name += static_cast<char>(std::strtol(listed.substr(i + 1, 2).c_str(), nullptr, 16));
            i += 2;
        } else {
            name += listed[i];
        }
    }
    return name;
}

bool ends_with(const std::string& text, const std::string& end) {
    return text.size() >= end.size() &&
           text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

std::uint16_t free_port() {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
        give_up("free port");
    }
    close(fd);
    return ntohs(address.sin_port);
}

Memcached::Memcached(std::string socket_path) : socket_path_(std::move(socket_path)) {
    if (access(kBinary, X_OK) != 0) {
        give_up(kBinary);
    }
    port_ = socket_path_.empty() ? free_port() : 0;
    start();
}

Memcached::~Memcached() {
    kill();
}

void Memcached::start() {
    pid_ = fork();
    if (pid_ == 0) {
        become_memcached(socket_path_, port_);
    }
    const auto limit = std::chrono::steady_clock::now() + kStartLimit;
    while (!accepts()) {
        if (waitpid(pid_, nullptr, WNOHANG) != 0 || std::chrono::steady_clock::now() > limit) {
            give_up("memcached does not start");
        }
        std::this_thread::sleep_for(2ms);
    }
}

void Memcached::kill() {
    if (pid_ > 0) {
        ::kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
        pid_ = -1;
        unlink(socket_path_.c_str());
    }
}

void Memcached::stop() {
    ::kill(pid_, SIGSTOP);
    waitpid(pid_, nullptr, WUNTRACED);  // it has stopped by now
}

void Memcached::go_on() {
    ::kill(pid_, SIGCONT);
}

int Memcached::connect() const {
    int fd = -1;
    int rc = -1;
    if (socket_path_.empty()) {
        const sockaddr_in address = loopback(port_);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        rc = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    } else {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, socket_path_.c_str(), sizeof address.sun_path - 1);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        rc = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    }
    if (rc != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

bool Memcached::accepts() const {
    const int fd = connect();
    if (fd < 0) {
        return false;
    }
    close(fd);
    return true;
}

// One request on a connection of its own; all that comes until it ends with `last`.
std::string Memcached::ask(const std::string& request, const std::string& last) const {
    std::string reply;
    const int fd = connect();
    if (fd < 0 || send(fd, request.data(), request.size(), MSG_NOSIGNAL) !=
                      static_cast<ssize_t>(request.size())) {
        give_up("memcached does not listen");
    }
    char buffer[16 * 1024];
    ssize_t size = 0;
    while (!ends_with(reply, last) && !reply.starts_with("BUSY") &&
           (size = read(fd, buffer, sizeof buffer)) > 0) {
        reply.append(buffer, static_cast<std::size_t>(size));
    }
    close(fd);
    return reply;
}

// Lines "key=... exp=... ...".
std::string Memcached::list() const {
    for (;;) {
        std::string listing = ask("lru_crawler metadump all\r\n", "END\r\n");
        if (!listing.starts_with("BUSY")) {
            return listing;
        }
        std::this_thread::sleep_for(2ms);
    }
}

// All entries of a reply "VALUE name flags size\r\n<data>\r\n ... END\r\n".
void parse_values(const std::string& reply, std::map<std::string, RawValue>& all) {
    std::size_t at = 0;
    while (reply.compare(at, 6, "VALUE ") == 0) {
        const std::size_t data = reply.find("\r\n", at) + 2;
        std::istringstream line(reply.substr(at + 6, data - at - 8));
        std::string name;
        RawValue value;
        std::size_t size = 0;
        line >> name >> value.flags >> size;
        value.bytes = reply.substr(data, size);
        all[name] = std::move(value);
        at = data + size + 2;
    }
}

std::map<std::string, RawValue> Memcached::dump() {
    constexpr std::size_t kAtOnce = 50;
    std::map<std::string, RawValue> all;
    std::istringstream listing(list());
    std::string names;
    std::size_t count = 0;
    for (std::string line; std::getline(listing, line) && line.starts_with("key=");) {
        names += " " + plain_name(line.substr(4, line.find(' ') - 4));
        if (++count % kAtOnce == 0) {
            parse_values(ask("get" + std::exchange(names, {}) + "\r\n", "END\r\n"), all);
        }
    }
    if (!names.empty()) {
        parse_values(ask("get" + names + "\r\n", "END\r\n"), all);
    }
    return all;
}

bool Memcached::write(const std::string& name, const RawValue& value) {
    const std::string head = "set " + name + " " + std::to_string(value.flags) + " 0 " +
                             std::to_string(value.bytes.size()) + "\r\n";
    return ask(head + value.bytes + "\r\n", "\r\n") == "STORED\r\n";
}

bool Memcached::remove(const std::string& name) {
    return ask("delete " + name + "\r\n", "\r\n") == "DELETED\r\n";
}

long long Memcached::expiry(const std::string& name) {
    std::istringstream listing(list());
    for (std::string line; std::getline(listing, line) && line.starts_with("key=");) {
        const std::size_t at = line.find(" exp=");
        if (plain_name(line.substr(4, line.find(' ') - 4)) == name && at != std::string::npos) {
            return std::atoll(line.c_str() + at + 5);
        }
    }
    return 0;
}

}  // namespace sg::test
