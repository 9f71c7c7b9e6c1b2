#include "nginx/tier/withhold.h"

#include <algorithm>
#include <new>

#include "nginx/takeout.h"
#include "nginx/tier/store_conf.h"

namespace sg::ngx {

// Made with the first write of a request, in its pool; detached by the pool's cleanup.
struct WaitingWrites {
    enum class State : std::uint8_t { collecting, waiting, done };

    ngx_http_request_t* r = nullptr;
    struct Write {
        Watcher watcher;
        Write* next = nullptr;
    };
    Write* writes = nullptr;
    std::size_t unanswered = 0;
    TimeMs patience = 0;
    State state = State::collecting;
    ngx_http_output_header_filter_pt header_filter = nullptr;
    ngx_chain_t* held = nullptr;
    ngx_event_t timer{};
    bool preset_header_only = false;
};

namespace {

// r->buffered has four bits; SSI, sub and copy filters use the others (ngx_http_core_module.h).
constexpr unsigned kBuffered = 0x08;

ngx_http_output_body_filter_pt next_body_filter;
constinit WaitingWrites* collecting = nullptr;  // of the request being served just now
constinit std::string_view collecting_for;

void resume(WaitingWrites& waiting) noexcept;

void write_answered(Watcher& watcher, const StoreOp&) noexcept {
    WaitingWrites& waiting = *static_cast<WaitingWrites*>(watcher.data);
    if (--waiting.unanswered == 0 && waiting.state == WaitingWrites::State::waiting) {
        resume(waiting);
    }
}

void stop_waiting(WaitingWrites& waiting) noexcept {
    for (WaitingWrites::Write* write = waiting.writes; write != nullptr; write = write->next) {
        detach(write->watcher);
    }
    waiting.unanswered = 0;
    if (waiting.timer.timer_set) {
        ngx_del_timer(&waiting.timer);
    }
}

void cleanup(void* data) noexcept {
    stop_waiting(*static_cast<WaitingWrites*>(data));
}

// The store writes on; the session works on this node.
void time_is_up(ngx_event_t* event) noexcept {
    resume(*static_cast<WaitingWrites*>(event->data));
}

WaitingWrites* writes_of(ngx_http_request_t* r, RequestCtx& ctx) noexcept {
    if (ctx.writes == nullptr) {
        ngx_pool_cleanup_t* const owner = ngx_pool_cleanup_add(r->pool, sizeof(WaitingWrites));
        if (owner == nullptr) {
            return nullptr;
        }
        ctx.writes = new (owner->data) WaitingWrites;
        owner->handler = cleanup;
        ctx.writes->r = r->main;
        ctx.writes->timer.handler = time_is_up;
        ctx.writes->timer.data = ctx.writes;
        ctx.writes->timer.log = r->connection->log;
    }
    return ctx.writes;
}

// An active upstream's cleanup drops one reference of the request it finalizes.
void kill(ngx_http_request_t* r) noexcept {
    r->main->count++;
    ngx_http_finalize_request(r, NGX_ERROR);
}

// Half of what nginx itself waits for the client or the upstream, or it gives the request up.
ngx_msec_t deadline(ngx_http_request_t* r, const WaitingWrites& waiting) noexcept {
    const auto* const core = static_cast<const ngx_http_core_loc_conf_t*>(
        ngx_http_get_module_loc_conf(r, ngx_http_core_module));
    auto limit = std::min(static_cast<ngx_msec_t>(waiting.patience), core->send_timeout / 2);
    if (r->upstream != nullptr && r->upstream->conf != nullptr) {
        limit = std::min(limit, r->upstream->conf->read_timeout / 2);
    }
    return limit;
}

bool send_rest(ngx_http_request_t* r, WaitingWrites& waiting) noexcept {
    if (waiting.preset_header_only) {
        r->header_only = 0;  // other filters set it by themselves
    }
    const ngx_int_t rc = waiting.header_filter(r);
    if (rc == NGX_ERROR || rc > NGX_OK) {
        return false;
    }
    if (r->header_only || waiting.held == nullptr) {
        waiting.held = nullptr;
        r->buffered &= ~kBuffered;
        return true;
    }
    return ngx_http_output_filter(r, nullptr) != NGX_ERROR;
}

void resume(WaitingWrites& waiting) noexcept {
    ngx_http_request_t* const r = waiting.r;
    ngx_connection_t* const c = r->connection;
    stop_waiting(waiting);
    waiting.state = WaitingWrites::State::done;
    ngx_http_set_log_request(c->log, r);
    if (c->error || !send_rest(r, waiting)) {
        kill(r);
    } else {
        // The upstream, or whoever sends the body, goes on from here, and ends the request.
        r->write_event_handler(r);
    }
    ngx_http_run_posted_requests(c);
}

// NGX_AGAIN while the header waits; keeps the links, never the caller's own.
ngx_int_t hold(ngx_http_request_t* r, WaitingWrites& waiting, ngx_chain_t* in) noexcept {
    if (in != nullptr && !r->header_only &&
        ngx_chain_add_copy(r->pool, &waiting.held, in) != NGX_OK) {
        return NGX_ERROR;
    }
    return NGX_AGAIN;
}

ngx_int_t release(ngx_http_request_t* r, WaitingWrites& waiting, ngx_chain_t* in) noexcept {
    if (in != nullptr && ngx_chain_add_copy(r->pool, &waiting.held, in) != NGX_OK) {
        return NGX_ERROR;
    }
    ngx_chain_t* const out = waiting.held;
    waiting.held = nullptr;
    r->buffered &= ~kBuffered;
    return next_body_filter(r, out);
}

ngx_int_t body_filter(ngx_http_request_t* r, ngx_chain_t* in) noexcept {
    RequestCtx* const ctx = r == r->main ? find_request_ctx(r) : nullptr;
    if (ctx == nullptr || ctx->writes == nullptr) {
        return next_body_filter(r, in);
    }
    WaitingWrites& waiting = *ctx->writes;
    switch (waiting.state) {
        case WaitingWrites::State::waiting:
            return hold(r, waiting, in);
        case WaitingWrites::State::collecting:
            return next_body_filter(r, in);
        case WaitingWrites::State::done:
            break;
    }
    if (waiting.held != nullptr) {
        return release(r, waiting, in);
    }
    if (in == nullptr && !r->buffered && !r->connection->buffered && r->postponed == nullptr) {
        return NGX_OK;  // nothing pending: the write filter would call it an empty chain
    }
    return next_body_filter(r, in);
}

}  // namespace

WriteScope::WriteScope(ngx_http_request_t* r, RequestCtx& ctx, std::string_view command) noexcept {
    const Pass* const pass = current_pass(r, ctx);
    if (pass == nullptr || pass->conf->realm == nullptr || pass->conf->realm->store == nullptr) {
        return;
    }
    collecting_for = command;
    collecting = writes_of(r, ctx);
    if (collecting != nullptr) {
        collecting->patience = std::max(collecting->patience, pass->conf->realm->store->patience);
    }
}

WriteScope::~WriteScope() {
    collecting = nullptr;
    collecting_for = {};
}

std::string_view WriteScope::command() noexcept {
    return collecting_for;
}

Watcher* WriteScope::new_watcher() noexcept {
    if (collecting == nullptr || collecting->state != WaitingWrites::State::collecting) {
        return nullptr;
    }
    void* const place = ngx_palloc(collecting->r->pool, sizeof(WaitingWrites::Write));
    if (place == nullptr) {
        return nullptr;
    }
    auto* const write = new (place) WaitingWrites::Write;
    write->watcher.answered = write_answered;
    write->watcher.data = collecting;
    write->next = collecting->writes;
    collecting->writes = write;
    ++collecting->unanswered;
    return &write->watcher;
}

ngx_int_t withhold(ngx_http_request_t* r, RequestCtx& ctx,
                   ngx_http_output_header_filter_pt header_filter) noexcept {
    WaitingWrites& waiting = *ctx.writes;
    if (waiting.state == WaitingWrites::State::waiting) {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "session guard: a second header while the first waits for the store");
        return NGX_ERROR;
    }
    // An upgraded connection's bytes would go around the filters: it is not withheld.
    const bool upgraded = r->upstream != nullptr && r->upstream->upgrade;
    if (waiting.state == WaitingWrites::State::done || waiting.unanswered == 0 || upgraded) {
        return NGX_DECLINED;
    }
    waiting.state = WaitingWrites::State::waiting;
    waiting.header_filter = header_filter;
    r->buffered |= kBuffered;
    r->preserve_body = 1;  // or the upstream closes the request body's file
    if (r->method == NGX_HTTP_HEAD && !r->header_only) {
        r->header_only = 1;
        waiting.preset_header_only = true;
    }
    ngx_add_timer(&waiting.timer, deadline(r, waiting));
    return NGX_AGAIN;
}

ngx_int_t install_body_filter(const MainConf& conf) noexcept {
    const auto realms = conf.all_realms();
    if (std::none_of(realms.begin(), realms.end(),
                     [](const RealmConf* realm) { return realm->store != nullptr; })) {
        return NGX_OK;
    }
    next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = body_filter;
    return NGX_OK;
}

}  // namespace sg::ngx
