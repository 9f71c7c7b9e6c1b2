#include "nginx/control_command.h"

#include <algorithm>
#include <array>

#include "core/lifecycle.h"
#include "nginx/clock.h"
#include "nginx/fetch_metadata.h"
#include "nginx/long_lived/registry.h"
#include "nginx/str.h"
#include "nginx/tier/withhold.h"
#include "nginx/worker.h"

namespace sg::ngx {
namespace {

// Everything one execution needs; lives on the stack.
struct Execution {
    ngx_http_request_t* r;
    RequestCtx& ctx;
    Pass& pass;
    RealmConf& realm;
    ControlCommand command;
    TimeMs now;
};

void log_ignored(ngx_http_request_t* r, RealmConf* realm, const char* why) noexcept {
    // Without a realm there is no zone to count in; the minute is then the worker's own.
    const bool due = realm != nullptr ? count_event(*realm, Event::control_ignored, now_ms())
                                      : minute_has_passed_here();
    if (due) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "session guard: X-Accel-Session from upstream removed: %s", why);
    }
}

ngx_int_t malformed(ngx_http_request_t* r, RealmConf& realm, std::string_view value,
                    const ControlError& error) noexcept {
    count_event(realm, Event::control_malformed, now_ms());
    // The values may be personal data (user, attributes): only the offending name or mark is
    // quoted, and not what a terminal would obey.
    const auto plain = [](char c) { return c >= 0x20 && c < 0x7f; };
    const std::string_view piece = error.token.substr(0, 64);
    const ngx_str_t token =
        str(std::all_of(piece.begin(), piece.end(), plain) ? piece : std::string_view());
    ngx_log_error(
        NGX_LOG_ERR, r->connection->log, 0,
        "session guard: realm \"%V\": invalid X-Accel-Session (%uz bytes): %s at byte %uz, "
        "near \"%V\"",
        &realm.name, value.size(), error.what, error.offset, &token);
    return NGX_HTTP_BAD_GATEWAY;
}

ngx_int_t refuse_as(const Execution& run, Status status) noexcept {
    run.ctx.refusal = status;
    run.ctx.refusal_code = http_status(status);
    return static_cast<ngx_int_t>(http_status(status));
}

ngx_int_t refuse_login(const Execution& run, Change why) noexcept {
    if (why == Change::full) {
        if (count_event(run.realm, Event::zone_full, run.now)) {
            ngx_log_error(
                NGX_LOG_ALERT, run.r->connection->log, 0,
                "session guard: realm \"%V\": zone is full, logins are refused (%uL so far); "
                "enlarge \"zone\" and reload",
                &run.realm.name, event_count(run.realm, Event::zone_full));
        }
        return NGX_HTTP_SERVICE_UNAVAILABLE;
    }
    if (why == Change::limited) {
        count_event(run.realm, Event::limited, run.now);
        ngx_log_error(NGX_LOG_INFO, run.r->connection->log, 0,
                      "session guard: realm \"%V\": login refused, limit_sessions",
                      &run.realm.name);
        return refuse_as(run, Status::limited);
    }
    if (why == Change::too_large) {
        ngx_log_error(
            NGX_LOG_ERR, run.r->connection->log, 0,
            "session guard: realm \"%V\": the session's data does not fit max_data or the "
            "zone",
            &run.realm.name);
        return NGX_HTTP_BAD_GATEWAY;
    }
    if (count_event(run.realm, Event::random_failed, run.now)) {
        ngx_log_error(NGX_LOG_ALERT, run.r->connection->log, 0,
                      "session guard: realm \"%V\": no random bytes or a damaged record, refused",
                      &run.realm.name);
    }
    return NGX_HTTP_SERVICE_UNAVAILABLE;
}

bool was_let_in(const Execution& run, const Token& token) noexcept {
    return run.pass.admitted && !run.pass.session.restricted && same_token(token, run.pass.token);
}

// A request that was let in as this session may end it however late its response is; a token that
// only came along must be good now.
bool may_end(const Execution& run, const Token& token) noexcept {
    return was_let_in(run, token) ? is_there(run.realm.core, token.handle)
                                  : holds_session(run.realm.core, token, run.now);
}

// The store gave no answer: what this zone does not have may be good on other nodes.
bool nobody_knows(const Execution& run, const Token& token) noexcept {
    return run.pass.status == Status::store_unavailable && same_token(token, run.pass.token);
}

