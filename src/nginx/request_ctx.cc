#include "nginx/request_ctx.h"

#include <new>

#include "nginx/long_lived/registry.h"
#include "nginx/str.h"

namespace sg::ngx {
namespace {

// Marks our entry in the pool's cleanup list.
void request_ctx_marker(void* data) noexcept {
    stop_watching(static_cast<RequestCtx*>(data)->watched);
}

// A subrequest without a pass of its own is a clone when it already is behind our PREACCESS
// handler.
bool is_clone(const ngx_http_request_t* r) noexcept {
    const auto* const conf = static_cast<const MainConf*>(
        ngx_http_get_module_main_conf(r, ngx_http_session_guard_module));
    return r->parent != nullptr &&
           static_cast<ngx_uint_t>(r->phase_handler) > conf->preaccess_index;
}

Pass* newest_pass_of(const ngx_http_request_t* r, const RequestCtx& ctx) noexcept {
    for (Pass* pass = ctx.newest; pass != nullptr; pass = pass->older) {
        if (pass->request == r) {
            return pass;
        }
    }
    return nullptr;
}

}  // namespace

RequestCtx* recover_request_ctx(ngx_http_request_t* r) noexcept {
    for (const ngx_pool_cleanup_t* each = r->pool->cleanup; each != nullptr; each = each->next) {
        if (each->handler == request_ctx_marker) {
            auto* const ctx = static_cast<RequestCtx*>(each->data);
            ngx_http_set_ctx(r->main, ctx, ngx_http_session_guard_module);
            return ctx;
        }
    }
    return nullptr;
}

RequestCtx* create_request_ctx(ngx_http_request_t* r) noexcept {
    ngx_pool_cleanup_t* const cleanup = ngx_pool_cleanup_add(r->pool, sizeof(RequestMemory));
    if (cleanup == nullptr) {
        return nullptr;
    }
    auto* const ctx = new (cleanup->data) RequestCtx{};
    cleanup->handler = request_ctx_marker;
    ngx_http_set_ctx(r->main, ctx, ngx_http_session_guard_module);
    return ctx;
}

void forget_request_ctx(ngx_http_request_t* r) noexcept {
    for (ngx_pool_cleanup_t* each = r->pool->cleanup; each != nullptr; each = each->next) {
        if (each->handler == request_ctx_marker) {
            request_ctx_marker(each->data);
            each->handler = nullptr;
        }
    }
    ngx_http_set_ctx(r->main, nullptr, ngx_http_session_guard_module);
}

namespace {

// The context is the first member of its RequestMemory (standard layout).
RequestMemory& memory_of(RequestCtx& ctx) noexcept {
    return reinterpret_cast<RequestMemory&>(ctx);
}

}  // namespace

Pass* new_pass(ngx_http_request_t* r, RequestCtx& ctx) noexcept {
    void* const place =
        ctx.newest == nullptr ? memory_of(ctx).first_pass : ngx_palloc(r->pool, sizeof(Pass));
    return place != nullptr ? new (place) Pass : nullptr;
}

ByteSpan record_space(ngx_http_request_t* r, RequestCtx& ctx, const Pass& pass,
                      std::size_t size) noexcept {
    const bool first = pass.older == nullptr && size <= kTypicalRecordBytes;
    auto* const bytes = first ? memory_of(ctx).first_record
                              : static_cast<std::uint8_t*>(ngx_pnalloc(r->pool, size));
    return bytes != nullptr ? ByteSpan(bytes, size) : ByteSpan();
}

Presented* add_presented(ngx_http_request_t* r, RequestCtx& ctx, const RealmConf& realm) noexcept {
    Presented* presented = &ctx.first_presented;
    if (ctx.presented != nullptr) {
        void* const place = ngx_palloc(r->pool, sizeof(Presented));
        if (place == nullptr) {
            return nullptr;
        }
        presented = new (place) Presented{};
    }
    presented->next = ctx.presented;
    presented->realm = &realm;
    ctx.presented = presented;
    return presented;
}

const Presented* find_presented(const RequestCtx& ctx, const RealmConf& realm) noexcept {
    const Presented* presented = ctx.presented;
    while (presented != nullptr && presented->realm != &realm) {
        presented = presented->next;
    }
    return presented;
}

ngx_int_t present_instead(ngx_http_request_t* r, RequestCtx& ctx, const RealmConf& realm,
                          const Token& token) noexcept {
    const std::span<char> text = characters(r->pool, kTokenChars);
    auto* presented = const_cast<Presented*>(find_presented(ctx, realm));
    if (presented == nullptr) {
        presented = add_presented(r, ctx, realm);
    }
    if (presented == nullptr || text.empty()) {
        return NGX_ERROR;
    }
    format_token(token, text.first<kTokenChars>());
    presented->candidates = Candidates{};
    presented->candidates.values[0] = {text.data(), text.size()};
    presented->candidates.count = 1;
    return NGX_OK;
}

namespace {

// What this realm owes already, or a new entry; nullptr: out of memory.
OwedCookie* owed_by(ngx_http_request_t* r, RequestCtx& ctx, RealmConf& realm) noexcept {
    if (const OwedCookie* const owed = find_owed(ctx, realm)) {
        return const_cast<OwedCookie*>(owed);
    }
    void* const place = ngx_palloc(r->pool, sizeof(OwedCookie));
    if (place == nullptr) {
        return nullptr;
    }
    auto* const owed = new (place) OwedCookie{};
    owed->next = ctx.owed;
    owed->realm = &realm;
    ctx.owed = owed;
    return owed;
}

}  // namespace

const OwedCookie* find_owed(const RequestCtx& ctx, const RealmConf& realm) noexcept {
    const OwedCookie* owed = ctx.owed;
    while (owed != nullptr && owed->realm != &realm) {
        owed = owed->next;
    }
    return owed;
}

ngx_int_t owe_cookie(ngx_http_request_t* r, RequestCtx& ctx, RealmConf& realm,
                     OwedCookie::Kind kind, const Token& token) noexcept {
    OwedCookie* const owed = owed_by(r, ctx, realm);
    if (owed == nullptr) {
        return NGX_ERROR;
    }
    owed->kind = kind;
    owed->token = token;
    return NGX_OK;
}

Pass* current_pass(ngx_http_request_t* r, const RequestCtx& ctx) noexcept {
    for (; r != nullptr; r = r->parent) {
        if (Pass* const pass = newest_pass_of(r, ctx)) {
            return pass;
        }
        if (!is_clone(r)) {
            break;
        }
    }
    return nullptr;
}

Pass* upstream_owner(ngx_http_request_t* r, const RequestCtx& ctx) noexcept {
    if (newest_pass_of(r, ctx) == nullptr) {
        return r->upstream != nullptr ? current_pass(r, ctx) : nullptr;
    }
    for (Pass* pass = ctx.newest; pass != nullptr; pass = pass->older) {
        if (pass->request == r && pass->upstream_before != r->upstream) {
            return pass;
        }
    }
    return nullptr;
}

}  // namespace sg::ngx
