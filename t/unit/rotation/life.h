// One life: from a login to a while after its end, with a browser, perhaps a thief who copies its
// cookie, an application and an unreliable network and store. Every answer goes to the model. What
// happens follows from a number: a life can be lived again.
//
// What networks do: answers to one browser overtake each other within seconds; some are lost. What
// is left out, and known to throw a user out: a lost answer that carried a new handle, and an
// answer with a token of the old handle that overtakes it. Nor is a session renewed on two nodes.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "unit/rotation/fleet.h"
#include "unit/rotation/model.h"

namespace sg::test {

// How often something happened: a life in which nothing does proves nothing.
struct Happened {
    std::uint64_t requests = 0;
    std::uint64_t rotations = 0;
    std::uint64_t next = 0;
    std::uint64_t previous = 0;
    std::uint64_t reuse = 0;
    std::uint64_t forged = 0;
    std::uint64_t restricted = 0;
    std::uint64_t unavailable = 0;
    std::uint64_t refused_elsewhere = 0;  // ended on the other node
    std::uint64_t lost = 0;
    std::uint64_t renewed = 0;
    std::uint64_t two_cookies = 0;
};

class Life {
  public:
    Life(const KeyRing& keys, std::array<std::span<std::byte>, kMostFleetNodes> memories);

    // Lives it. The rule that was broken, or nullptr.
    model::Broken run(std::uint64_t number, bool traced);

    std::uint64_t steps = 0;
    Happened happened;
    std::vector<std::string> trace;

  private:
    enum class Wish : std::uint8_t { page, renew, change, logout };
    struct Person {
        std::string jar;
        std::string old;  // a cookie of a wider path
        int in_flight = 0;
    };
    struct Flight {
        enum class Phase : std::uint8_t { arrives, answered, comes_back };
        Phase phase = Phase::arrives;
        TimeMs at = 0;
        std::size_t person = 0;
        int node = 0;
        std::vector<std::string> cookies;
        bool may_carry = true;
        bool is_lost = false;
        Wish wish = Wish::page;
        TimeMs works = 0;  // the application
        TimeMs way_back = 0;
        Verdict verdict;
        model::Ticket ticket;
        std::string set_cookie;
    };

    std::uint64_t draw(std::uint64_t below);
    bool chance(std::uint64_t of_thousand) { return draw(1000) < of_thousand; }
    TimeMs between(TimeMs from, TimeMs to);

    void choose_conf();
    void log_in();
    void step();
    void advance(TimeMs to);
    bool end_outage(TimeMs until);
    bool run_next_event(TimeMs until);
    void act();
    void send(std::size_t person);
    void steal();
    void forge();
    void disturb();
    void on_arrival(Flight& flight);
    void on_answer(Flight& flight);
    void on_return(Flight& flight);
    void renew(Flight& flight);
    void count(const Verdict& verdict);
    void write(int node);
    void note(const char* what, int node, const std::string& detail);
    std::string name(const std::string& token) const;
    void check(model::Broken broken) { broken_ = broken_ != nullptr ? broken_ : broken; }
    FleetNode& node_at(int node) { return nodes_[static_cast<std::size_t>(node)]; }

    const KeyRing& keys_;
    std::array<std::span<std::byte>, kMostFleetNodes> memories_;
    FleetConf conf_;
    MemoryStore store_;
    std::array<FleetNode, kMostFleetNodes> nodes_;
    std::array<TimeMs, kMostFleetNodes> write_at_{};
    std::array<TimeMs, kMostFleetNodes> poll_at_{};
    std::array<TimeMs, kMostFleetNodes> polled_at_{};
    std::array<TimeMs, kMostFleetNodes> blind_until_{};
    model::RotationModel model_;
    RandomPool random_;
    std::array<Person, 2> people_;  // the browser, the thief
    std::vector<Flight> flights_;
    std::uint64_t state_ = 0;
    TimeMs now_ = 0;
    TimeMs renewed_at_ = 0;
    bool has_thief_ = false;
    bool has_outages_ = false;
    bool has_long_requests_ = false;
    bool has_two_cookies_ = false;
    bool writes_late_ = false;
    int steps_left_ = 0;
    bool is_traced_ = false;
    model::Broken broken_ = nullptr;
};

}  // namespace sg::test
