// Single operations on the entries of an LMDB file, inside a transaction that the caller opens and
// commits. A function returns LMDB's error when the transaction is of no more use, else 0; what
// became of the operation stands in the operation.
#pragma once

#include <lmdb.h>

#include <cstddef>

#include "core/bytes.h"
#include "core/seal.h"
#include "core/time_ms.h"
#include "store/health.h"
#include "store/store.h"

namespace sg {

struct LmdbContext {
    MDB_txn* txn = nullptr;
    MDB_dbi entries = 0;
    MDB_dbi expiry = 0;
    TimeMs now = 0;
    Sealer* sealer = nullptr;
    StoreHealth* health = nullptr;
};

int lmdb_get(const LmdbContext& context, StoreOp& op) noexcept;

// `value` is what LmdbSealedBatch made of it. For create, change, end and touch.
int lmdb_write(const LmdbContext& context, StoreOp& op, ByteView value) noexcept;

// Removes at most `limit` entries that have expired, with their activity; adds them to `removed`.
int lmdb_remove_expired(const LmdbContext& context, std::size_t limit,
                        std::size_t& removed) noexcept;

}  // namespace sg
