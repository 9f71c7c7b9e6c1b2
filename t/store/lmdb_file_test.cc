// The file beneath the LMDB store: what the master makes of what it finds, and what is left after a
// killed writer, a stopped one, a full disk, a full map and two processes at once.
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "store/lmdb_env.h"
#include "store/lmdb_layout.h"
#include "store/lmdb_pages.h"
#include "store/lmdb_store.h"
#include "store/lmdb_txn.h"

// After every other header: it defines macros with names of the standard library (fail).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

using namespace sg;

namespace {

constexpr TimeMs kNow = 1'800'000'000'000;
constexpr TimeMs kLater = kNow + kHour;
constexpr TimeMs kBudget = 10 * kSecond;
constexpr std::size_t kBatch = 8;

// ---- a folder of its own for each test, a store in it

std::string folder;
StoreHealth health;

std::string data_path() {
    return folder + "/sessions.mdb";
}
std::string lock_path() {
    return data_path() + "-lock";
}

int set_up(void** /*state*/) {
    char name[] = "/tmp/sg-lmdb-XXXXXX";
    if (mkdtemp(name) == nullptr) {
        return -1;
    }
    folder = name;
    for (auto& fault : health.faults) {
        fault = 0;
    }
    health.breakers[0].succeeded();
    return 0;
}

int tear_down(void** /*state*/) {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
    return 0;
}

SealKeys seal_keys() {
    SealKeys keys;
    keys.count = 1;
    keys.keys[0].id = 7;
    keys.keys[0].master.fill(0x5a);
    return keys;
}

std::string prepare(std::size_t map_size = std::size_t{1} << 30, TimeMs budget = kBudget) {
    const std::string path = data_path();
    return prepare_lmdb({.path = path, .map_size = map_size}, geteuid(), getegid(), budget);
}

void assert_good(const std::string& error) {
    if (!error.empty()) {
        fail_msg("%s", error.c_str());
    }
}

void assert_refused(const std::string& error, const char* because) {
    if (error.find(because) == std::string::npos) {
        fail_msg("refused because \"%s\", wanted: %s", error.c_str(), because);
    }
}

std::unique_ptr<Store> try_open(std::string& error, std::size_t map_size = std::size_t{1} << 30) {
    const std::string path = data_path();
    return make_lmdb_store({.path = path, .map_size = map_size}, seal_keys(), health, error);
}

std::unique_ptr<Store> open_store(std::size_t map_size = std::size_t{1} << 30) {
    std::string error;
    auto store = try_open(error, map_size);
    assert_good(error);
    return store;
}

std::uint64_t faults(StoreFault fault) {
    return health.faults[static_cast<std::size_t>(fault)].load();
}

// ---- operations

std::uint64_t mix(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

StoreKey key_of(std::uint64_t n) {
    StoreKey key;
    store_le(key.data(), mix(n));
    store_le(key.data() + 8, mix(~n));
    return key;
}

StoreOp operation(StoreVerb verb, std::uint64_t n) {
    StoreOp op;
    op.verb = verb;
    op.key_id = 7;
    op.key = key_of(n);
    return op;
}

StoreOp create(std::uint64_t n, std::size_t record_bytes = 100, TimeMs expires = kLater) {
    StoreOp op = operation(StoreVerb::create, n);
    op.bytes.resize(record_bytes);
    std::memset(op.bytes.span().data(), static_cast<int>(n & 0xff), record_bytes);
    op.entry.version = {.counter = 1, .node = 1};
    op.entry.expires = expires;
    op.entry.last_seen = kNow;
    op.entry.record = op.bytes.view();
    store_le(op.entry.token.handle.data(), n);
    return op;
}

StoreOp change(std::uint64_t n, std::uint32_t counter, std::uint64_t node) {
    StoreOp op = create(n);
    op.verb = StoreVerb::change;
    op.entry.version = {.counter = counter, .node = node};
    return op;
}

StoreOp end(std::uint64_t n, TimeMs expires = kLater) {
    StoreOp op = operation(StoreVerb::end, n);
    op.entry.kind = EntryKind::ended;
    op.entry.expires = expires;
    return op;
}

StoreOp touch(std::uint64_t n, TimeMs last_seen) {
    StoreOp op = operation(StoreVerb::touch, n);
    op.entry.kind = EntryKind::activity;
    op.entry.expires = kLater;
    op.entry.last_seen = last_seen;
    return op;
}

StoreAnswer run_one(Store& store, StoreOp op, TimeMs now = kNow) {
    store.run({&op, 1}, now);
    return op.answer;
}

StoreAnswer look(Store& store, std::uint64_t n, TimeMs now = kNow) {
    return run_one(store, operation(StoreVerb::get, n), now);
}

EntryKind kind_of(Store& store, std::uint64_t n) {
    StoreOp op = operation(StoreVerb::get, n);
    store.run({&op, 1}, kNow);
    assert_int_equal(op.answer, StoreAnswer::found);
    return op.seen.kind;
}

// Creates the sessions first ... first + count - 1 in batches; how many were acknowledged.
std::size_t create_many(Store& store, std::uint64_t first, std::size_t count,
                        std::size_t record_bytes = 100, TimeMs expires = kLater) {
    std::size_t acknowledged = 0;
    for (std::size_t done = 0; done < count; done += kBatch) {
        std::vector<StoreOp> batch;
        for (std::size_t i = done; i < std::min(done + kBatch, count); ++i) {
            batch.push_back(create(first + i, record_bytes, expires));
        }
        store.run(batch, kNow);
        for (const StoreOp& op : batch) {
            acknowledged += op.answer == StoreAnswer::found ? 1 : 0;
        }
    }
    return acknowledged;
}

// ---- bytes of files

std::string read_file(const std::string& path) {
    std::string bytes;
    const Fd fd(open(path.c_str(), O_RDONLY));
    char part[65536];
    for (ssize_t n = 0; (n = read(fd.get(), part, sizeof part)) > 0;) {
        bytes.append(part, static_cast<std::size_t>(n));
    }
    return bytes;
}

void write_file(const std::string& path, std::string_view bytes) {
    const Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600));
    assert_true(fd.get() >= 0);
    assert_int_equal(write(fd.get(), bytes.data(), bytes.size()), bytes.size());
}

