// An embedded LMDB file, for one node without any server: sessions survive restart, crash, binary
// upgrade and reboot. See docs/stores.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <sys/types.h>

#include "core/seal.h"
#include "store/health.h"
#include "store/store.h"

namespace sg {

struct LmdbConf {
    std::string_view path;  // of the data file; LMDB puts a second one, "-lock", beside it
    std::size_t map_size = std::size_t{1} << 30;
};

// In the master, before the workers are forked: creates file (mode 0600, owner `user`:`group`) and
// lock file where there are none, checks magic, meta and size of what is there, walks it within
// `budget`, and closes it again. A foreign or damaged file is left exactly as it is. Empty: good;
// else what is wrong, for the error log.
std::string prepare_lmdb(const LmdbConf& conf, uid_t user, gid_t group, TimeMs budget) noexcept;

// In a worker: one environment per process and path, shared by all stores made for the path (LMDB
// must not open a file twice in one process) and closed with the last. nullptr and `error` filled
// when it cannot be opened.
std::unique_ptr<Store> make_lmdb_store(const LmdbConf& conf, const SealKeys& keys,
                                       StoreHealth& health, std::string& error) noexcept;

}  // namespace sg
