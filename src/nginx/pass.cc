#include "nginx/pass.h"

#include <algorithm>
#include <new>

#include "core/handover.h"
#include "core/lifecycle.h"
#include "core/rotation.h"
#include "nginx/clock.h"
#include "nginx/control_command.h"
#include "nginx/fetch_metadata.h"
#include "nginx/identity.h"
#include "nginx/long_lived/registry.h"
#include "nginx/refusal.h"
#include "nginx/request_ctx.h"
#include "nginx/request_headers.h"
#include "nginx/takeout.h"
#include "nginx/tier/parking.h"
#include "nginx/tier/store_conf.h"
#include "nginx/tier/store_queue.h"
#include "nginx/worker.h"

namespace sg::ngx {
namespace {

Pass* enter(ngx_http_request_t* r, RequestCtx& ctx, LocationConf* conf) noexcept {
    Pass* const pass = new_pass(r, ctx);
    if (pass == nullptr) {
        return nullptr;
    }
    pass->older = ctx.newest;
    pass->request = r;
    pass->conf = conf;
    pass->upstream_before = r->upstream;
    ctx.newest = pass;
    return pass;
}

// Every pass starts without any realm's identity headers: what an earlier location was allowed to
// say about the user is not said to this one. With `session_strip off` the client's own are still
// there; a location that enforces a realm says itself who it is.
ngx_int_t drop_identity(ngx_http_request_t* r, const RequestCtx& ctx,
                        const LocationConf& location) noexcept {
    const bool clients_own = location.realm != nullptr && server_conf(r)->strip == 0;
    if (!ctx.identity_set && !clients_own) {
        return NGX_OK;
    }
    const MainConf& conf = *main_conf(r);
    return rebuild_request_headers(
        r,
        [&conf](const ngx_table_elt_t& header) { return is_identity_name(conf, view(header.key)); },
        {});
}

bool sent_in_the_clear(ngx_http_request_t* r, RealmConf& realm) noexcept {
    if (realm.secure == SecureMode::off || is_https(r, realm)) {
        return false;
    }
    if (count_event(realm, Event::insecure, now_ms())) {
        ngx_log_error(
            NGX_LOG_WARN, r->connection->log, 0,
            "session guard: realm \"%V\": session cookie refused, it came over plain http; "
            "use TLS, or \"secure=assumed\" where TLS ends in front of nginx",
            &realm.name);
    }
    return true;
}

// Asks the zone. Fills the pass's step, status and session.
ngx_int_t ask_zone(ngx_http_request_t* r, RequestCtx& ctx, Pass& pass,
                   const Candidates& candidates) noexcept {
    RealmConf& realm = *pass.conf->realm;
    std::size_t size = kTypicalRecordBytes * candidates.count;
    for (;;) {
        const ByteSpan space = record_space(r, ctx, pass, size);
        if (space.empty()) {
            return NGX_ERROR;
        }
        begin(realm.core, candidates, now_ms(), space, pass);
        if (pass.step == Outcome::Step::needs_buffer) {
            size = pass.needed_bytes;
            static_cast<Outcome&>(pass) = Outcome{};
            continue;
        }
        if (pass.status == Status::store_unavailable &&
            count_event(realm, Event::record_damaged, now_ms())) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "session guard: realm \"%V\": a session record cannot be read",
                          &realm.name);
        }
        return NGX_OK;
    }
}

// Nobody knows more than the zone: what is good here stays good for a while, everything else is
// unavailable, not absent.
void decide_without_store(ngx_http_request_t* r, Pass& pass) noexcept {
    RealmConf& realm = *pass.conf->realm;
    if (count_event(realm, Event::store_unknown, now_ms())) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "session guard: realm \"%V\": the store gave no answer (%uL times so far)",
                      &realm.name, event_count(realm, Event::store_unknown));
    }
    if (pass.status != Status::valid || !within_grace(pass, now_ms())) {
        pass.status = Status::store_unavailable;
        pass.reused = false;
    }
    pass.step = Outcome::Step::decided;
}

// What the store said about this pass, or that it could not be asked. True: the zone knows now.
[[gnu::noinline, gnu::cold]] bool settle(ngx_http_request_t* r, Pass& pass) noexcept {
    const Lesson lesson = take_lesson(pass);
    switch (lesson.learned) {
        case Learned::known:
            if (pass.reused && !lesson.in_store) {
                break;  // nobody else can say that it was rotated away
            }
            static_cast<Outcome&>(pass) = Outcome{};
            return true;
        case Learned::no_room:
            return false;  // decided by the entry
        case Learned::gone:
            // (That a successor is absent says of the old handle what the zone says: it has ended.)
            if (pass.step != Outcome::Step::needs_successor || lesson.status != Status::absent) {
                pass.status = lesson.status;
            }
            pass.step = Outcome::Step::decided;
            pass.reused = false;
            return false;
        case Learned::unknown:
            break;
    }
    decide_without_store(r, pass);
    return false;
}