void overwrite(const std::string& path, std::size_t at, std::string_view bytes) {
    const Fd fd(open(path.c_str(), O_WRONLY));
    assert_int_equal(pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(at)),
                     bytes.size());
}

void assert_refused_untouched(const char* because) {
    const std::string before = read_file(data_path());
    assert_refused(prepare(), because);
    assert_true(read_file(data_path()) == before);
}

// A good file with `count` sessions in it, closed.
void make_file(std::size_t count) {
    assert_good(prepare());
    auto store = open_store();
    assert_int_equal(create_many(*store, 0, count), count);
}

// ---- children

template <class Body>
pid_t start(Body body) {
    const pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);  // a failing test leaves none behind
        body();
        _exit(0);
    }
    return child;
}

void assert_ended_well(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

// ================================================================ what the master makes

// Files that the workers cannot write, or that others can read.
void creates_both_files_for_the_owner_only(void** /*state*/) {
    assert_good(prepare());
    for (const auto& path : {data_path(), lock_path()}) {
        struct stat info;
        assert_int_equal(lstat(path.c_str(), &info), 0);
        assert_int_equal(info.st_mode & 07777, 0600);
        assert_int_equal(info.st_uid, geteuid());
    }
    assert_int_equal(look(*open_store(), 1), StoreAnswer::absent);
}

// As root for others: LMDB, run as root, would leave root's lock file to the workers.
void creates_the_files_for_the_workers(void** /*state*/) {
    if (geteuid() != 0) {
        return;  // only root gives files away; the test above covers the rest
    }
    const std::string path = folder + "/sub/sessions.mdb";
    assert_int_equal(chmod(folder.c_str(), 0755), 0);
    for (int round = 0; round < 2; ++round) {
        assert_good(prepare_lmdb({.path = path}, 65534, 65534, kBudget));
        for (const auto& name : {folder + "/sub", path, path + "-lock"}) {
            struct stat info;
            assert_int_equal(lstat(name.c_str(), &info), 0);
            assert_int_equal(info.st_uid, 65534);
            assert_int_equal(info.st_mode & 077, 0);
        }
    }
}

// The workers could not open what only root can reach; the master must notice, not they.
void refuses_a_folder_the_workers_cannot_enter(void** /*state*/) {
    if (geteuid() != 0) {
        return;
    }
    const std::string path = data_path();  // in a folder of root's with mode 0700
    assert_refused(prepare_lmdb({.path = path}, 65534, 65534, kBudget), "Permission denied");
    assert_int_equal(access(path.c_str(), F_OK), -1);  // and leaves nothing half made
}

// A second start, a reload: looking at a good file must not change it.
void preparing_again_changes_nothing(void** /*state*/) {
    make_file(100);
    const std::string before = read_file(data_path());
    assert_good(prepare());
    assert_true(read_file(data_path()) == before);
    assert_int_equal(look(*open_store(), 57), StoreAnswer::found);
}

// A crash of the master between creating the file and laying it out.
void an_empty_file_is_a_new_one(void** /*state*/) {
    write_file(data_path(), "");
    assert_good(prepare());
    auto store = open_store();
    assert_int_equal(run_one(*store, create(1)), StoreAnswer::found);
}

// ================================================================ what the master refuses

void refuses_a_text_file(void** /*state*/) {
    write_file(data_path(), "worker_processes 2;\n");
    assert_refused_untouched("is not an LMDB file");
}

void refuses_garbage(void** /*state*/) {
    std::string garbage(100'000, '\0');
    for (std::size_t i = 0; i < garbage.size(); ++i) {
        garbage[i] = static_cast<char>(mix(i));
    }
    write_file(data_path(), garbage);
    assert_refused_untouched("is not an LMDB file");
}

// Somebody else's database at the configured path: sessions must not be written into it.
void refuses_a_foreign_database(void** /*state*/) {
    for (const int records : {0, 1, 5000}) {
        std::filesystem::remove(data_path());
        MDB_env* env = nullptr;
        MDB_txn* txn = nullptr;
        MDB_dbi db = 0;
        mdb_env_create(&env);
        assert_int_equal(mdb_env_open(env, data_path().c_str(), MDB_NOSUBDIR, 0600), 0);
        assert_int_equal(mdb_txn_begin(env, nullptr, 0, &txn), 0);
        assert_int_equal(mdb_dbi_open(txn, nullptr, 0, &db), 0);
        for (int i = 0; i <= records; ++i) {
            MDB_val key{.mv_size = sizeof i, .mv_data = &i};
            assert_int_equal(mdb_put(txn, db, &key, &key, 0), 0);
        }
        assert_int_equal(mdb_txn_commit(txn), 0);
        mdb_env_close(env);
        assert_refused_untouched("is an LMDB file of something else");
    }
}

void set_layout(std::uint32_t layout) {
    MDB_env* env = nullptr;
    MDB_txn* txn = nullptr;
    MDB_dbi db = 0;
    char name[] = "session_guard";
    std::uint8_t mark[8] = {};
    store_le(mark, layout);
    MDB_val key{.mv_size = sizeof name - 1, .mv_data = name};
    MDB_val value{.mv_size = sizeof mark, .mv_data = mark};
    mdb_env_create(&env);
    assert_int_equal(mdb_env_open(env, data_path().c_str(), MDB_NOSUBDIR, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, nullptr, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, nullptr, 0, &db), 0);
    assert_int_equal(mdb_put(txn, db, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

// After a downgrade: an older module would misread what a newer one wrote.
void refuses_a_newer_layout(void** /*state*/) {
    make_file(10);
    set_layout(kLmdbLayout + 1);
    assert_refused_untouched("of a newer module");
    std::string error;
    assert_null(try_open(error).get());
}

// LMDB maps the file: a page beyond its end would kill a worker with SIGBUS.
void refuses_a_truncated_file(void** /*state*/) {
    make_file(2000);
    const std::string whole = read_file(data_path());
    for (const std::size_t size : {whole.size() - 4096, whole.size() / 2, std::size_t{3 * 4096},
                                   std::size_t{2 * 4096}, std::size_t{5000}, std::size_t{100}}) {
        write_file(data_path(), whole.substr(0, size));
        const std::string before = read_file(data_path());
        const std::string error = prepare();
        assert_true(!error.empty());
        assert_true(read_file(data_path()) == before);
        // Even when there is no time for a walk.
        assert_true(!prepare(std::size_t{1} << 30, 0).empty());
    }
}

// Bit rot, a bad sector, a stray write: LMDB trusts its pages and would crash.
void refuses_a_damaged_page_wherever_it_is(void** /*state*/) {
    make_file(2000);
    const std::string whole = read_file(data_path());
    for (std::size_t page = 2; page < whole.size() / 4096; ++page) {
        const std::size_t at = page * 4096;
        overwrite(data_path(), at, std::string(64, '\x5a'));
        const std::string error = prepare();
        overwrite(data_path(), at, whole.substr(at, 64));
        if (error.empty()) {
            // A free page may hold anything: then no tree leads to it.
            continue;
        }
        assert_refused(error, "is damaged");
    }
    assert_good(prepare());
}

// The header that counts, and the leaf that a tree of one leaf is; both in the file's own bytes.
struct Leaf {
    std::string page;
    std::size_t at = 0;
    LmdbNode node;
};

LmdbHeader newest_header() {
    LmdbHeader older;
    LmdbHeader newest;
    const Fd fd(open(data_path().c_str(), O_RDONLY));
    assert_true(read_lmdb_headers(fd.get(), older, newest).empty());
    return newest;
}

Leaf first_node(const LmdbTree& tree) {
    assert_int_equal(tree.depth, 1);
    Leaf leaf;
    leaf.at = tree.root * 4096;
    leaf.page = read_file(data_path()).substr(leaf.at, 4096);
    assert_true(parse_lmdb_node(as_bytes(leaf.page), 0, LmdbPageKind::leaf, leaf.node));
    return leaf;
}

// LMDB would hand out a page that is in use: sessions overwriting sessions.
void refuses_a_page_that_is_free_and_in_use(void** /*state*/) {
    make_file(100);
    const LmdbHeader header = newest_header();
    const Leaf leaf = first_node(header.free_pages);
    assert_true(leaf.node.data.size() >= 16);
    const std::size_t offset = static_cast<std::size_t>(
        leaf.node.data.data() - reinterpret_cast<const std::uint8_t*>(leaf.page.data()));
    std::uint8_t page[8];
    store_le<std::uint64_t>(page, header.unnamed.root);
    overwrite(data_path(), leaf.at + offset + 8, as_text(page));
    assert_refused_untouched("is called free and is in use");
}

// LMDB moves entries by their sizes: a wrong one has it write beside the page.
void refuses_an_entry_of_a_wrong_size(void** /*state*/) {
    make_file(100);
    const Leaf leaf = first_node(newest_header().unnamed);
    const std::size_t node = static_cast<std::size_t>(
        leaf.node.key.data() - reinterpret_cast<const std::uint8_t*>(leaf.page.data()) - 8);
    // The mark is the last of the three names; a record before it is a database's 48 bytes.
    const std::size_t mark = leaf.page.find("session_guard") - 8;
    assert_true(mark != node && leaf.page[mark] == 8);
    overwrite(data_path(), leaf.at + mark + 6, "\x0b");  // its key shorter by two
    assert_true(!prepare().empty());
    overwrite(data_path(), leaf.at + mark + 6, "\x0d");
    assert_good(prepare());
    overwrite(data_path(), leaf.at + 14, std::string(1, static_cast<char>(leaf.page[14] - 16)));
    assert_refused_untouched("has entries of impossible sizes");  // more room than they take
}

// Whatever is wrong with a file: an answer, never a crash, and never another byte in it.
void survives_any_damage(void** /*state*/) {
    make_file(300);
    const std::string whole = read_file(data_path());
    int refused = 0;
    for (std::uint64_t round = 0; round < 400; ++round) {
        // Headers and the starts of pages are where it matters.
        const std::uint64_t page = mix(round) % (whole.size() / 4096);
        const std::uint64_t at = page * 4096 + mix(round * 3) % (round % 2 == 0 ? 4096 : 200);
        const char byte = static_cast<char>(mix(round * 7));
        overwrite(data_path(), at, {&byte, 1});
        const std::string before = read_file(data_path());
        refused += prepare().empty() ? 0 : 1;
        assert_true(read_file(data_path()) == before);
        overwrite(data_path(), at, whole.substr(at, 1));
    }
    assert_true(refused > 20);
    assert_good(prepare());
}

void refuses_more_than_the_map_holds(void** /*state*/) {
    assert_good(prepare());
    assert_int_equal(create_many(*open_store(), 0, 100, 40'000), 100);
    const std::string before = read_file(data_path());
    assert_refused(prepare(std::size_t{2} << 20), "map_size allows");
    assert_true(read_file(data_path()) == before);
}

// A link planted in the folder would have the master create or open files elsewhere.
void refuses_links(void** /*state*/) {
    make_file(10);
    const std::string elsewhere = folder + "/elsewhere";
    assert_int_equal(rename(data_path().c_str(), elsewhere.c_str()), 0);
    assert_int_equal(symlink(elsewhere.c_str(), data_path().c_str()), 0);
    assert_refused_untouched("is a symbolic link");
    assert_int_equal(unlink(data_path().c_str()), 0);
    assert_int_equal(link(elsewhere.c_str(), data_path().c_str()), 0);
    assert_refused_untouched("names (hard links)");
    assert_int_equal(unlink(elsewhere.c_str()), 0);
    assert_good(prepare());

    assert_int_equal(rename(lock_path().c_str(), elsewhere.c_str()), 0);
    assert_int_equal(symlink(elsewhere.c_str(), lock_path().c_str()), 0);
    assert_refused_untouched("is a symbolic link");
    std::string error;
    assert_null(try_open(error).get());
}

void refuses_a_link_to_nowhere(void** /*state*/) {
    const std::string elsewhere = folder + "/elsewhere";
    assert_int_equal(symlink(elsewhere.c_str(), data_path().c_str()), 0);
    assert_refused(prepare(), "is a symbolic link");
    assert_int_equal(access(elsewhere.c_str(), F_OK), -1);
}

void refuses_what_is_no_file(void** /*state*/) {
    assert_int_equal(mkdir(data_path().c_str(), 0700), 0);
    assert_true(!prepare().empty());
    assert_int_equal(rmdir(data_path().c_str()), 0);
    assert_int_equal(mkfifo(data_path().c_str(), 0600), 0);
    assert_refused(prepare(), "is not a regular file");  // and does not wait for a writer
}

void refuses_files_that_others_can_read(void** /*state*/) {
    make_file(10);
    for (const auto& path : {data_path(), lock_path()}) {
        assert_int_equal(chmod(path.c_str(), 0640), 0);
        assert_refused_untouched("has mode 0640");
        std::string error;
        assert_null(try_open(error).get());
        assert_int_equal(chmod(path.c_str(), 0600), 0);
    }
}

void refuses_files_of_another_user(void** /*state*/) {
    make_file(10);
    assert_int_equal(chmod(folder.c_str(), 0755), 0);
    const std::string before = read_file(data_path());
    const std::string path = data_path();
    assert_refused(prepare_lmdb({.path = path}, geteuid() + 1, getegid(), kBudget),
                   "belongs to user");
    assert_true(read_file(data_path()) == before);
}

// A removed data file is made anew; under a lock file in use both would be mixed up.
void refuses_a_new_file_under_a_lock_in_use(void** /*state*/) {
    make_file(10);
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    const pid_t child = start([&] {
        auto store = open_store();
        const char byte = 1;
        (void)!write(ready[1], &byte, 1);
        pause();
    });
    char byte = 0;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(unlink(data_path().c_str()), 0);
    assert_refused(prepare(), "was removed while another process uses it");
    assert_int_equal(access(data_path().c_str(), F_OK), -1);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    assert_good(prepare());
}

// ================================================================ the environment

// LMDB must not open a file twice in one process: the first close would drop all its locks.
void stores_of_one_file_share_an_environment(void** /*state*/) {
    make_file(1);
    auto first = open_store();
    auto second = open_store();
    assert_int_equal(run_one(*first, create(100)), StoreAnswer::found);
    first.reset();
    assert_int_equal(look(*second, 100), StoreAnswer::found);
    assert_int_equal(run_one(*second, create(101)), StoreAnswer::found);
    second.reset();
    assert_int_equal(look(*open_store(), 101), StoreAnswer::found);
}

// An environment carried across a fork would share lock slots and write where it must not.
void an_environment_is_not_used_after_a_fork(void** /*state*/) {
    make_file(1);
    auto store = open_store();
    const pid_t child = start([&] {
        std::string error;
        const bool refused = look(*store, 0) == StoreAnswer::unknown &&
                             run_one(*store, create(5)) == StoreAnswer::unknown &&
                             store->tidy(10, kNow) == 0 && try_open(error) == nullptr;
        store.reset();
        _exit(refused ? 0 : 1);
    });
    assert_ended_well(child);
    assert_int_equal(look(*store, 0), StoreAnswer::found);
    assert_int_equal(look(*store, 5), StoreAnswer::absent);
    assert_int_equal(run_one(*store, create(6)), StoreAnswer::found);
}

// Order within a batch: a logout and a login on one key must not change places.
void a_batch_keeps_the_order_on_one_key(void** /*state*/) {
    assert_good(prepare());
    auto store = open_store();
    std::vector<StoreOp> batch;
    batch.push_back(operation(StoreVerb::get, 1));
    batch.push_back(create(1));
    batch.push_back(operation(StoreVerb::get, 1));
    batch.push_back(change(1, 2, 1));
    batch.push_back(touch(1, kNow + 500));
    batch.push_back(operation(StoreVerb::get, 1));
    batch.push_back(end(1));
    batch.push_back(operation(StoreVerb::get, 1));
    batch.push_back(change(1, 3, 1));
    batch.push_back(operation(StoreVerb::get, 2));
    store->run(batch, kNow);
    assert_int_equal(batch[0].answer, StoreAnswer::absent);
    assert_int_equal(batch[1].answer, StoreAnswer::found);
    assert_int_equal(batch[2].seen.version.counter, 1);
    assert_int_equal(batch[3].answer, StoreAnswer::found);
    assert_int_equal(batch[4].answer, StoreAnswer::found);
    assert_int_equal(batch[5].seen.version.counter, 2);
    assert_int_equal(batch[5].seen.last_seen, kNow + 500);
    assert_int_equal(batch[6].answer, StoreAnswer::found);
    assert_int_equal(batch[7].seen.kind, EntryKind::ended);
    assert_true(batch[8].lost);
    assert_int_equal(batch[9].answer, StoreAnswer::absent);
}

// ================================================================ killed and stopped writers

std::vector<std::uint64_t> read_numbers(int fd) {
    std::vector<std::uint64_t> numbers;
    std::uint64_t number = 0;
    while (read(fd, &number, sizeof number) == sizeof number) {
        numbers.push_back(number);
    }
    return numbers;
}

// Writes batches for ever and reports each acknowledged one: the first number of its eight.
void write_for_ever(std::uint64_t first, int report) {
    auto store = open_store();
    for (;; first += kBatch) {
        std::vector<StoreOp> batch;
        for (std::size_t i = 0; i < kBatch; ++i) {
            batch.push_back(i % 4 == 3 && first >= kBatch ? end(first - kBatch + i - 1)
                                                          : create(first + i, 80 * (i + 1)));
        }
        store->run(batch, kNow);
        for (const StoreOp& op : batch) {
            if (op.answer != StoreAnswer::found) {
                _exit(1);
            }
        }
        (void)!write(report, &first, sizeof first);
    }
}

// kill -9 at any instant, with one writer or two: what was acknowledged is there, what was ended
// stays ended, and the file is sound.
void a_killed_writer_leaves_every_acknowledged_write(void** /*state*/) {
    assert_good(prepare());
    constexpr int kKills = 60;
    std::vector<std::uint64_t> acknowledged;
    for (int round = 0; round < kKills; ++round) {
        int report[2];
        assert_int_equal(pipe(report), 0);
        const int writers = 1 + round % 2;
        pid_t children[2];
        for (int i = 0; i < writers; ++i) {
            const std::uint64_t first = std::uint64_t(2 * round + i) << 32;
            children[i] = start([&] { write_for_ever(first, report[1]); });
        }
        close(report[1]);
        std::uint64_t number = 0;  // at work, then some instant of the next three milliseconds
        assert_int_equal(read(report[0], &number, sizeof number), sizeof number);
        acknowledged.push_back(number);
        const std::uint64_t instant = mix(static_cast<std::uint64_t>(round)) % 3000;
        usleep(static_cast<useconds_t>(instant));
        for (int i = 0; i < writers; ++i) {
            kill(children[i], SIGKILL);
        }
        for (int i = 0; i < writers; ++i) {
            int status = 0;
            waitpid(children[i], &status, 0);
            assert_true(WIFSIGNALED(status));  // not: ended because something was not acknowledged
        }
        for (const std::uint64_t n : read_numbers(report[0])) {
            acknowledged.push_back(n);
        }
        close(report[0]);
        assert_good(prepare());
        auto store = open_store();
        for (const std::uint64_t first : acknowledged) {
            assert_int_equal(look(*store, first), StoreAnswer::found);
            assert_int_equal(kind_of(*store, first + 1), EntryKind::session);
            if ((first & 0xffffffff) >= kBatch) {
                assert_int_equal(kind_of(*store, first - kBatch + 2), EntryKind::ended);
            }
        }
    }
    assert_true(acknowledged.size() >= kKills);
}

// A writer that is stopped (SIGSTOP, a debugger) holds the lock: the others must answer in time,
// readers must not notice, and its death must set the lock free.
void a_stopped_writer_holds_up_no_one_for_long(void** /*state*/) {
    make_file(10);
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    const pid_t child = start([&] {
        std::string error;
        const LmdbEnvRef env = LmdbEnv::acquire(data_path(), geteuid(), std::size_t{1} << 30,
                                                LmdbLayout::expected, error);
        const WriteTurn turn(*env);
        const WriteTxn txn(*env, turn);
        const char byte = 1;
        (void)!write(ready[1], &byte, 1);
        raise(SIGSTOP);
    });
    char byte = 0;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    auto store = open_store();
    const auto before = std::chrono::steady_clock::now();
    assert_int_equal(run_one(*store, create(100)), StoreAnswer::unknown);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - before;
    assert_true(taken.count() < 2.0);
    assert_int_equal(faults(StoreFault::timed_out), 1);
    assert_int_equal(look(*store, 5), StoreAnswer::found);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    assert_int_equal(run_one(*store, create(100)), StoreAnswer::found);
}

// A process of its own that keeps a snapshot until it is killed.
pid_t start_reader() {
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    const pid_t reader = start([&] {
        execl("/proc/self/exe", "lmdb_file_test", "--hold-a-snapshot", data_path().c_str(),
              std::to_string(ready[1]).c_str(), nullptr);
        _exit(1);
    });
    char byte = 0;
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return reader;
}

// A reader that was killed in the middle keeps its slot and with it every old page: the file would
// grow until it is full.
void slots_of_killed_readers_are_freed(void** /*state*/) {
    make_file(10);
    auto hold = open_store();  // so that the lock file is not made anew
    for (int round = 0; round < 20; ++round) {
        const pid_t reader = start_reader();
        kill(reader, SIGKILL);
        waitpid(reader, nullptr, 0);
    }
    hold->tidy(0, kNow);
    const auto size_before = std::filesystem::file_size(data_path());
    for (int i = 0; i < 200; ++i) {
        assert_int_equal(run_one(*hold, touch(1, kNow + 1000 * (i + 1))), StoreAnswer::found);
    }
    assert_true(std::filesystem::file_size(data_path()) < size_before + 200 * 1024);
}

[[noreturn]] void hold_a_snapshot(const std::string& path, int ready) {
    std::string error;
    const LmdbEnvRef env =
        LmdbEnv::acquire(path, geteuid(), std::size_t{1} << 30, LmdbLayout::expected, error);
    const ReadTxn txn(*env);
    const char byte = 1;
    (void)!write(ready, &byte, 1);
    for (;;) {
        pause();
    }
}

// ================================================================ two at once, growth, full

// Two nginx on one file: nothing of either is lost, and of two changes of one session the winning
// one stays.
void two_processes_write_at_once(void** /*state*/) {
    assert_good(prepare());
    constexpr std::uint64_t kEach = 800;
    pid_t children[2];
    for (std::uint64_t who = 0; who < 2; ++who) {
        children[who] = start([&] {
            auto store = open_store();
            for (std::uint64_t i = 0; i < kEach; i += kBatch) {
                std::vector<StoreOp> batch;
                for (std::uint64_t k = i; k < i + kBatch - 1; ++k) {
                    batch.push_back(create((who + 1) << 32 | k));
                }
                batch.push_back(change(7, static_cast<std::uint32_t>(i + who + 1), who));
                store->run(batch, kNow);
                for (const StoreOp& op : batch) {
                    if (op.answer != StoreAnswer::found) {
                        _exit(1);
                    }
                }
            }
        });
    }
    for (const pid_t child : children) {
        assert_ended_well(child);
    }
    assert_good(prepare());
    auto store = open_store();
    for (std::uint64_t who = 0; who < 2; ++who) {
        for (std::uint64_t k = 0; k < kEach; ++k) {
            if (k % kBatch != kBatch - 1) {
                assert_int_equal(look(*store, (who + 1) << 32 | k), StoreAnswer::found);
            }
        }
    }
    StoreOp op = operation(StoreVerb::get, 7);
    store->run({&op, 1}, kNow);
    assert_int_equal(op.seen.version.counter, kEach - kBatch + 2);
    assert_int_equal(op.seen.version.node, 1);
}

// Two masters start at once on nothing: one creates, both must find it good.
void two_processes_prepare_at_once(void** /*state*/) {
    for (int round = 0; round < 20; ++round) {
        std::filesystem::remove(data_path());
        std::filesystem::remove(lock_path());
        pid_t children[2];
        for (pid_t& child : children) {
            child = start([] { _exit(prepare().empty() ? 0 : 1); });
        }
        for (const pid_t child : children) {
            assert_ended_well(child);
        }
        assert_int_equal(run_one(*open_store(), create(1)), StoreAnswer::found);
    }
}

// The map starts smaller than the file may become, and others may let the file grow beyond it.
void the_map_grows_with_the_file(void** /*state*/) {
    assert_good(prepare());
    auto store = open_store();
    assert_int_equal(look(*store, 0), StoreAnswer::absent);
    const pid_t child = start([] {
        std::string error;
        // Not the parent's environment: a program of its own, as another nginx would be.
        execl("/proc/self/exe", "lmdb_file_test", "--fill", data_path().c_str(), nullptr);
        _exit(1);
    });
    assert_ended_well(child);
    assert_true(std::filesystem::file_size(data_path()) > LmdbEnv::kFirstMapBytes);
    assert_int_equal(look(*store, 0), StoreAnswer::found);
    assert_int_equal(look(*store, 1999), StoreAnswer::found);
    assert_int_equal(create_many(*store, 10'000, 1000, 40'000), 1000);
    assert_int_equal(look(*store, 10'999), StoreAnswer::found);
    store.reset();
    assert_good(prepare());
}

[[noreturn]] void fill(const std::string& path) {
    std::string error;
    auto store = make_lmdb_store({.path = path}, seal_keys(), health, error);
    _exit(store != nullptr && create_many(*store, 0, 2000, 40'000) == 2000 ? 0 : 1);
}

constexpr std::size_t kSmallMap = std::size_t{4} << 20;

// Creates sessions one by one until ten in a row find no room; how many found some.
std::uint64_t fill_up(Store& store, std::uint64_t first, std::size_t record_bytes, TimeMs expires) {
    std::uint64_t n = 0;
    for (int refused = 0; refused < 10;) {
        if (run_one(store, create(first + n, record_bytes, expires)) == StoreAnswer::found) {
            ++n;
        } else {
            ++refused;
        }
    }
    return n;
}

// A full store refuses logins, never logouts; and reads go on.
void a_full_map_refuses_logins_but_not_logouts(void** /*state*/) {
    assert_good(prepare(kSmallMap));
    auto store = open_store(kSmallMap);
    const std::uint64_t fit = fill_up(*store, 0, 1500, kLater);
    assert_true(fit > 500);
    assert_true(faults(StoreFault::full) > 0);
    assert_int_equal(look(*store, 0), StoreAnswer::found);
    for (std::uint64_t n = 0; n < fit; ++n) {
        assert_int_equal(run_one(*store, end(n)), StoreAnswer::found);
    }
    assert_int_equal(kind_of(*store, 3), EntryKind::ended);
    assert_true(std::filesystem::file_size(data_path()) <= kSmallMap);
    assert_true(fill_up(*store, 100'000, 1500, kLater) > 100);  // tombstones are small
    store.reset();
    assert_good(prepare(kSmallMap));
}

// While somebody reads an old snapshot no page is used again: then only what was kept back is left
// for logouts.
void a_full_map_has_pages_kept_back_for_logouts(void** /*state*/) {
    assert_good(prepare(kSmallMap));
    auto store = open_store(kSmallMap);
    assert_int_equal(create_many(*store, 0, 8), 8);
    const pid_t reader = start_reader();
    fill_up(*store, 1000, 1500, kLater);
    assert_int_equal(run_one(*store, end(3)), StoreAnswer::found);
    assert_int_equal(run_one(*store, end(4)), StoreAnswer::found);
    assert_int_equal(kind_of(*store, 4), EntryKind::ended);
    kill(reader, SIGKILL);
    waitpid(reader, nullptr, 0);
}

void a_full_map_makes_room_of_what_has_expired(void** /*state*/) {
    assert_good(prepare(kSmallMap));
    auto store = open_store(kSmallMap);
    assert_true(fill_up(*store, 0, 1500, kNow + kMinute) > 500);
    for (std::uint64_t n = 100'000; n < 100'300; ++n) {
        assert_int_equal(run_one(*store, create(n, 1500), kNow + kHour / 2), StoreAnswer::found);
    }
}

// Disk full: the answer is unknown, what was there stays, and when there is room again it goes on.
void a_full_disk_corrupts_nothing(void** /*state*/) {
    make_file(200);
    const pid_t child = start([] {
        signal(SIGXFSZ, SIG_IGN);  // as in the threads of nginx's pool
        const auto size = std::filesystem::file_size(data_path());
        const rlimit limit{.rlim_cur = size + 300'001, .rlim_max = RLIM_INFINITY};
        setrlimit(RLIMIT_FSIZE, &limit);
        auto store = open_store();
        const std::size_t fit = create_many(*store, 1000, 200, 5000);
        bool good = fit > 10 && fit < 200 && faults(StoreFault::full) > 0;
        for (std::uint64_t n = 0; n < 200; ++n) {
            good = good && look(*store, n) == StoreAnswer::found;
        }
        good = good && run_one(*store, end(3)) == StoreAnswer::found;
        const rlimit none{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
        setrlimit(RLIMIT_FSIZE, &none);
        good = good && create_many(*store, 2000, 200, 5000) == 200;
        _exit(good ? 0 : 1);
    });
    assert_ended_well(child);
    assert_good(prepare());
    auto store = open_store();
    assert_int_equal(look(*store, 100), StoreAnswer::found);
    assert_int_equal(look(*store, 2199), StoreAnswer::found);
    assert_int_equal(kind_of(*store, 3), EntryKind::ended);
}

// ================================================================ housekeeping

std::size_t count_entries(const char* database) {
    MDB_env* env = nullptr;
    MDB_txn* txn = nullptr;
    MDB_dbi db = 0;
    MDB_stat stat;
    mdb_env_create(&env);
    mdb_env_set_maxdbs(env, 2);
    assert_int_equal(mdb_env_open(env, data_path().c_str(), MDB_NOSUBDIR, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, nullptr, MDB_RDONLY, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, database, 0, &db), 0);
    assert_int_equal(mdb_stat(txn, db, &stat), 0);
    mdb_txn_abort(txn);
    mdb_env_close(env);
    return stat.ms_entries;
}

// Without it the file would only ever grow.
void tidying_removes_the_expired_and_nothing_else(void** /*state*/) {
    assert_good(prepare());
    auto store = open_store();
    assert_int_equal(create_many(*store, 0, 600, 100, kNow + kMinute), 600);
    assert_int_equal(create_many(*store, 600, 100, 100, kLater), 100);
    for (std::uint64_t n = 590; n < 610; ++n) {
        assert_int_equal(run_one(*store, touch(n, kNow + 1)), StoreAnswer::found);
        assert_int_equal(run_one(*store, change(n, 2, 1)), StoreAnswer::found);  // expires later
    }
    for (std::uint64_t n = 100; n < 120; ++n) {  // and these go, with their activity
        assert_int_equal(run_one(*store, touch(n, kNow + 1)), StoreAnswer::found);
    }
    assert_int_equal(run_one(*store, end(5, kLater)), StoreAnswer::found);
    assert_int_equal(run_one(*store, end(700, kNow + kMinute)), StoreAnswer::found);
    const TimeMs then = kNow + kMinute;  // to the millisecond
    assert_int_equal(store->tidy(1000, then - 1), 0);
    assert_int_equal(store->tidy(300, then), 300);
    assert_int_equal(store->tidy(1000, then), 290);
    assert_int_equal(store->tidy(1000, then), 0);
    for (std::uint64_t n = 590; n < 700; ++n) {
        assert_int_equal(look(*store, n, then), StoreAnswer::found);
    }
    assert_int_equal(kind_of(*store, 5), EntryKind::ended);
    store.reset();
    assert_int_equal(count_entries(kLmdbExpiry), 111);
    assert_int_equal(count_entries(kLmdbEntries),
                     111 + 20 + 22 + 1);  // activities, the feed and its head
}

// Overwrites a value behind the store's back.
void overwrite_value(std::uint64_t n, std::string_view bytes) {
    std::string error;
    const LmdbEnvRef env =
        LmdbEnv::acquire(data_path(), geteuid(), std::size_t{1} << 30, LmdbLayout::expected, error);
    const WriteTurn turn(*env);
    WriteTxn txn(*env, turn);
    LmdbEntryKey name = lmdb_entry_key(key_of(n), LmdbSlot::state);
    MDB_val key{.mv_size = name.size(), .mv_data = name.data()};
    MDB_val value{.mv_size = bytes.size(), .mv_data = const_cast<char*>(bytes.data())};
    assert_int_equal(mdb_put(txn.get(), env->entries(), &key, &value, 0), 0);
    assert_int_equal(txn.commit(), 0);
}

// A damaged value hides when its entry expired, so its place in the index stays behind: that must
// not take the tombstone away which came after it. And damage must not stay for ever.
void a_stale_index_removes_no_tombstone(void** /*state*/) {
    assert_good(prepare());
    auto store = open_store();
    for (std::uint64_t n = 1; n <= 2; ++n) {
        assert_int_equal(run_one(*store, create(n, 100, kNow + kMinute)), StoreAnswer::found);
        overwrite_value(n, "short");
        assert_int_equal(look(*store, n), StoreAnswer::unknown);
    }
    assert_int_equal(run_one(*store, end(1, kLater)), StoreAnswer::found);
    assert_int_equal(store->tidy(100, kNow + kMinute), 1);
    assert_int_equal(kind_of(*store, 1), EntryKind::ended);
    assert_int_equal(look(*store, 2), StoreAnswer::absent);
    store.reset();
    assert_int_equal(count_entries(kLmdbExpiry), 1);
    assert_int_equal(count_entries(kLmdbEntries), 1 + 2);  // the feed has one slot and its head
}

// An expired session that was not tidied away yet must not answer, nor stand in a new one's way.
void the_expired_are_absent_before_they_are_removed(void** /*state*/) {
    assert_good(prepare());
    auto store = open_store();
    assert_int_equal(run_one(*store, create(1, 100, kNow + 10)), StoreAnswer::found);
    assert_int_equal(run_one(*store, touch(1, kNow + 5)), StoreAnswer::found);
    assert_int_equal(look(*store, 1, kNow + 9), StoreAnswer::found);
    assert_int_equal(look(*store, 1, kNow + 10), StoreAnswer::absent);
    assert_int_equal(run_one(*store, touch(1, kNow + 20), kNow + 20), StoreAnswer::absent);
    assert_int_equal(run_one(*store, create(1), kNow + 20), StoreAnswer::found);
    StoreOp op = operation(StoreVerb::get, 1);
    store->run({&op, 1}, kNow + 20);
    assert_int_equal(op.seen.last_seen, kNow);  // not what the old one had left behind
    store.reset();
    assert_int_equal(count_entries(kLmdbExpiry), 1);
}

}  // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char** argv) {
    if (argc == 4 && std::string_view(argv[1]) == "--hold-a-snapshot") {
        hold_a_snapshot(argv[2], std::atoi(argv[3]));
    }
    if (argc == 3 && std::string_view(argv[1]) == "--fill") {
        fill(argv[2]);
    }
    const CMUnitTest tests[] = {
        TEST(creates_both_files_for_the_owner_only),
        TEST(creates_the_files_for_the_workers),
        TEST(refuses_a_folder_the_workers_cannot_enter),
        TEST(preparing_again_changes_nothing),
        TEST(an_empty_file_is_a_new_one),
        TEST(refuses_a_text_file),
        TEST(refuses_garbage),
        TEST(refuses_a_foreign_database),
        TEST(refuses_a_newer_layout),
        TEST(refuses_a_truncated_file),
        TEST(refuses_a_damaged_page_wherever_it_is),
        TEST(refuses_a_page_that_is_free_and_in_use),
        TEST(refuses_an_entry_of_a_wrong_size),
        TEST(survives_any_damage),
        TEST(refuses_more_than_the_map_holds),
        TEST(refuses_links),
        TEST(refuses_a_link_to_nowhere),
        TEST(refuses_what_is_no_file),
        TEST(refuses_files_that_others_can_read),
        TEST(refuses_files_of_another_user),
        TEST(refuses_a_new_file_under_a_lock_in_use),
        TEST(stores_of_one_file_share_an_environment),
        TEST(an_environment_is_not_used_after_a_fork),
        TEST(a_batch_keeps_the_order_on_one_key),
        TEST(a_killed_writer_leaves_every_acknowledged_write),
        TEST(a_stopped_writer_holds_up_no_one_for_long),
        TEST(slots_of_killed_readers_are_freed),
        TEST(two_processes_write_at_once),
        TEST(two_processes_prepare_at_once),
        TEST(the_map_grows_with_the_file),
        TEST(a_full_map_refuses_logins_but_not_logouts),
        TEST(a_full_map_has_pages_kept_back_for_logouts),
        TEST(a_full_map_makes_room_of_what_has_expired),
        TEST(a_full_disk_corrupts_nothing),
        TEST(tidying_removes_the_expired_and_nothing_else),
        TEST(a_stale_index_removes_no_tombstone),
        TEST(the_expired_are_absent_before_they_are_removed),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
