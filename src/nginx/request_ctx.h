// What the module keeps per request. One RequestCtx serves the main request and all its
// subrequests; it lives in the request pool and is found again through the pool's cleanup list,
// because internal redirects zero the module contexts. All trivially destructible: the pool frees
// it.
#pragma once

#include "nginx/ngx.h"

#include <type_traits>

#include "core/enforce.h"
#include "nginx/conf.h"

namespace sg::ngx {

// The cookies of one realm that came with the request.
struct Presented {
    Presented* next = nullptr;
    const RealmConf* realm = nullptr;
    Candidates candidates;
};

// One entry of one request into one location: made in PREACCESS, once; see pass.h.
struct Pass : Outcome {
    Pass* older = nullptr;
    ngx_http_request_t* request = nullptr;
    LocationConf* conf = nullptr;
    ngx_http_upstream_t* upstream_before = nullptr;  // r->upstream as it was on entry
    struct Parking* parking = nullptr;               // the store was asked (tier/parking.h)
    int asked = 0;                                   // how often
    bool settled = false;                            // and what it said has been taken
    bool admitted = false;  // authorised: the request may act as this session
    bool refused = false;
};

// Set-Cookie or expiry that the main request's response owes the client, one per realm.
struct OwedCookie {
    // set_first: a login's, which may have other attributes than later ones. expire_variants: with
    // all former attributes too.
    enum class Kind : std::uint8_t { nothing, set, set_first, expire, expire_variants };

    OwedCookie* next = nullptr;
    RealmConf* realm = nullptr;
    Kind kind = Kind::nothing;
    Token token;  // to set
};

// A request that lasts, in the worker's list of those (long_lived/registry.h).
struct Watched {
    ngx_queue_t place;       // next == nullptr: in no list
    ngx_msec_t looked_at;    // when its session was seen to be good
    struct LongLived* more;  // what is known of it after a while
};

struct RequestCtx {
    Presented* presented;
    Presented first_presented;
    Pass* newest;
    ngx_http_upstream_t* read_upstream;  // whose control header has been dealt with
    OwedCookie* owed;
    Status refusal;                // of the main request, while refusal_code is not 0
    ngx_uint_t refusal_code;       // what it was answered with: HTTP status
    const Pass* rotating;          // whose token may be due for a new one (core/rotation.h)
    struct WaitingWrites* writes;  // to a store, that the main response waits for (tier/withhold.h)
    bool turned_away;              // whatever is sent, with whatever status, stands for the refusal
    bool identity_set;             // some request of this tree carries identity headers
    Status cut_for;                // why it was cut off (long_lived/); none: it was not
    Watched watched;
};

static_assert(std::is_trivially_destructible_v<RequestCtx> &&
              std::is_trivially_destructible_v<Pass> &&
              std::is_trivially_destructible_v<Presented> &&
              std::is_trivially_destructible_v<OwedCookie>);

// One allocation holds what nearly every request needs: the context, and room (not initialised) for
// its first pass and that pass's record.
struct RequestMemory {
    RequestCtx ctx;
    alignas(Pass) std::byte first_pass[sizeof(Pass)];
    std::uint8_t first_record[kTypicalRecordBytes];
};

// The context where nginx keeps it until an internal redirect; nullptr there is no answer yet.
inline RequestCtx* request_ctx_in_place(const ngx_http_request_t* r) noexcept {
    return static_cast<RequestCtx*>(r->main->ctx[ngx_http_session_guard_module.ctx_index]);
}

// Found again through the pool's cleanup list and put back in its place; nullptr: there is none.
RequestCtx* recover_request_ctx(ngx_http_request_t* r) noexcept;

// The context, or nullptr before the take-out.
inline RequestCtx* find_request_ctx(ngx_http_request_t* r) noexcept {
    RequestCtx* const ctx = request_ctx_in_place(r);
    return ctx != nullptr ? ctx : recover_request_ctx(r);
}

// A new one, registered for find_request_ctx. nullptr: out of memory.
RequestCtx* create_request_ctx(ngx_http_request_t* r) noexcept;

// As if there had been none.
void forget_request_ctx(ngx_http_request_t* r) noexcept;

// Memory for a new pass, and for its record at least kTypicalRecordBytes for each of `candidates`.
Pass* new_pass(ngx_http_request_t* r, RequestCtx& ctx) noexcept;
ByteSpan record_space(ngx_http_request_t* r, RequestCtx& ctx, const Pass& pass,
                      std::size_t size) noexcept;

// An empty list of candidates for this realm, found by find_presented from now on.
Presented* add_presented(ngx_http_request_t* r, RequestCtx& ctx, const RealmConf& realm) noexcept;

// The candidates of this realm, or nullptr when no cookie came.
const Presented* find_presented(const RequestCtx& ctx, const RealmConf& realm) noexcept;

// From here on (internal redirects), this realm's credential of the request is the new one.
ngx_int_t present_instead(ngx_http_request_t* r, RequestCtx& ctx, const RealmConf& realm,
                          const Token& token) noexcept;

// What the response owes for this realm; replaces what it owed before. NGX_ERROR: out of memory.
ngx_int_t owe_cookie(ngx_http_request_t* r, RequestCtx& ctx, RealmConf& realm,
                     OwedCookie::Kind kind, const Token& token = {}) noexcept;

// What it owes, or has owed (nothing by now), for this realm; nullptr: never anything.
const OwedCookie* find_owed(const RequestCtx& ctx, const RealmConf& realm) noexcept;

// The pass that speaks for this request now: its newest. A clone (slice, background cache update),
// which starts behind PREACCESS, inherits its parent's. nullptr: not entered any location yet.
Pass* current_pass(ngx_http_request_t* r, const RequestCtx& ctx) noexcept;

// The pass of the location that created today's r->upstream: the newest one that entered before it
// existed. An untrusted location must not borrow the policy of the one it redirects to.
Pass* upstream_owner(ngx_http_request_t* r, const RequestCtx& ctx) noexcept;

}  // namespace sg::ngx