// A token, and the successors it turns out to have.
constexpr int kMostQuestions = 1 + kMaxSuccessors;

// What the zone alone says stands when it was in vain.
[[gnu::noinline, gnu::cold]] ngx_int_t ask_store(ngx_http_request_t* r, Pass& pass) noexcept {
    const bool again = pass.asked > 0 && pass.step != Outcome::Step::needs_successor;
    if (again || pass.asked == kMostQuestions) {
        pass.step = Outcome::Step::decided;
        return NGX_OK;
    }
    ++pass.asked;
    pass.settled = false;
    const ngx_int_t parked = park(r, pass);
    if (parked != NGX_DECLINED) {
        return parked;
    }
    settle(r, pass);
    return NGX_OK;
}

// Who is it? NGX_OK: the pass says; NGX_AGAIN: the store is being asked.
ngx_int_t authenticate(ngx_http_request_t* r, RequestCtx& ctx, Pass& pass) noexcept {
    const Presented* const presented = find_presented(ctx, *pass.conf->realm);
    if (presented == nullptr) {
        return NGX_OK;
    }
    if (sent_in_the_clear(r, *pass.conf->realm)) {
        pass.status = Status::insecure;
        return NGX_OK;
    }
    if (ask_zone(r, ctx, pass, presented->candidates) != NGX_OK) {
        return NGX_ERROR;
    }
    return pass.step != Outcome::Step::decided ? ask_store(r, pass) : NGX_OK;
}

// Cross-site requests may neither act with a session nor log the victim in as somebody else.
bool cross_site(ngx_http_request_t* r, const Pass& pass) noexcept {
    if (is_safe_method(r) && r->headers_in.upgrade == nullptr) {
        return false;
    }
    const LocationConf& conf = *pass.conf;
    const bool may_create = (conf.control & verb_bit(ControlVerb::create)) != 0;
    if (!conf.csrf || (pass.status != Status::valid && !may_create && !conf.is_logout)) {
        return false;
    }
    switch (csrf_verdict(r, *conf.realm)) {
        case CsrfVerdict::pass:
            return false;
        case CsrfVerdict::pass_unattested:
            if (count_event(*conf.realm, Event::csrf_unattested, now_ms())) {
                ngx_log_error(
                    NGX_LOG_INFO, r->connection->log, 0,
                    "session guard: realm \"%V\": unsafe request without Sec-Fetch-Site and "
                    "Origin let pass (%uL so far)",
                    &conf.realm->name, event_count(*conf.realm, Event::csrf_unattested));
            }
            return false;
        case CsrfVerdict::refuse:
            break;
    }
    return true;
}

// To the store at most once in a tenth of the session's idle timeout: when a border between two
// tenths lies between the last touch and this one.
void tell_activity(const RealmConf& realm, const Session& session, TimeMs now) noexcept {
    if (session.timeouts.idle == 0) {
        return;  // nothing depends on it
    }
    const TimeMs tenth = std::max<TimeMs>(session.timeouts.idle / 10, kSecond);
    if (session.slot.last_seen / tenth != now / tenth && realm.store->queue != nullptr) {
        realm.store->queue->touch(
            session.slot.token, now,
            session.ages.created + session.timeouts.absolute + kTombstoneSlack);
    }
}

// The zone has no room for it: the store alone knows when its user was seen.
inline bool is_stores_only(const Session& session) noexcept {
    return session.slot.slot.index == 0;
}

[[gnu::always_inline]] inline void note(const RealmConf& realm, const Session& session,
                                        TimeMs now) noexcept {
    const bool counts = touch_session(realm.core, session.slot, now);
    if (realm.store != nullptr && (counts || is_stores_only(session))) {
        tell_activity(realm, session, now);
    }
}

void touch(ngx_http_request_t* r, const Pass& pass) noexcept {
    const LocationConf& conf = *pass.conf;
    // session_info: looking at the clock does not move it, a POST ("I am still here") does.
    const bool counts = conf.is_info ? r->method == NGX_HTTP_POST : conf.touch != 0;
    if (!counts || pass.session.restricted) {
        return;
    }
    note(*conf.realm, pass.session, now_ms());
}

// A new token is due, or this one is the old or the new one of two: none of that is common.
[[gnu::noinline, gnu::cold]] void rotate(ngx_http_request_t* r, RequestCtx& ctx,
                                         const Pass& pass) noexcept {
    const Session& session = pass.session;
    if (session.restricted) {
        return;
    }
    if (session.holding == Holding::next) {
        note_seen(pass.conf->realm->core, pass.token, now_ms(), worker_scratch());
    } else if (may_carry_new_token(r)) {
        ctx.rotating = &pass;
    }
}