// The sessions that came with the request and may be ended by it.
struct PresentedSessions {
    struct One {
        Token token;
        bool is_here;  // or in the store only, as far as is known here
    };
    std::array<One, kMaxCandidates> all;
    std::array<Handle, kMaxCandidates> handles;
    std::size_t count = 0;
    std::span<const Handle> view() const noexcept { return std::span(handles).first(count); }
};

PresentedSessions presented_sessions(const Execution& run) noexcept {
    PresentedSessions sessions;
    const Presented* const presented = find_presented(run.ctx, run.realm);
    const Candidates none;
    const Candidates& candidates = presented != nullptr ? presented->candidates : none;
    for (std::size_t i = 0; i < candidates.count; ++i) {
        const auto token = parse_token(candidates.values[i]);
        const bool is_here = token && may_end(run, *token);
        // The zone has, or had, no room for it, or nobody can say.
        const bool is_elsewhere = token && (was_let_in(run, *token) || nobody_knows(run, *token));
        if (is_here || is_elsewhere) {
            sessions.all[sessions.count] = {.token = *token, .is_here = is_here};
            sessions.handles[sessions.count++] = token->handle;
        }
    }
    return sessions;
}

// Whatever credential came with the request stops working: it is never linked to the new session.
void end_presented(const Execution& run, const PresentedSessions& sessions,
                   Departure why) noexcept {
    for (const auto& [token, is_here] : std::span(sessions.all).first(sessions.count)) {
        if (is_here) {
            end_session(run.realm.core, token.handle, why, run.now);
        } else {
            end_unknown(run.realm.core, token, why, run.now);
        }
    }
}

ngx_int_t owe_token(const Execution& run, const Token& token, OwedCookie::Kind kind) noexcept {
    const bool owed = owe_cookie(run.r, run.ctx, run.realm, kind, token) == NGX_OK &&
                      present_instead(run.r, run.ctx, run.realm, token) == NGX_OK;
    watch(run.ctx);  // as the new session from now on
    return owed ? NGX_OK : NGX_HTTP_INTERNAL_SERVER_ERROR;
}

ngx_int_t create(const Execution& run) noexcept {
    const ngx_uint_t status = run.r->upstream->headers_in.status_n;
    if (status < 200 || status >= 400) {
        ngx_log_error(NGX_LOG_INFO, run.r->connection->log, 0,
                      "session guard: realm \"%V\": create ignored, the upstream answered %ui",
                      &run.realm.name, status);
        return NGX_OK;
    }
    if (run.realm.secure != SecureMode::off && !is_https(run.r, run.realm)) {
        if (count_event(run.realm, Event::insecure, run.now)) {
            ngx_log_error(NGX_LOG_ERR, run.r->connection->log, 0,
                          "session guard: realm \"%V\": login refused, it came over plain http",
                          &run.realm.name);
        }
        return refuse_as(run, Status::insecure);
    }
    const PresentedSessions leaving = presented_sessions(run);
    const Changed changed = open_session(run.realm.core, worker_random(), run.command, run.now,
                                         worker_scratch(), leaving.view());
    if (changed.result != Change::done) {
        return refuse_login(run, changed.result);
    }
    for (std::size_t i = 0; i < changed.ended; ++i) {
        count_event(run.realm, Event::over_limit, run.now);
    }
    end_presented(run, leaving, Departure::regenerated);
    return owe_token(run, *changed.token, OwedCookie::Kind::set_first);
}

// update, renew, reauth: only a request that was let in with a session, and not one that holds an
// already replaced handle, may change it.
ngx_int_t change(const Execution& run) noexcept {
    if (!run.pass.admitted || run.pass.session.restricted) {
        ngx_log_error(
            NGX_LOG_INFO, run.r->connection->log, 0,
            "session guard: realm \"%V\": %s ignored, the request had no session of its own",
            &run.realm.name, verb_name(run.command.verb).data());
        return NGX_OK;
    }
    const Changed changed =
        change_session(run.realm.core, worker_random(), run.pass.token.handle, run.command,
                       run.realm.max_data, run.now, worker_scratch());
    if (changed.result == Change::gone) {
        ngx_log_error(NGX_LOG_INFO, run.r->connection->log, 0,
                      "session guard: realm \"%V\": %s came too late, the session has ended",
                      &run.realm.name, verb_name(run.command.verb).data());
        return NGX_OK;
    }
    if (changed.result != Change::done) {
        return refuse_login(run, changed.result);
    }
    return changed.token ? owe_token(run, *changed.token, OwedCookie::Kind::set) : NGX_OK;
}

