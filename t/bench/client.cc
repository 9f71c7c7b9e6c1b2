// The load of `make bench`: a fixed number of requests over keep-alive connections, every answer
// read and counted, so that the worker's CPU time divides by a known number.
//
//   client create port=N count=N tokens=FILE [users=N]    logs in; writes each cookie's value
//   client get port=N count=N tokens=FILE [first=N] [hot=N] [headers=browser] ...
//                                        hot=0: the tokens in order; else `hot` of them at random
// and for both: [connections=64] [path=/] [seconds=N] [seed=N]
// Prints one JSON object (tally.h). A request that dies with an idle keep-alive connection, before
// any byte of an answer, is sent again (RFC 9112 section 9.3.1) and counted as retried.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tally.h"

namespace {

using bench::Clock;

constexpr std::size_t kTokenChars = 64;
constexpr std::size_t kTokenLine = kTokenChars + 1;

constexpr std::string_view kBrowserHeaders =
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    "Accept-Language: en-US,en;q=0.5\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Referer: http://127.0.0.1/reports\r\n"
    "Connection: keep-alive\r\n"
    "Upgrade-Insecure-Requests: 1\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Priority: u=0, i\r\n";

[[noreturn]] void die(const char* what) {
    std::perror(what);
    std::exit(2);
}

struct Options {
    bool create = false;
    std::map<std::string, std::string, std::less<>> values;

    std::string text(std::string_view name, std::string_view fallback) const {
        const auto found = values.find(name);
        return found != values.end() ? found->second : std::string(fallback);
    }
    std::uint64_t number(std::string_view name, std::uint64_t fallback) const {
        const auto found = values.find(name);
        return found != values.end() ? std::strtoull(found->second.c_str(), nullptr, 10) : fallback;
    }
};

struct Connection {
    int fd = -1;
    std::uint64_t request = 0;   // which one is under way
    std::uint64_t answered = 0;  // on this connection
    Clock::time_point sent;
    std::string out;
    std::string in;
};

class Load {
  public:
    explicit Load(const Options& options)
        : create_(options.create),
          count_(options.number("count", 1)),
          hot_(options.number("hot", 0)),
          first_(options.number("first", 0)),
          users_(options.number("users", 0)),
          deadline_s_(static_cast<double>(options.number("seconds", 0))),
          random_(options.number("seed", 1) * 0x9e3779b97f4a7c15u | 1u),
          path_(options.text("path", create_ ? "/login" : "/")),
          headers_(options.text("headers", "") == "browser" ? kBrowserHeaders : ""),
          file_(options.text("tokens", "tokens")) {
        address_.sin_family = AF_INET;
        address_.sin_port = htons(static_cast<std::uint16_t>(options.number("port", 0)));
        address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        connections_.resize(std::min<std::uint64_t>(options.number("connections", 64), count_));
        if (!create_) {
            read_tokens();
        }
    }

    int run() {
        epoll_ = epoll_create1(0);
        started_ = Clock::now();
        for (Connection& connection : connections_) {
            next_request(connection);
            open_connection(connection);
        }
        std::vector<epoll_event> events(connections_.size());
        while (tally_.finished < issued_) {
            const int ready =
                epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 10000);
            if (ready <= 0) {
                std::fprintf(stderr, "no answer for 10 s\n");
                tally_.failed += issued_ - tally_.finished;
                break;
            }
            for (int i = 0; i < ready; ++i) {
                receive(*static_cast<Connection*>(events[static_cast<std::size_t>(i)].data.ptr));
            }
        }
        return report();
    }

  private:
    void read_tokens() {
        std::ifstream file(file_, std::ios::binary);
        tokens_.assign(std::istreambuf_iterator<char>(file), {});
        if (tokens_.size() < kTokenLine) {
            std::fprintf(stderr, "no tokens in %s\n", file_.c_str());
            std::exit(2);
        }
    }

    double elapsed() const {
        return std::chrono::duration<double>(Clock::now() - started_).count();
    }

    bool next_request(Connection& connection) {
        if (issued_ == count_ || (deadline_s_ > 0 && elapsed() > deadline_s_)) {
            return false;
        }
        connection.request = issued_++;
        connection.out = "GET " + path_;
        if (create_) {
            char user[32];
            const std::uint64_t number = connection.request + first_;
            std::snprintf(user, sizeof user, "?u=user%012llu",
                          static_cast<unsigned long long>(users_ > 0 ? number % users_ : number));
            connection.out += user;
        }
        connection.out += " HTTP/1.1\r\nHost: 127.0.0.1\r\n";
        connection.out += headers_;
        if (!create_) {
            connection.out += "Cookie: sid=";
            connection.out += token(connection.request);
            connection.out += "\r\n";
        }
        connection.out += "\r\n";
        return true;
    }

