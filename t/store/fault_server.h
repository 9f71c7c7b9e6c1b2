// A small memcached, in a child of the test, that answers rightly or, when it is told to, slowly,
// wrongly, in part or not at all. What a real server or the network between does only now and then.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>

namespace sg::test {

enum class Fault : int {
    none,
    slow,          // every reply `delay` late
    hang,          // takes everything, says nothing
    close,         // hangs up on every request
    cut,           // half a reply, then hangs up
    never_ends,    // all but the end of a reply, then nothing
    drip,          // a byte every few milliseconds
    garbage,       // bytes that are no reply
    other_value,   // the right name, and another entry's value
    other_entry,   // another entry, name and value
    other_reply,   // well-formed, and to another kind of request
    server_error,  // SERVER_ERROR to everything
};

class FaultServer {
  public:
    FaultServer();
    ~FaultServer();
    FaultServer(const FaultServer&) = delete;
    FaultServer& operator=(const FaultServer&) = delete;

    std::uint16_t port() const { return port_; }

    // From the next request on.
    void behave(Fault fault, int delay_ms = 0);
    // Requests it has read since it was started.
    int requests() const { return shared_->requests.load(); }

    struct Shared {
        std::atomic<Fault> fault{Fault::none};
        std::atomic<int> delay_ms{0};
        std::atomic<int> requests{0};
    };

  private:
    Shared* shared_ = nullptr;
    std::uint16_t port_ = 0;
    pid_t pid_ = -1;
};

}  // namespace sg::test
