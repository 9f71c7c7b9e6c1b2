#include "nginx/tier/parking.h"

#include <new>

#include "nginx/clock.h"
#include "nginx/tier/store_conf.h"
#include "nginx/tier/store_queue.h"
#include "nginx/worker.h"

namespace sg::ngx {

struct Parking {
    ngx_http_request_t* r = nullptr;
    Pass* pass = nullptr;
    Watcher watcher;
    ngx_event_t timer{};
    Token token;               // what is asked about
    std::size_t next_key = 0;  // of a successor: the key to look under when it is not there
    bool is_successor = false;
    Lesson lesson;
    bool waiting = false;
    bool looks_again = false;
};

namespace {

StoreConf& store_of(const Parking& parking) noexcept {
    return *parking.pass->conf->realm->store;
}

void stop_waiting(Parking& parking) noexcept {
    detach(parking.watcher);
    if (parking.looks_again && store_of(parking).queue != nullptr) {
        store_of(parking).queue->second_looks().end();
        parking.looks_again = false;
    }
    if (parking.timer.timer_set) {
        ngx_del_timer(&parking.timer);
    }
    parking.waiting = false;
}

void cleanup(void* data) noexcept {
    stop_waiting(*static_cast<Parking*>(data));
}

// Runs the request's phases from where it waits. The request may be gone afterwards.
void wake(Parking& parking) noexcept {
    ngx_http_request_t* const r = parking.r;
    ngx_connection_t* const c = r->connection;
    stop_waiting(parking);
    ngx_http_set_log_request(c->log, r);
    if (r == r->main) {
        r->read_event_handler = ngx_http_block_reading;
    }
    ngx_http_core_run_phases(r);
    ngx_http_run_posted_requests(c);
}

// The zone is full: the record goes with the request.
bool decide_from_entry(Parking& parking, const StoreEntry& entry) noexcept {
    auto* const record =
        static_cast<std::uint8_t*>(ngx_pnalloc(parking.r->pool, entry.record.size() + 1));
    if (record == nullptr) {
        return false;
    }
    std::copy(entry.record.begin(), entry.record.end(), record);
    static_cast<Outcome&>(*parking.pass) = resume(parking.pass->conf->realm->core, parking.token,
                                                  entry, {record, entry.record.size()}, now_ms());
    return true;
}

void time_is_up(ngx_event_t* event) noexcept {
    wake(*static_cast<Parking*>(event->data));
}

void set_timer(Parking& parking, void (*handler)(ngx_event_t*), TimeMs delay) noexcept {
    if (parking.timer.timer_set) {
        ngx_del_timer(&parking.timer);
    }
    parking.timer.handler = handler;
    ngx_add_timer(&parking.timer, static_cast<ngx_msec_t>(delay));
}

bool ask(Parking& parking) noexcept {
    StoreConf& store = store_of(parking);
    if (store.queue == nullptr || !store.queue->ask(parking.token, parking.watcher)) {
        return false;
    }
    parking.waiting = true;
    set_timer(parking, time_is_up, store.patience);
    return true;
}

// Another node made the successor, perhaps with a key that mints there already, or still.
void name_successor(Parking& parking) noexcept {
    parking.token.key_id = parking.pass->conf->realm->keys.id(parking.next_key++);
}

bool asks_under_next_key(Parking& parking) noexcept {
    const bool is_absent = parking.is_successor && parking.lesson.learned == Learned::gone &&
                           parking.lesson.status == Status::absent;
    if (!is_absent || parking.next_key >= parking.pass->conf->realm->keys.count()) {
        return false;
    }
    const Lesson first = parking.lesson;
    parking.lesson = Lesson{};
    name_successor(parking);
    if (!ask(parking)) {
        parking.lesson = first;
        return false;
    }
    return true;
}

void look_again(ngx_event_t* event) noexcept {
    Parking& parking = *static_cast<Parking*>(event->data);
    const Lesson first = parking.lesson;
    parking.lesson = Lesson{};  // what counts is the second answer
    if (!ask(parking)) {
        parking.lesson = first;
        wake(parking);
    }
}

// The node that made the session may still be writing it.
bool waits_for_second_look(Parking& parking, StoreAnswer answer) noexcept {
    const bool is_absent = answer == StoreAnswer::absent && !parking.is_successor &&
                           parking.lesson.learned == Learned::gone &&
                           parking.lesson.status == Status::absent;
    if (!is_absent || parking.looks_again ||
        !store_of(parking).queue->second_looks().begin(parking.token.handle, now_ms())) {
        return false;
    }
    parking.looks_again = true;
    set_timer(parking, look_again, SecondLooks::kPause);
    return true;
}

void answered(Watcher& watcher, const StoreOp& op) noexcept {
    Parking& parking = *static_cast<Parking*>(watcher.data);
    const Realm& realm = parking.pass->conf->realm->core;
    parking.lesson =
        learn(realm, parking.token, {.answer = op.answer, .entry = op.seen, .sent = op.sent},
              now_ms(), worker_scratch());
    if (waits_for_second_look(parking, op.answer) || asks_under_next_key(parking)) {
        return;
    }
    if (parking.lesson.learned == Learned::no_room && !decide_from_entry(parking, op.seen)) {
        parking.lesson = Lesson{};
    }
    wake(parking);
}

Parking* new_parking(ngx_http_request_t* r, Pass& pass) noexcept {
    ngx_pool_cleanup_t* const owner = ngx_pool_cleanup_add(r->pool, sizeof(Parking));
    if (owner == nullptr) {
        return nullptr;
    }
    auto* const parking = new (owner->data) Parking;
    owner->handler = cleanup;
    parking->r = r;
    parking->pass = &pass;
    parking->watcher.answered = answered;
    parking->watcher.data = parking;
    parking->timer.data = parking;
    parking->timer.log = r->connection->log;
    return parking;
}

}  // namespace

ngx_int_t park(ngx_http_request_t* r, Pass& pass) noexcept {
    Parking* const parking = new_parking(r, pass);
    if (parking == nullptr) {
        return NGX_ERROR;
    }
    pass.parking = parking;
    parking->token = pass.token;
    if (pass.step == Outcome::Step::needs_successor) {
        parking->is_successor = true;
        parking->token.handle = pass.session.slot.successor;
        name_successor(*parking);
    }
    if (!ask(*parking)) {
        return NGX_DECLINED;
    }
    if (r == r->main) {
        // A client that gives up is noticed, and takes the request with it.
        r->read_event_handler = ngx_http_test_reading;
        ngx_event_t* const read = r->connection->read;
        if (read->ready) {
            ngx_post_event(read, &ngx_posted_events);
        } else if (ngx_handle_read_event(read, 0) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    return NGX_AGAIN;
}

Pass* parked_pass(ngx_http_request_t* r, const RequestCtx& ctx) noexcept {
    Pass* const pass = ctx.newest != nullptr ? current_pass(r, ctx) : nullptr;
    return pass != nullptr && pass->request == r && pass->parking != nullptr && !pass->settled
               ? pass
               : nullptr;
}

bool is_waiting(const Pass& pass) noexcept {
    return pass.parking->waiting;
}

Lesson take_lesson(Pass& pass) noexcept {
    pass.settled = true;
    return pass.parking->lesson;
}

bool within_grace(const Pass& pass, TimeMs now) noexcept {
    const TimeMs confirmed = pass.session.slot.confirmed;
    return age(confirmed, now) <= pass.conf->realm->core.revalidate + pass.conf->grace;
}

}  // namespace sg::ngx
