// The rules of rotation and reuse as docs/formats.md states them, told by somebody who stands
// outside: who sees tokens go in and out as opaque text, in the order in which they are handed out,
// and knows the clock and what the store has answered. Shares no code with src/.
//
// Nodes may lag behind each other. So for every copy of a session (one per node, one in the store)
// the model keeps the least it must know: from that follows what an answer may be. What is not
// permitted is returned as the name of the rule that was broken.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace sg::model {

using Ms = std::int64_t;
using Text = std::string;    // a cookie's value
using Broken = const char*;  // nullptr: all is well

inline constexpr Ms kNever = std::numeric_limits<Ms>::max() / 4;
inline constexpr int kMostNodes = 2;

struct Rules {
    int nodes = 1;
    bool has_store = false;
    Ms rotate = 0;
    Ms grace = 0;
    Ms idle = 0;
    Ms absolute = 0;
    Ms bound = 0;     // how long a node may go on without having heard of an end or a new handle
    Ms blind = 0;     // the same, longer by this while nobody can be asked
    Ms late = 0;      // after which activity is known to all
    Ms window = 0;    // for how long an old handle passes
    Ms rounding = 0;  // a copy knows times this exactly
};

enum class Answer : std::uint8_t {
    valid,
    restricted,  // passes with an old handle
    ended,
    regenerated,
    expired,
    absent,
    unavailable,
    forged,
    other,
};

// What a request got.
struct Got {
    Answer answer = Answer::other;
    bool reused = false;  // this request has ended the session
    bool found = false;   // of the questions to the store, at least one was answered so
    bool absent = false;
    bool unknown = false;
};

// A request that was let in.
struct Ticket {
    int session = -1;
    int generation = 0;
    bool passes = false;
    bool restricted = false;
    bool must_replace = false;  // the answer to come carries a new token, if it may
};

class RotationModel {
  public:
    void start(const Rules& rules) { *this = RotationModel{}, rules_ = rules; }

    void login(int node, Ms now, const Text& token);
    // Somebody besides the browser has this token from now on.
    void stolen(const Text& token);

    Broken request(int node, Ms now, std::span<const Text> cookies, const Got& got, Ticket& ticket);
    Broken forged(const Got& got) const {
        return got.answer == Answer::forged ? nullptr : "a forged token is refused as forged";
    }
    // `token`: of the Set-Cookie; empty: none. `at_once`: no time has passed since the request.
    Broken response(int node, Ms now, const Ticket& ticket, const Text& token, bool may_carry,
                    bool at_once);
    Broken renewed(int node, Ms now, const Ticket& ticket, const Text& token);
    Broken logged_out(int node, Ms now, const Ticket& ticket, bool done);
    void changed(int node, const Ticket& ticket);  // in place
    void wrote(int node, Ms now);  // everything this node had to write is in the store
    void store_lost(const Text& token);

    // Whether the token's session is over: the browser must log in again.
    bool is_over(const Text& token) const;
    bool is_replaced(const Ticket& ticket) const {
        return sessions_[static_cast<std::size_t>(ticket.session)].replaced != kNever;
    }
    bool is_known(const Text& token) const { return places_.contains(token); }
    // Of two tokens of this browser, which came later.
    bool is_newer_session(const Text& a, const Text& b) const;
    int generation(const Text& token) const { return places_.at(token).generation; }
    int session(const Text& token) const { return places_.at(token).session; }

  private:
    static constexpr int kStore = kMostNodes;
    struct Place {
        int session = -1;
        int generation = 0;
    };
    // The least that a copy knows.
    struct Copy {
        int lower = 0;            // a newer secret than this one may be unknown to it
        bool has_all = false;     // every change that was made
        bool writes = false;      // has changes that the store may not have
        bool is_settled = false;  // since the fork: the same as in the store
    };
    struct Secret {
        Text text;
        Ms first = kNever;   // presented first
        Ms noted = -kNever;  // presented last to a node that may not have known it
    };
    struct Session {
        std::vector<Secret> secrets;
        int top = 0;  // the newest that has been presented
        std::array<Copy, kMostNodes + 1> copies;
        bool forked = false;
        bool is_stolen = false;
        bool was_lost = false;
        Ms created = 0;
        std::array<Ms, kMostNodes> ended{kNever, kNever};  // when the node knew
        Ms end_written = kNever;
        bool may_be_ended = false;
        Ms replaced = kNever;
        int replaced_on = -1;
        int successor = -1;
    };

    void fork(Session& s) const;
    void change(Session& s, int node) const;
    void read(Session& s, int node) const;
    void present(Session& s, int node, int k, Ms now) const;
    void note_activity(Ms now);
    bool was_active(Ms from, Ms to) const;
    void end(int session, int node, Ms now);
    bool was_ended(const Session& s) const;
    bool has_lost_successor(const Session& s, const Got& got) const;
    bool may_be_valid(const Session& s, int node, int k, Ms now) const;
    bool may_be_behind(const Session& s, int k, Ms now) const;
    Broken judge_valid(const Session& s, int node, int k, Ms now, const Got& got) const;
    Broken judge_refusal(const Session& s, int node, int k, Ms now, const Got& got) const;

    Rules rules_;
    std::vector<Session> sessions_;
    std::map<Text, Place> places_;
    std::deque<Ms> activities_;
};

}  // namespace sg::model
