#include "store/fault_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <new>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "unit/zone_support.h"

namespace sg::test {
namespace {

using namespace std::chrono_literals;

struct Value {
    std::string flags;
    std::string bytes;
    std::uint64_t cas = 0;
};

// What a memcached does, as far as the store asks for it.
class Memory {
  public:
    // `words`: the command line; `data`: what follows it.
    std::string answer(const std::vector<std::string>& words, const std::string& data,
                       Fault fault) {
        const std::string& verb = words[0];
        if (verb == "get" || verb == "gets") {
            return fault == Fault::other_reply ? "STORED\r\n" : get(words, verb == "gets", fault);
        }
        if (fault == Fault::other_reply) {
            return "END\r\n";
        }
        if (verb == "delete") {
            return values_.erase(words[1]) > 0 ? "DELETED\r\n" : "NOT_FOUND\r\n";
        }
        if (verb == "version") {
            return "VERSION 1.6.18\r\n";
        }
        return takes_data(verb) ? put(words, data) : "ERROR\r\n";
    }

    static bool takes_data(const std::string& verb) {
        return verb == "set" || verb == "add" || verb == "replace" || verb == "cas";
    }

  private:
    std::string get(const std::vector<std::string>& words, bool with_cas, Fault fault) {
        std::string reply;
        for (std::size_t i = 1; i < words.size(); ++i) {
            auto found = values_.find(words[i]);
            if (found == values_.end()) {
                continue;
            }
            const bool is_other = fault == Fault::other_value || fault == Fault::other_entry;
            if (is_other && ++found == values_.end()) {
                found = values_.begin();
            }
            const Value& value = found->second;
            reply += "VALUE " + (fault == Fault::other_entry ? found->first : words[i]) + " " +
                     value.flags + " " + std::to_string(value.bytes.size()) +
                     (with_cas ? " " + std::to_string(value.cas) : "") + "\r\n" + value.bytes +
                     "\r\n";
        }
        return reply + "END\r\n";
    }

    std::string put(const std::vector<std::string>& words, const std::string& data) {
        const std::string& verb = words[0];
        const auto found = values_.find(words[1]);
        const bool is_there = found != values_.end();
        if (verb == "cas") {
            if (!is_there) {
                return "NOT_FOUND\r\n";
            }
            if (words.size() < 6 || std::to_string(found->second.cas) != words[5]) {
                return "EXISTS\r\n";
            }
        } else if ((verb == "add" && is_there) || (verb == "replace" && !is_there)) {
            return "NOT_STORED\r\n";
        }
        values_[words[1]] = {.flags = words[2], .bytes = data, .cas = ++last_cas_};
        return "STORED\r\n";
    }

    std::map<std::string, Value> values_;
    std::uint64_t last_cas_ = 0;
};

struct Connection {
    int fd = -1;
    std::string read;  // and not yet understood
};

// All of `bytes`, or the other side has gone.
bool say(int fd, const std::string& bytes) {
    std::size_t sent = 0;
    while (sent < bytes.size()) {
        const ssize_t size = send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
        if (size <= 0) {
            return false;
        }
        sent += static_cast<std::size_t>(size);
    }
    return true;
}

// Over as soon as the server is told to behave.
void wait(const FaultServer::Shared& shared, Fault fault, std::chrono::milliseconds time) {
    for (; time > 0ms && shared.fault == fault; time -= 1ms) {
        std::this_thread::sleep_for(1ms);
    }
}

bool drip(int fd, const std::string& bytes, const FaultServer::Shared& shared) {
    for (const char byte : bytes) {
        if (!say(fd, std::string(1, byte))) {
            return false;
        }
        wait(shared, Fault::drip, 2ms);
    }
    return true;
}

std::string garbage() {
    std::string bytes;
    for (std::uint64_t i = 0; i < 200; ++i) {
        bytes += i % 40 == 39 ? '\n' : static_cast<char>(scramble(i) >> 32);
    }
    return bytes;
}

// False: hang up.
bool reply(Connection& connection, const std::string& right, const FaultServer::Shared& shared) {
    const std::size_t half = right.size() / 2;
    switch (shared.fault.load()) {
        case Fault::none:
        case Fault::other_value:
        case Fault::other_entry:
        case Fault::other_reply:
            return say(connection.fd, right);
        case Fault::slow:
            wait(shared, Fault::slow, std::chrono::milliseconds(shared.delay_ms.load()));
            return say(connection.fd, right);
        case Fault::hang:
            return true;
        case Fault::close:
            return false;
        case Fault::cut:
            say(connection.fd, right.substr(0, half));
            return false;
        case Fault::never_ends:
            return say(connection.fd, right.substr(0, right.size() - 5));
        case Fault::drip:
            return drip(connection.fd, right, shared);
        case Fault::garbage:
            return say(connection.fd, garbage());
        case Fault::server_error:
            return say(connection.fd, "SERVER_ERROR out of memory storing object\r\n");
    }
    return false;
}

class Server {
  public:
    Server(int listener, FaultServer::Shared& shared) : listener_(listener), shared_(shared) {}

