#include "nginx/long_lived/long_lived.h"

#include <new>

#include "nginx/long_lived/goodbye.h"
#include "nginx/long_lived/question.h"

namespace sg::ngx {
namespace {

// Each worker counts in a place of its own: one that is killed takes its number along, since its
// successor comes into the same place.
std::atomic<std::uint32_t>& own_count(const RealmConf& realm) noexcept {
    auto& counts = realm.shared->long_lived;
    return counts[static_cast<std::size_t>(ngx_process_slot) % counts.size()];
}

void cleanup(void* data) noexcept {
    LongLived& all = *static_cast<LongLived*>(data);
    stop_asking(all);
    stop_following(all);
    if (all.counted != nullptr) {
        own_count(*all.counted).fetch_sub(1, std::memory_order_relaxed);
    }
}

RealmConf* first_realm(const RequestCtx& ctx) noexcept {
    for (const Pass* pass = ctx.newest; pass != nullptr; pass = pass->older) {
        if (pass->conf->realm != nullptr) {
            return pass->conf->realm;
        }
    }
    return nullptr;
}

}  // namespace

LongLived* long_lived(ngx_http_request_t* r, RequestCtx& ctx) noexcept {
    if (ctx.watched.more != nullptr) {
        return ctx.watched.more;
    }
    ngx_pool_cleanup_t* const owner = ngx_pool_cleanup_add(r->pool, sizeof(LongLived));
    if (owner == nullptr) {
        return nullptr;
    }
    auto* const all = new (owner->data) LongLived;
    all->ctx = &ctx;
    all->r = r->main;
    all->heard = heard_of_client(r->main);
    all->counted = first_realm(ctx);
    if (all->counted != nullptr) {
        own_count(*all->counted).fetch_add(1, std::memory_order_relaxed);
    }
    owner->handler = cleanup;
    ctx.watched.more = all;
    return all;
}

off_t heard_of_client(const ngx_http_request_t* r) noexcept {
    const ngx_http_upstream_t* const u = r->upstream;
    const bool upgraded = u != nullptr && u->upgrade && u->peer.connection != nullptr;
    return r->request_length + (upgraded ? u->peer.connection->sent : 0);
}

std::uint64_t count_long_lived(const RealmConf& realm) noexcept {
    std::uint64_t sum = 0;
    for (const auto& count : realm.shared->long_lived) {
        sum += count.load(std::memory_order_relaxed);
    }
    return sum;
}

void forget_predecessor(const RealmConf& realm) noexcept {
    own_count(realm).store(0, std::memory_order_relaxed);
}

}  // namespace sg::ngx
