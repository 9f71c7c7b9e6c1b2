// The contract over LMDB, in a file of its own that ends with the test.
#include <lmdb.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "store/contract_support.h"
#include "store/lmdb_layout.h"
#include "store/lmdb_store.h"

using namespace sg;
using namespace sg::test;

namespace {

// Reads and writes as an intruder would. In a child, because a process must not open a file of LMDB
// twice; what it has to say comes through a pipe.
class RawFile {
  public:
    explicit RawFile(const std::string& path) {
        mdb_env_create(&env_);
        mdb_env_set_maxdbs(env_, 2);
        is_open_ = mdb_env_open(env_, path.c_str(), MDB_NOSUBDIR | MDB_NOTLS, 0600) == 0 &&
                   mdb_txn_begin(env_, nullptr, 0, &txn_) == 0 &&
                   mdb_dbi_open(txn_, kLmdbEntries, 0, &entries_) == 0;
    }

    bool is_open() const { return is_open_; }

    bool dump(FILE* out) {
        MDB_cursor* cursor = nullptr;
        MDB_val key;
        MDB_val value;
        bool good = mdb_cursor_open(txn_, entries_, &cursor) == 0;
        while (good && mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
            good = put(out, key) && put(out, value);
        }
        return good;
    }

    bool write(const std::string& name, const std::string& bytes) {
        MDB_val key = value_of(name);
        MDB_val value = value_of(bytes);
        return mdb_put(txn_, entries_, &key, &value, 0) == 0 && mdb_txn_commit(txn_) == 0;
    }

    bool remove(const std::string& name) {
        MDB_val key = value_of(name);
        return mdb_del(txn_, entries_, &key, nullptr) == 0 && mdb_txn_commit(txn_) == 0;
    }

  private:
    static MDB_val value_of(const std::string& text) {
        return {.mv_size = text.size(), .mv_data = const_cast<char*>(text.data())};
    }

    static bool put(FILE* out, const MDB_val& value) {
        return fwrite(&value.mv_size, sizeof value.mv_size, 1, out) == 1 &&
               fwrite(value.mv_data, 1, value.mv_size, out) == value.mv_size;
    }

    MDB_env* env_ = nullptr;
    MDB_txn* txn_ = nullptr;
    MDB_dbi entries_ = 0;
    bool is_open_ = false;
};

bool take(FILE* in, std::string& text) {
    std::size_t size = 0;
    if (fread(&size, sizeof size, 1, in) != 1) {
        return false;
    }
    text.resize(size);
    return fread(text.data(), 1, size, in) == size;
}

bool ended_well(pid_t child) {
    int status = 0;
    return waitpid(child, &status, 0) == child && status == 0;
}

class LmdbBackend final : public Backend {
  public:
    LmdbBackend() {
        std::string folder = std::filesystem::temp_directory_path() / "lmdb_contract.XXXXXX";
        if (mkdtemp(folder.data()) == nullptr) {
            perror("mkdtemp");
            std::exit(1);
        }
        folder_ = folder;
        path_ = folder + "/sessions";
        const std::string error = prepare_lmdb({.path = path_}, geteuid(), getegid(), 10 * kSecond);
        if (!error.empty()) {
            fprintf(stderr, "%s\n", error.c_str());
            std::exit(1);
        }
    }

    ~LmdbBackend() override { std::filesystem::remove_all(folder_); }

    std::string name() const override { return "lmdb"; }

    std::unique_ptr<Store> connect(const SealKeys& keys, StoreHealth& health) override {
        std::string error;
        auto store = make_lmdb_store({.path = path_}, keys, health, error);
        if (store == nullptr) {
            print_message("%s\n", error.c_str());
        }
        return store;
    }

    std::map<std::string, RawValue> dump() override {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        const pid_t child = fork();
        if (child == 0) {
            RawFile file(path_);
            FILE* out = fdopen(ends[1], "w");
            _exit(file.is_open() && file.dump(out) && fflush(out) == 0 ? 0 : 1);
        }
        close(ends[1]);
        FILE* in = fdopen(ends[0], "r");
        std::map<std::string, RawValue> all;
        std::string name;
        RawValue value;
        while (take(in, name) && take(in, value.bytes)) {
            all[name] = value;
        }
        fclose(in);
        assert_true(ended_well(child));
        return all;
    }

    bool write(const std::string& name, const RawValue& value) override {
        const pid_t child = fork();
        if (child == 0) {
            RawFile file(path_);
            _exit(file.is_open() && file.write(name, value.bytes) ? 0 : 1);
        }
        return ended_well(child);
    }

    bool remove(const std::string& name) override {
        const pid_t child = fork();
        if (child == 0) {
            RawFile file(path_);
            _exit(file.is_open() && file.remove(name) ? 0 : 1);
        }
        return ended_well(child);
    }

  private:
    std::string folder_;
    std::string path_;
};

}  // namespace

int main() {
    LmdbBackend backend;
    std::vector<CMUnitTest> tests;
    add_contract(tests, backend);
    return run_all("lmdb", tests);
}