    std::string_view token(std::uint64_t request) {
        std::uint64_t number = request;
        if (hot_ > 0) {
            random_ ^= random_ << 13;
            random_ ^= random_ >> 7;
            random_ ^= random_ << 17;
            number =
                static_cast<std::uint64_t>((static_cast<unsigned __int128>(random_) * hot_) >> 64);
        }
        number = (number + first_) % (tokens_.size() / kTokenLine);
        return std::string_view(tokens_).substr(number * kTokenLine, kTokenChars);
    }

    void open_connection(Connection& connection) {
        connection.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connection.fd == -1) {
            die("socket");
        }
        const int on = 1;
        setsockopt(connection.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connection.answered = 0;
        if (connect(connection.fd, reinterpret_cast<sockaddr*>(&address_), sizeof address_) == -1) {
            ++tally_.refused;
            fail(connection);
            return;
        }
        fcntl(connection.fd, F_SETFL, O_NONBLOCK);
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.ptr = &connection;
        if (epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.fd, &event) == -1) {
            die("epoll_ctl");
        }
        send_request(connection);
    }

    // Requests are small: the socket takes them whole, or the peer has closed.
    void send_request(Connection& connection) {
        connection.in.clear();
        connection.sent = Clock::now();
        const ssize_t sent =
            send(connection.fd, connection.out.data(), connection.out.size(), MSG_NOSIGNAL);
        if (sent != static_cast<ssize_t>(connection.out.size())) {
            lost(connection);
        }
    }

    void lost(Connection& connection) {
        if (connection.answered > 0 && connection.in.empty()) {
            ++tally_.retried;
            close(connection.fd);
            open_connection(connection);
        } else {
            fail(connection);
        }
    }

    void fail(Connection& connection) {
        ++tally_.failed;
        ++tally_.finished;
        close(connection.fd);
        connection.fd = -1;
        if (tally_.failed < 1000 && next_request(connection)) {
            open_connection(connection);
        }
    }

    void receive(Connection& connection) {
        char bytes[16384];
        const ssize_t got = recv(connection.fd, bytes, sizeof bytes, 0);
        if (got <= 0) {
            if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
                lost(connection);
            }
            return;
        }
        connection.in.append(bytes, static_cast<std::size_t>(got));
        const std::size_t head = connection.in.find("\r\n\r\n");
        if (head == std::string::npos) {
            return;
        }
        const std::string_view all = connection.in;
        const std::string_view length = header(all.substr(0, head + 2), "\r\nContent-Length: ");
        const std::size_t body = std::strtoull(std::string(length).c_str(), nullptr, 10);
        if (all.size() >= head + 4 + body) {
            answer(connection, all.substr(0, head + 2));
        }
    }

    static std::string_view header(std::string_view head, std::string_view name) {
        const std::size_t at = head.find(name);
        if (at == std::string_view::npos) {
            return {};
        }
        const std::size_t from = at + name.size();
        return head.substr(from, head.find("\r\n", from) - from);
    }

    void answer(Connection& connection, std::string_view head) {
        tally_.answered(head.substr(9, 3), Clock::now() - connection.sent);
        if (create_) {
            const std::string_view cookie = header(head, "\r\nSet-Cookie: sid=");
            if (cookie.size() >= kTokenChars) {
                created_.append(cookie.substr(0, kTokenChars)).append("\n");
            }
        }
        ++connection.answered;
        const bool closes = header(head, "\r\nConnection: ") == "close";
        if (closes) {
            close(connection.fd);
            connection.fd = -1;
        }
        if (!next_request(connection)) {
            return;
        }
        if (closes) {
            open_connection(connection);
        } else {
            send_request(connection);
        }
    }

    int report() {
        const double seconds = elapsed();
        if (create_) {
            std::ofstream(file_, std::ios::binary) << created_;
        }
        tally_.print(seconds, created_.size() / kTokenLine);
        return 0;
    }

    bool create_;
    std::uint64_t count_;
    std::uint64_t hot_;
    std::uint64_t first_;
    std::uint64_t users_;
    double deadline_s_;
    std::uint64_t random_;
    std::string path_;
    std::string_view headers_;
    std::string file_;
    sockaddr_in address_{};
    int epoll_ = -1;
    Clock::time_point started_;
    std::vector<Connection> connections_;
    std::string tokens_;
    std::string created_;
    std::uint64_t issued_ = 0;
    bench::Tally tally_;
};

}  // namespace

int main(int argc, char** argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        const std::size_t equals = word.find('=');
        if (equals != std::string_view::npos) {
            options.values.emplace(word.substr(0, equals), word.substr(equals + 1));
        }
    }
    const std::string_view mode = argc > 1 ? argv[1] : "";
    if (mode != "create" && mode != "get") {
        std::fprintf(stderr, "usage: client create|get port=N count=N tokens=FILE ...\n");
        return 2;
    }
    options.create = mode == "create";
    return Load(options).run();
}
