#include "nginx/long_lived/watch.h"

#include <algorithm>
#include <optional>

#include "nginx/clock.h"
#include "nginx/long_lived/goodbye.h"
#include "nginx/long_lived/long_lived.h"
#include "nginx/long_lived/question.h"
#include "nginx/long_lived/registry.h"
#include "nginx/pass.h"
#include "nginx/worker.h"

namespace sg::ngx {
namespace {

// A store that does not answer is asked again after this.
constexpr ngx_msec_t kPauseWhenNobodyKnows = 2000;

// The credential this pass stands for by now. What the request itself has logged in, renewed or
// ended is not held against its own answer: nullopt, it is nobody's any more.
std::optional<Token> credential(const RequestCtx& ctx, const Pass& pass) noexcept {
    const OwedCookie* const owed = find_owed(ctx, *pass.conf->realm);
    if (owed == nullptr) {
        return pass.admitted ? std::optional(pass.token) : std::nullopt;
    }
    return owed->token.handle != Handle{} ? std::optional(owed->token) : std::nullopt;
}

bool speaks(const Pass& pass, const ngx_http_request_t* main) noexcept {
    return pass.conf->realm != nullptr && !pass.refused &&
           (pass.request == main || !pass.request->done);
}

// What a request would be told now. The record's views live until the next call.
Outcome review_now(const Pass& pass, const Token& token) noexcept {
    Outcome outcome;
    review(pass.conf->realm->core, token, now_ms(), worker_scratch(), outcome);
    return outcome;
}

// Whether the location's demands, which the request met when it was let in, are still met. So far
// a session is all that is demanded. (session_require and session_idle_timeout belong here.)
bool meets_demands(const LocationConf&, const Session&) noexcept {
    return true;
}

bool may_be_cut(const LongLived& all) noexcept {
    return (location_conf(all.r)->long_lived & kCutLongLived) != 0;
}

Event cut_event(Status why) noexcept {
    switch (why) {
        case Status::ended:
            return Event::cut_ended;
        case Status::regenerated:
            return Event::cut_regenerated;
        case Status::expired_idle:
            return Event::cut_expired_idle;
        case Status::expired_absolute:
            return Event::cut_expired_absolute;
        default:
            return Event::cut_otherwise;
    }
}

// What follows for the request from what was found out about one of its passes.
enum class Verdict : std::uint8_t {
    keeps,  // the other passes are next
    rests,  // nothing more just now: an answer is awaited, or the request is gone
};

Verdict end(LongLived& all, const Pass& pass, Status why) noexcept {
    if (!may_be_cut(all)) {
        return Verdict::keeps;
    }
    count_event(*pass.conf->realm, cut_event(why), now_ms());
    stop_asking(all);
    stop_watching(all.ctx->watched);
    cut_off(all.r, *all.ctx, why);
    return Verdict::rests;
}

// By what the zone, or the store's entry, says for certain.
Verdict decide(LongLived& all, const Pass& pass, const Outcome& outcome) noexcept {
    if (outcome.status != Status::valid) {
        return end(all, pass, outcome.status);
    }
    all.confirmed = std::max(all.confirmed, outcome.session.slot.confirmed);
    return meets_demands(*pass.conf, outcome.session) ? Verdict::keeps
                                                      : end(all, pass, Status::ended);
}

// What a request with this session would get while the store cannot be asked; a session that the
// zone has given up since is as good as on that day.
Verdict decide_without_store(LongLived& all, const Pass& pass, Status here) noexcept {
    const TimeMs confirmed = std::max(all.confirmed, pass.session.slot.confirmed);
    const bool may_live =
        here == Status::valid || here == Status::absent || here == Status::store_unavailable;
    if (may_live &&
        age(confirmed, now_ms()) <= pass.conf->realm->core.revalidate + pass.conf->grace) {
        return Verdict::keeps;
    }
    return end(all, pass, may_live ? Status::store_unavailable : here);
}

void nobody_knows(LongLived& all) noexcept {
    all.pause_until = ngx_current_msec + kPauseWhenNobodyKnows;
}

void answered(Watcher& watcher, const StoreOp& op) noexcept;

Verdict ask(LongLived& all, const Pass& pass, const Outcome& outcome) noexcept {
    const bool paused = static_cast<ngx_msec_int_t>(all.pause_until - ngx_current_msec) > 0;
    switch (paused ? Question::nobody : ask_store(all, pass, outcome, answered)) {
        case Question::waits:
            return Verdict::rests;
        case Question::later:
            return Verdict::keeps;
        case Question::nobody:
            break;
    }
    return decide_without_store(all, pass, outcome.status);
}

Verdict decide_from_entry(LongLived& all, const Pass& pass, const StoreOp& op) noexcept {
    all.confirmed = std::max(all.confirmed, op.sent);
    return decide(all, pass,
                  resume(pass.conf->realm->core, op.seen.token, op.seen, op.seen.record, now_ms()));
}

// The zone knows now; only a successor that was not may be asked about in addition.
Verdict decide_again(LongLived& all, const Pass& pass) noexcept {
    const auto token = credential(*all.ctx, pass);
    if (!token) {
        return Verdict::keeps;
    }
    const Outcome outcome = review_now(pass, *token);
    if (outcome.step == Outcome::Step::needs_successor &&
        outcome.session.slot.successor != all.token.handle) {
        return ask(all, pass, outcome);
    }
    return decide(all, pass, outcome);
}

void answered(Watcher& watcher, const StoreOp& op) noexcept {
    LongLived& all = *static_cast<LongLived*>(watcher.data);
    const Pass& pass = *all.pass;
    stop_asking(all);
    const Lesson lesson =
        learn(pass.conf->realm->core, all.token,
              {.answer = op.answer, .entry = op.seen, .sent = op.sent}, now_ms(), worker_scratch());
    switch (lesson.learned) {
        case Learned::known:
            decide_again(all, pass);
            return;
        case Learned::no_room:
            decide_from_entry(all, pass, op);
            return;
        case Learned::gone:
            if (lesson.status == Status::absent && ask_under_next_key(all)) {
                return;
            }
            // (An absent successor has ended: it was made for this session.)
            end(all, pass,
                all.is_successor && lesson.status == Status::absent ? Status::ended
                                                                    : lesson.status);
            return;
        case Learned::unknown:
            break;
    }
    nobody_knows(all);  // what that means, the next look finds out
}

Verdict look_at_pass(LongLived& all, const Pass& pass, bool is_active) noexcept {
    const auto token = credential(*all.ctx, pass);
    if (!token) {
        return Verdict::keeps;
    }
    const Outcome outcome = review_now(pass, *token);
    if (is_active && outcome.status == Status::valid && !outcome.session.restricted) {
        note_activity(*pass.conf->realm, outcome.session, now_ms());
    }
    switch (outcome.step) {
        case Outcome::Step::decided:
            // A record that cannot be read is unknown, not bad.
            return outcome.status == Status::store_unavailable
                       ? decide_without_store(all, pass, outcome.status)
                       : decide(all, pass, outcome);
        case Outcome::Step::needs_buffer:
            return Verdict::keeps;  // records of the largest size, until the old handle's window
                                    // ends
        case Outcome::Step::needs_store:
        case Outcome::Step::needs_successor:
            break;
    }
    return ask(all, pass, outcome);
}

// True: the client has sent something since the last look, and that counts.
bool was_active(LongLived& all, ngx_uint_t policy) noexcept {
    const off_t heard = heard_of_client(all.r);
    const bool is_more = heard != all.heard;
    all.heard = heard;
    return is_more && (policy & kClientBytes) != 0;
}

}  // namespace

void look_at(RequestCtx& ctx) noexcept {
    ngx_http_request_t* const r = ctx.newest->request->main;
    // Done: all is with the kernel, and the connection only lingers.
    if (r->done || r->connection->error) {
        return;
    }
    LongLived* const all = long_lived(r, ctx);
    const ngx_uint_t policy = location_conf(r)->long_lived;
    if (all == nullptr || policy == 0 || (is_waiting(*all) && !is_overdue(*all))) {
        return;
    }
    if (is_waiting(*all)) {
        stop_asking(*all);
        nobody_knows(*all);
    }
    const bool is_active = was_active(*all, policy);
    for (const Pass* pass = ctx.newest; pass != nullptr; pass = pass->older) {
        if (speaks(*pass, r) && look_at_pass(*all, *pass, is_active) == Verdict::rests) {
            return;
        }
    }
}

}  // namespace sg::ngx