    [[noreturn]] void run() {
        for (;;) {
            std::vector<pollfd> waiting = {{.fd = listener_, .events = POLLIN, .revents = 0}};
            for (const Connection& connection : connections_) {
                waiting.push_back({.fd = connection.fd, .events = POLLIN, .revents = 0});
            }
            poll(waiting.data(), waiting.size(), -1);
            for (std::size_t i = 1; i < waiting.size(); ++i) {
                Connection& connection = connections_[i - 1];
                if (waiting[i].revents != 0 && !serve(connection)) {
                    close(connection.fd);
                    connection.fd = -1;
                }
            }
            std::erase_if(connections_, [](const Connection& one) { return one.fd < 0; });
            if (waiting[0].revents != 0) {
                connections_.emplace_back().fd = accept(listener_, nullptr, nullptr);
            }
        }
    }

  private:
    bool serve(Connection& connection) {
        char buffer[64 * 1024];
        const ssize_t size = read(connection.fd, buffer, sizeof buffer);
        if (size <= 0) {
            return false;
        }
        connection.read.append(buffer, static_cast<std::size_t>(size));
        while (const std::size_t whole = first_request(connection.read)) {
            const bool goes_on = answer(connection, whole);
            connection.read.erase(0, whole);
            if (!goes_on) {
                return false;
            }
        }
        return true;
    }

    static std::vector<std::string> words_of(const std::string& text) {
        std::istringstream line(text.substr(0, text.find("\r\n")));
        std::vector<std::string> words;
        for (std::string word; line >> word;) {
            words.push_back(word);
        }
        return words;
    }

    // To a request that wants no reply. What is out of order may still reply to it.
    static bool keeps_quiet(Fault fault) {
        switch (fault) {
            case Fault::garbage:
            case Fault::server_error:
            case Fault::other_reply:
            case Fault::close:
                return false;
            default:
                return true;
        }
    }

    static std::size_t data_size(const std::vector<std::string>& words) {
        return static_cast<std::size_t>(std::atoll(words[4].c_str()));
    }

    static bool has_data(const std::vector<std::string>& words) {
        return words.size() >= 5 && Memory::takes_data(words[0]);
    }

    // Bytes of the first request, with the data that belongs to it; 0: not all of it is here.
    static std::size_t first_request(const std::string& read) {
        const std::size_t line = read.find("\r\n");
        if (line == std::string::npos) {
            return 0;
        }
        const auto words = words_of(read);
        const std::size_t size = line + 2 + (has_data(words) ? data_size(words) + 2 : 0);
        return read.size() >= size ? size : 0;
    }

    bool answer(Connection& connection, std::size_t whole) {
        const auto words = words_of(connection.read);
        if (words.empty() || words[0] == "quit") {
            return false;
        }
        ++shared_.requests;
        const std::size_t line = connection.read.find("\r\n") + 2;
        const std::string data =
            has_data(words) ? connection.read.substr(line, whole - line - 2) : std::string();
        const Fault fault = shared_.fault;
        const bool refuses = fault == Fault::server_error;
        const std::string right = refuses ? "" : memory_.answer(words, data, fault);
        return words.back() == "noreply" && keeps_quiet(fault) ? true
                                                               : reply(connection, right, shared_);
    }

    int listener_;
    FaultServer::Shared& shared_;
    Memory memory_;
    std::vector<Connection> connections_;
};

// Listens before the child is there: nobody has to wait for it.
int listen_anywhere(std::uint16_t& port) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    if (fd < 0 || bind(fd, any, size) != 0 || listen(fd, 64) != 0 ||
        getsockname(fd, any, &size) != 0) {
        perror("fault server");
        std::exit(1);
    }
    port = ntohs(address.sin_port);
    return fd;
}

}  // namespace

FaultServer::FaultServer() {
    shared_ = new (shared_memory(sizeof(Shared)).data()) Shared;
    const int listener = listen_anywhere(port_);
    pid_ = fork();
    if (pid_ == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);  // a crashed test leaves nothing running
        Server(listener, *shared_).run();
    }
    close(listener);
}

FaultServer::~FaultServer() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
}

void FaultServer::behave(Fault fault, int delay_ms) {
    shared_->delay_ms = delay_ms;
    shared_->fault = fault;
}

}  // namespace sg::test