ngx_int_t destroy(const Execution& run) noexcept {
    end_presented(run, presented_sessions(run), Departure::ended);
    if (find_presented(run.ctx, run.realm) == nullptr) {
        return NGX_OK;
    }
    return owe_cookie(run.r, run.ctx, run.realm, OwedCookie::Kind::expire) == NGX_OK
               ? NGX_OK
               : NGX_HTTP_INTERNAL_SERVER_ERROR;
}

ngx_int_t execute(const Execution& run) noexcept {
    switch (run.command.verb) {
        case ControlVerb::create:
            return create(run);
        case ControlVerb::update:
        case ControlVerb::renew:
        case ControlVerb::reauth:
            return change(run);
        case ControlVerb::destroy:
            break;
    }
    return destroy(run);
}

ngx_int_t read_lines(ngx_http_request_t* r, RequestCtx& ctx, Pass& pass,
                     const ControlLines& lines) noexcept {
    RealmConf& realm = *pass.conf->realm;
    ControlError error;
    if (lines.count > 1) {
        error.what = "the header came more than once";
        return malformed(r, realm, lines.first, error);
    }
    const std::size_t size = control_scratch_size(lines.first);
    auto* const scratch = static_cast<std::uint8_t*>(ngx_palloc(r->pool, size + 1));
    if (scratch == nullptr) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    const auto command = parse_control(lines.first, realm.max_data, {scratch, size}, error);
    if (!command) {
        return malformed(r, realm, lines.first, error);
    }
    if ((pass.conf->control & verb_bit(command->verb)) == 0) {
        log_ignored(r, &realm, "session_control of this location does not list the verb");
        return NGX_OK;
    }
    const WriteScope writes(r, ctx, lines.first);
    return execute({r, ctx, pass, realm, *command, now_ms()});
}

}  // namespace

ControlLines find_control(const ngx_http_upstream_t* upstream) noexcept {
    ControlLines lines;
    if (upstream == nullptr || upstream->headers_in.headers.part.elts == nullptr) {
        return lines;
    }
    for (const ngx_list_part_t* part = &upstream->headers_in.headers.part; part != nullptr;
         part = part->next) {
        const auto* const elements = static_cast<const ngx_table_elt_t*>(part->elts);
        for (ngx_uint_t i = 0; i < part->nelts; ++i) {
            const ngx_table_elt_t& header = elements[i];
            if (header.key.len == kControlHeader.size() &&
                equal_ignoring_case(view(header.key), kControlHeader)) {
                lines.first = lines.count == 0 ? view(header.value) : lines.first;
                ++lines.count;
            }
        }
    }
    return lines;
}

ngx_int_t read_control(ngx_http_request_t* r, RequestCtx& ctx) noexcept {
    ngx_http_upstream_t* const upstream = r->upstream;
    if (r != r->main || upstream == nullptr || upstream == ctx.read_upstream) {
        return NGX_OK;
    }
    const ControlLines lines = find_control(upstream);
    if (lines.count == 0) {
        return NGX_OK;
    }
    ctx.read_upstream = upstream;
#if (NGX_HTTP_CACHE)
    if (r->cached) {
        return NGX_OK;  // somebody else's login, replayed from the cache
    }
    upstream->cacheable = 0;
#endif
    upstream->store = 0;
    Pass* const pass = upstream_owner(r, ctx);
    if (pass == nullptr || pass->conf->realm == nullptr || pass->conf->control == 0) {
        log_ignored(r, pass != nullptr ? pass->conf->realm : nullptr,
                    "this location has no session_control");
        return NGX_OK;
    }
    // Under `satisfy any` another condition can let a request in that the cross-site rule refused:
    // it acts as nobody, and nobody's browser is made to log in or out by another site.
    if (pass->refused && pass->status == Status::csrf) {
        log_ignored(r, pass->conf->realm, "the request came from another site");
        return NGX_OK;
    }
    return read_lines(r, ctx, *pass, lines);
}

}  // namespace sg::ngx
