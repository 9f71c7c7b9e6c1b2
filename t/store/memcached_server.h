// A real memcached on a loopback port or a Unix-domain socket, a child of the test, ended by its
// process id; and its text protocol, to look and to write behind a store's back.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>

#include "store/contract.h"

namespace sg::test {

// A port of loopback that nobody listens on now.
std::uint16_t free_port();

class Memcached {
  public:
    // On `socket_path`, or on a free port where that is empty. Ends the program where there is no
    // memcached to start: a missing server is a failure.
    explicit Memcached(std::string socket_path = {});
    ~Memcached();
    Memcached(const Memcached&) = delete;
    Memcached& operator=(const Memcached&) = delete;

    const std::string& socket_path() const { return socket_path_; }
    std::uint16_t port() const { return port_; }
    pid_t pid() const { return pid_; }

    void start();  // again: empty, at the same place
    void kill();   // at once, nothing is said
    void stop();   // SIGSTOP: it accepts, and answers nothing
    void go_on();

    std::map<std::string, RawValue> dump();
    bool write(const std::string& name, const RawValue& value);
    bool remove(const std::string& name);

    // When the server forgets what lies under this name, seconds since 1970; -1: never, 0: it is
    // not there.
    long long expiry(const std::string& name);

  private:
    int connect() const;
    bool accepts() const;
    std::string list() const;
    std::string ask(const std::string& request, const std::string& last) const;

    std::string socket_path_;
    std::uint16_t port_ = 0;
    pid_t pid_ = -1;
};

}  // namespace sg::test
