// What LMDB itself does, for `make bench`. Prints one JSON object.
//
//   commits run PATH GROUP COUNT VALUE   durable puts in a file of its own, GROUP to a commit,
//                                        VALUE bytes each
//   commits state PATH DATABASE          of somebody else's file: commits so far, entries of that
//                                        database, bytes of one value
#include <lmdb.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>

namespace {

// What the module stores a session under: 16 random bytes and one more.
using Key = std::array<std::uint64_t, 3>;
constexpr std::size_t kKeyBytes = 17;

constexpr std::size_t kMapBytes = std::size_t{4} << 30;

void must(int rc, const char* what) {
    if (rc != MDB_SUCCESS) {
        std::fprintf(stderr, "%s: %s\n", what, mdb_strerror(rc));
        std::exit(2);
    }
}

MDB_env* open_env(const char* path, unsigned flags) {
    MDB_env* env = nullptr;
    must(mdb_env_create(&env), "mdb_env_create");
    must(mdb_env_set_mapsize(env, kMapBytes), "mdb_env_set_mapsize");
    must(mdb_env_set_maxdbs(env, 4), "mdb_env_set_maxdbs");
    must(mdb_env_open(env, path, MDB_NOSUBDIR | flags, 0600), path);
    return env;
}

unsigned long long last_commit(MDB_env* env) {
    MDB_envinfo info;
    must(mdb_env_info(env, &info), "mdb_env_info");
    return info.me_last_txnid;
}

void put_group(MDB_env* env, MDB_dbi db, std::mt19937_64& random, std::size_t group,
               std::string& value) {
    MDB_txn* txn = nullptr;
    must(mdb_txn_begin(env, nullptr, 0, &txn), "mdb_txn_begin");
    for (std::size_t i = 0; i < group; ++i) {
        Key name{random(), random(), 0};
        MDB_val key{kKeyBytes, name.data()};
        MDB_val data{value.size(), value.data()};
        must(mdb_put(txn, db, &key, &data, 0), "mdb_put");
    }
    must(mdb_txn_commit(txn), "mdb_txn_commit");
}

int run(const char* path, std::size_t group, std::size_t count, std::size_t bytes) {
    MDB_env* const env = open_env(path, 0);
    MDB_txn* txn = nullptr;
    MDB_dbi db = 0;
    must(mdb_txn_begin(env, nullptr, 0, &txn), "mdb_txn_begin");
    must(mdb_dbi_open(txn, nullptr, 0, &db), "mdb_dbi_open");
    must(mdb_txn_commit(txn), "mdb_txn_commit");
    std::mt19937_64 random(std::random_device{}());
    std::string value(bytes, 'v');
    const auto before = last_commit(env);
    const auto started = std::chrono::steady_clock::now();
    for (std::size_t done = 0; done < count; done += group) {
        put_group(env, db, random, std::min(group, count - done), value);
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - started;
    std::printf("{\"puts\":%zu,\"commits\":%llu,\"seconds\":%.6f}\n", count,
                last_commit(env) - before, seconds.count());
    mdb_env_close(env);
    return 0;
}

int state(const char* path, const char* database) {
    MDB_env* const env = open_env(path, MDB_RDONLY);
    MDB_txn* txn = nullptr;
    MDB_dbi db = 0;
    must(mdb_txn_begin(env, nullptr, MDB_RDONLY, &txn), "mdb_txn_begin");
    must(mdb_dbi_open(txn, database, 0, &db), database);
    MDB_stat entries;
    must(mdb_stat(txn, db, &entries), "mdb_stat");
    MDB_cursor* cursor = nullptr;
    must(mdb_cursor_open(txn, db, &cursor), "mdb_cursor_open");
    MDB_val key;
    MDB_val value{0, nullptr};
    if (const int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); rc != MDB_NOTFOUND) {
        must(rc, "mdb_cursor_get");
    }
    std::printf("{\"commits\":%zu,\"entries\":%zu,\"value_bytes\":%zu}\n", mdb_txn_id(txn),
                entries.ms_entries, value.mv_size);
    mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    mdb_env_close(env);
    return 0;
}

std::size_t number(const char* text) {
    return std::strtoull(text, nullptr, 10);
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view mode = argc > 1 ? argv[1] : "";
    if (mode == "run" && argc == 6 && number(argv[3]) > 0) {
        return run(argv[2], number(argv[3]), number(argv[4]), number(argv[5]));
    }
    if (mode == "state" && argc == 4) {
        return state(argv[2], argv[3]);
    }
    std::fprintf(stderr, "usage: commits run PATH GROUP COUNT VALUE | state PATH DATABASE\n");
    return 2;
}