ngx_int_t admit(ngx_http_request_t* r, RequestCtx& ctx, Pass& pass) noexcept {
    pass.admitted = true;
    watch(ctx);
    touch(r, pass);
    if (pass.session.holding != Holding::current ||
        is_rotation_due(pass.conf->realm->core, pass.session.record, now_ms()) ||
        owes_second_cookie(pass.session.record)) {
        rotate(r, ctx, pass);
    }
    if (pass.conf->realm->identity != nullptr) {
        ctx.identity_set = true;
        return set_identity(r, *pass.conf->realm);
    }
    return NGX_OK;
}

// May it? NGX_OK: admitted; NGX_DECLINED: passes as anonymous; else an answer (see refusal.h).
ngx_int_t authorise(ngx_http_request_t* r, RequestCtx& ctx, Pass& pass) noexcept {
    if (cross_site(r, pass)) {
        return refuse(r, ctx, pass, Status::csrf);
    }
    if (pass.status == Status::valid) {
        return admit(r, ctx, pass) == NGX_OK ? NGX_OK : NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    if (pass.conf->mode == static_cast<ngx_uint_t>(SessionMode::optional)) {
        return NGX_DECLINED;
    }
    return refuse(r, ctx, pass, pass.status);
}

// Two browsers have had this token, and one of them stole it: which one cannot be told.
[[gnu::noinline, gnu::cold]] void end_reused(ngx_http_request_t* r, const Pass& pass) noexcept {
    RealmConf& realm = *pass.conf->realm;
    const auto id = realm.keys.public_id(pass.token);
    if (find_departure(realm.core, pass.token.handle, now_ms())) {
        return;  // somebody was quicker
    }
    if (!end_session(realm.core, pass.token.handle, Departure::ended, now_ms())) {
        end_unknown(realm.core, pass.token, Departure::ended, now_ms());  // in the store only
    }
    count_event(realm, Event::reuse_detected, now_ms());
    std::array<char, kPublicIdChars> text{};
    if (id) {
        format_public_id(*id, text);
    }
    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "session guard: realm \"%V\": session %*s ended: a token came back that was "
                  "rotated away (reuse detected)",
                  &realm.name, text.size(), text.data());
}

// It is known who it is. Subrequests, which skip ACCESS, are decided here.
ngx_int_t go_on(ngx_http_request_t* r, RequestCtx& ctx, Pass& pass) noexcept {
    if (pass.reused) {
        end_reused(r, pass);
    }
    if (r == r->main) {
        return NGX_DECLINED;
    }
    const ngx_int_t rc = authorise(r, ctx, pass);
    return rc == NGX_OK ? NGX_DECLINED : rc;
}

}  // namespace

void note_activity(const RealmConf& realm, const Session& session, TimeMs now) noexcept {
    note(realm, session, now);
}

ngx_int_t preaccess_handler(ngx_http_request_t* r) noexcept {
    if (!main_conf(r)->in_use) {
        return NGX_DECLINED;
    }
    RequestCtx* const ctx = take_out(r);
    if (ctx == nullptr) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    Pass* pass = parked_pass(r, *ctx);
    if (pass != nullptr) {
        if (is_waiting(*pass)) {
            return NGX_AGAIN;
        }
        if (!settle(r, *pass)) {
            return go_on(r, *ctx, *pass);
        }
    } else {
        // The location before this one may have been told something about the session by its
        // upstream.
        const ngx_int_t earlier = read_control(r, *ctx);
        if (earlier != NGX_OK) {
            return earlier;
        }
        LocationConf* const conf = location_conf(r);
        pass = enter(r, *ctx, conf);
        if (pass == nullptr || drop_identity(r, *ctx, *conf) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
        if (conf->realm == nullptr) {
            return NGX_DECLINED;
        }
    }
    const ngx_int_t known = authenticate(r, *ctx, *pass);
    if (known != NGX_OK) {
        return known == NGX_AGAIN ? NGX_AGAIN : NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    return go_on(r, *ctx, *pass);
}

ngx_int_t access_handler(ngx_http_request_t* r) noexcept {
    if (location_conf(r)->realm == nullptr) {
        return NGX_DECLINED;
    }
    RequestCtx* const ctx = find_request_ctx(r);
    Pass* const pass = ctx != nullptr ? current_pass(r, *ctx) : nullptr;
    if (pass == nullptr || pass->conf != location_conf(r)) {
        // Cannot happen: PREACCESS precedes ACCESS. If it does, nobody has been authenticated.
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "session guard: a location was entered without authentication");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    return authorise(r, *ctx, *pass);
}

}  // namespace sg::ngx
