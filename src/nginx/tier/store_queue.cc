#include "nginx/tier/store_queue.h"

#include <new>
#include <utility>

#include "core/lifecycle.h"
#include "core/roster.h"
#include "core/second_tier.h"
#include "core/session_limit.h"
#include "nginx/clock.h"
#include "nginx/conf.h"
#include "nginx/tier/store_conf.h"
#include "nginx/tier/withhold.h"
#include "nginx/worker.h"

namespace sg::ngx {
namespace {

constexpr int kMostRounds = 4;         // of a change that others outrun
constexpr int kMostRosterRounds = 64;  // many may log in at once
// Of the event loop: enough for those who were just answered to come back.
constexpr int kRoundsOfLookUps = 8;

}  // namespace

ngx_int_t StoreQueue::start(RealmConf& realm, ngx_log_t* log) noexcept {
    realm_ = &realm;
    for (StoreLane* const lane : {&look_ups_, &writes_}) {
        std::unique_ptr<Store> store = open_store(realm, log);
        if (store == nullptr) {
            return NGX_ERROR;
        }
        StoreTimes& times = lane == &look_ups_ ? realm.shared->look_ups : realm.shared->writes;
        lane->start(*this, realm, times, std::move(store), log);
    }
    look_ups_.wait_for_more(kRoundsOfLookUps);
    if (ngx_worker == 0) {
        tidying_.start(writes_, log);
        listening_.start(look_ups_, realm, log);
        reseeding_.start(*this, realm, log);
    }
    realm.core.journal = this;
    return NGX_OK;
}

void StoreQueue::flush() noexcept {
    writes_.flush();
}

bool StoreQueue::look_up(const Token& token, Watcher* watcher) noexcept {
    const auto key = realm_->keys.store_key(token);
    if (!key) {
        return false;
    }
    if (StoreTask* const task = look_ups_.find_waiting(*key)) {
        if (watcher != nullptr) {
            task->add(*watcher);
        }
        return true;
    }
    std::unique_ptr<StoreTask> task = look_ups_.new_look_up();
    if (task == nullptr) {
        return false;
    }
    task->op.verb = StoreVerb::get;
    task->op.key = *key;
    task->op.key_id = token.key_id;
    task->op.handle = token.handle;
    if (watcher != nullptr) {
        task->add(*watcher);
    }
    return look_ups_.add(std::move(task));
}

void StoreQueue::write(const Token& token, StoreVerb verb, const StoreEntry& entry) noexcept {
    const auto key = realm_->keys.store_key(token);
    std::unique_ptr<StoreTask> task(new (std::nothrow) StoreTask);
    if (!key || task == nullptr || !task->op.bytes.assign(entry.record)) {
        return;
    }
    StoreOp& op = task->op;
    op.verb = verb;
    op.key = *key;
    op.key_id = token.key_id;
    op.handle = token.handle;
    op.entry = entry;
    op.entry.record = op.bytes.view();
    attend(*task);
    (void)writes_.add(std::move(task));
}

// Who waits for this write, and what it was made for.
void StoreQueue::attend(StoreTask& task) noexcept {
    const StoreOp& op = task.op;
    if (op.verb == StoreVerb::touch) {
        return;
    }
    if (followed_ != nullptr) {
        task.take_watchers(*followed_);
        std::swap(task.command, followed_->command);
        task.rounds = followed_->rounds + 1;
        followed_ = nullptr;
        return;
    }
    if (Watcher* const watcher = WriteScope::new_watcher()) {
        task.add(*watcher);
    }
    if (op.verb == StoreVerb::change && op.entry.superseded_until == 0) {
        (void)task.command.assign(as_bytes(WriteScope::command()));  // without it: not made again
    }
}

bool StoreQueue::heard(StoreTask& task) noexcept {
    const StoreOp& op = task.op;
    const bool is_put = op.verb == StoreVerb::create || op.verb == StoreVerb::change;
    if (op.verb == StoreVerb::end && op.answer == StoreAnswer::found && op.successor) {
        // Another node has replaced the handle that was ended here: that is what was meant.
        followed_ = &task;
        end_successor(realm_->core, *op.successor, op.entry.why, now_ms());
        return std::exchange(followed_, nullptr) == nullptr;
    }
    if (!is_put || op.answer != StoreAnswer::found) {
        return false;
    }
    if (!op.lost) {
        note_held(realm_->core, op.entry);
        return is_roster(op.entry.record) && follow_roster(task);
    }
    if (op.entry.superseded_until != 0 && op.seen.kind == EntryKind::ended) {
        // Ended there before it was replaced here: the new handle goes, too.
        end_successor(realm_->core, op.entry.successor, op.seen.why, now_ms());
    }
    // Another node has changed or ended the session: this one follows.
    const Lesson lesson = learn(realm_->core, op.entry.token,
                                {.answer = StoreAnswer::found, .entry = op.seen, .sent = op.sent},
                                now_ms(), worker_scratch());
    if (is_roster(op.entry.record)) {
        return follow_roster(task);
    }
    // (What this node has made of the session later is there already, and has this change in it:
    // made again, an old change that was tried again would undo a newer one.)
    const bool is_own = op.seen.version.node == realm_->core.node;
    return lesson.learned == Learned::known && !is_own && make_again(task);
}

// The limit of a user's sessions is judged when the store has said in which order they came.
bool StoreQueue::follow_roster(StoreTask& task) noexcept {
    if (task.rounds >= kMostRosterRounds) {
        return false;
    }
    const StoreOp& op = task.op;
    followed_ = &task;
    if (!op.lost && is_behind(realm_->core, op.entry.record, now_ms(), worker_scratch())) {
        learn(realm_->core, op.entry.token,
              {.answer = StoreAnswer::found, .entry = op.entry, .sent = op.sent}, now_ms(),
              worker_scratch());
    }
    auto* const judge = op.lost ? roster_lost : roster_kept;
    for (std::size_t ended = judge(realm_->core, op.entry.record, now_ms(), worker_scratch());
         ended > 0; --ended) {
        count_event(*realm_, Event::over_limit, now_ms());
    }
    return std::exchange(followed_, nullptr) == nullptr;
}

// The operation is applied to what the session has become.
bool StoreQueue::make_again(StoreTask& outrun) noexcept {
    const std::string_view text = as_text(outrun.command.view());
    BytesBox scratch;
    if (text.empty() || outrun.rounds >= kMostRounds ||
        !scratch.resize(control_scratch_size(text))) {
        return false;
    }
    ControlError error;
    const auto command = parse_control(text, realm_->max_data, scratch.span(), error);
    if (!command) {
        return false;
    }
    count_event(*realm_, Event::store_change_again, now_ms());
    followed_ = &outrun;
    change_again(realm_->core, worker_random(), outrun.op.entry.token.handle, *command,
                 realm_->max_data, now_ms(), worker_scratch());
    return std::exchange(followed_, nullptr) == nullptr;
}

void StoreQueue::touch(const Token& token, TimeMs last_seen, TimeMs expires) noexcept {
    StoreEntry entry;
    entry.kind = EntryKind::activity;
    entry.last_seen = last_seen;
    entry.expires = expires;
    write(token, StoreVerb::touch, entry);
}

void StoreQueue::opened(const SessionView& view, ByteView record) noexcept {
    if (const auto entry = session_entry(realm_->core, view, record)) {
        write(view.token, StoreVerb::create, *entry);
    }
}

void StoreQueue::saved(const SessionView& view, ByteView record) noexcept {
    if (const auto entry = session_entry(realm_->core, view, record)) {
        write(view.token, StoreVerb::change, *entry);
    }
}

void StoreQueue::ended(const Token& token, Departure why, TimeMs until) noexcept {
    write(token, StoreVerb::end, ended_entry(why, until));
}

}  // namespace sg::ngx
