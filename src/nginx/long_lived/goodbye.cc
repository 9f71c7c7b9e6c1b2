#include "nginx/long_lived/goodbye.h"

#include "nginx/long_lived/long_lived.h"
#include "nginx/long_lived/registry.h"
#include "nginx/str.h"

namespace sg::ngx {
namespace {

constexpr time_t kLingering = 2;  // seconds for a client to take its close frame

bool is_websocket(const ngx_http_request_t* r) noexcept {
    return r->upstream != nullptr && r->upstream->upgrade && r->headers_in.upgrade != nullptr &&
           equal_ignoring_case(view(r->headers_in.upgrade->value), "websocket");
}

// In the place of the client connection's `send`, which nginx uses for an upgraded connection's
// bytes, and for nothing else.
ssize_t send_and_follow(ngx_connection_t* c, u_char* bytes, std::size_t size) noexcept {
    LongLived& all = *find_request_ctx(static_cast<ngx_http_request_t*>(c->data))->watched.more;
    const ssize_t sent = all.send(c, bytes, size);
    if (sent > 0) {
        all.border.follow({bytes, static_cast<std::size_t>(sent)});
    }
    // The TLS library wants these bytes again before any others.
    all.is_stuck = sent == NGX_AGAIN && size > 0;
    return sent;
}

// True: the client has been told, and nothing else is on its way to it.
bool send_close_frame(const ngx_http_request_t* r, LongLived& all, Status why) noexcept {
    ngx_connection_t* const c = r->connection;
    if (all.send == nullptr || !all.border.may_add_frame() || all.is_stuck || r->buffered ||
        c->buffered || !c->write->ready) {
        return false;
    }
    CloseFrame place;
    const ByteView frame = write_close_frame(kPolicyViolation, status_name(why), place);
    return all.send(c, const_cast<u_char*>(frame.data()), frame.size()) ==
           static_cast<ssize_t>(frame.size());
}

// The upstream goes at once; the client's side is shut down and read for a moment, because bytes
// that nobody reads would turn the end into a reset, and that can overtake the close frame.
void leave_politely(ngx_http_request_t* r) noexcept {
    ngx_http_upstream_t* const u = r->upstream;
    if (u->cleanup != nullptr) {
        r->main->count++;  // the cleanup drops one
        (*u->cleanup)(r);
    }
    r->keepalive = 0;
    r->lingering_close = 1;
    r->lingering_time = ngx_time() + kLingering;
    ngx_http_finalize_request(r, NGX_OK);
}

// A reset: a response whose end is the connection's end must not look whole, and what waits in the
// kernel for a client that does not read is not delivered later. No TLS goodbye either.
void reset_on_close(ngx_connection_t* c) noexcept {
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    if (setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == -1) {
        ngx_log_error(NGX_LOG_INFO, c->log, ngx_socket_errno, "setsockopt(SO_LINGER) failed");
    }
#if (NGX_HTTP_SSL)
    if (c->ssl != nullptr) {
        c->ssl->no_wait_shutdown = 1;
        c->ssl->no_send_shutdown = 1;
    }
#endif
}

// A stream's reset is only queued when it closes; somebody must send it.
void flush_soon(const ngx_http_request_t* r) noexcept {
#if (NGX_HTTP_V2)
    if (r->stream != nullptr) {
        ngx_event_t* const write = r->stream->connection->connection->write;
        ngx_post_event(write, &ngx_posted_events);
    }
#endif
}

void break_off(ngx_http_request_t* r) noexcept {
    if (r->http_version < NGX_HTTP_VERSION_20) {
        reset_on_close(r->connection);  // later versions: it is other requests' connection, too
    }
    flush_soon(r);
    // An active upstream's cleanup drops a reference, and would free what is being ended.
    r->main->count++;
    ngx_http_finalize_request(r, NGX_ERROR);
}

}  // namespace

void follow_frames(ngx_http_request_t* r, RequestCtx& ctx) noexcept {
    LongLived* const all =
        is_watched(ctx.watched) && is_websocket(r) ? long_lived(r, ctx) : nullptr;
    if (all != nullptr && all->send == nullptr) {
        all->heard = heard_of_client(r);  // the handshake is no activity
        all->send = r->connection->send;
        r->connection->send = send_and_follow;
    }
}

void stop_following(LongLived& all) noexcept {
    if (all.send != nullptr) {
        all.r->connection->send = all.send;
        all.send = nullptr;
    }
}

void cut_off(ngx_http_request_t* r, RequestCtx& ctx, Status why) noexcept {
    ngx_connection_t* const c = r->connection;
    ngx_http_set_log_request(c->log, r);
    ngx_log_error(NGX_LOG_INFO, c->log, 0, "session guard: connection cut off, %s",
                  status_name(why).data());
    ctx.cut_for = why;
    LongLived* const all = ctx.watched.more;
    if (all != nullptr && send_close_frame(r, *all, why)) {
        leave_politely(r);
    } else {
        break_off(r);
    }
    ngx_http_run_posted_requests(c);
}

}  // namespace sg::ngx
