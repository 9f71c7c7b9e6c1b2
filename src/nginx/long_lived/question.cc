#include "nginx/long_lived/question.h"

#include "nginx/tier/store_conf.h"
#include "nginx/tier/store_queue.h"

namespace sg::ngx {
namespace {

// When all copies have become doubtful at once, ten thousand connections must not stand before the
// requests that wait for an answer.
constexpr std::size_t kMostAtOnce = 128;
constinit std::size_t at_once = 0;

StoreConf* store_of(const Pass& pass) noexcept {
    return pass.conf->realm->store;
}

bool send(LongLived& all) noexcept {
    if (!store_of(*all.pass)->queue->ask(all.token, all.watcher)) {
        return false;
    }
    all.asked_at = ngx_current_msec;
    all.asks = true;
    ++at_once;
    return true;
}

}  // namespace

Question ask_store(LongLived& all, const Pass& pass, const Outcome& outcome,
                   void (*answered)(Watcher& watcher, const StoreOp& op) noexcept) noexcept {
    StoreConf* const store = store_of(pass);
    if (store == nullptr || store->queue == nullptr) {
        return Question::nobody;
    }
    if (at_once == kMostAtOnce) {
        return Question::later;
    }
    all.pass = &pass;
    all.token = outcome.token;
    all.is_successor = outcome.step == Outcome::Step::needs_successor;
    if (all.is_successor) {
        all.next_key = 1;
        all.token.key_id = pass.conf->realm->keys.id(0);
        all.token.handle = outcome.session.slot.successor;
    }
    all.watcher.answered = answered;
    all.watcher.data = &all;
    return send(all) ? Question::waits : Question::nobody;
}

bool ask_under_next_key(LongLived& all) noexcept {
    const KeyRing& keys = all.pass->conf->realm->keys;
    if (!all.is_successor || all.next_key >= keys.count()) {
        return false;
    }
    all.token.key_id = keys.id(all.next_key++);
    return send(all);
}

bool is_waiting(const LongLived& all) noexcept {
    return all.asks;
}

bool is_overdue(const LongLived& all) noexcept {
    return all.asks &&
           ngx_current_msec - all.asked_at > static_cast<ngx_msec_t>(store_of(*all.pass)->patience);
}

void stop_asking(LongLived& all) noexcept {
    if (all.asks) {
        detach(all.watcher);
        all.asks = false;
        --at_once;
    }
}

}  // namespace sg::ngx
