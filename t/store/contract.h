// The one contract of all stores: the same named cases run over the fake, memcached and LMDB, so
// that what is true of one is true of all. A test program makes its backends, adds the contract for
// each of them and runs everything in one group.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/seal.h"
#include "store/health.h"
#include "store/store.h"

// After every other header: it defines macros with names of the standard library (fail).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

namespace sg::test {

// A value as the backend keeps it, sealed; `flags` are memcached's. The sealed value is the tail of
// `bytes`; what a store puts before it is its own business.
struct RawValue {
    std::uint32_t flags = 0;
    std::string bytes;
};

// What a store's connections lead to, and the way behind their backs: what an intruder, a damaged
// disk or a newer module could have left there. Outlives the tests.
class Backend {
  public:
    virtual ~Backend() = default;

    virtual std::string name() const = 0;
    virtual std::unique_ptr<Store> connect(const SealKeys& keys, StoreHealth& health) = 0;

    // Whether connections of several processes lead to the same entries.
    virtual bool spans_processes() const { return true; }
    // Whether the feed lies among the entries, for dump, write and remove.
    virtual bool shows_feed() const { return true; }

    // Every replica of an entry has a name of its own here.
    virtual std::map<std::string, RawValue> dump() = 0;
    virtual bool write(const std::string& name, const RawValue& value) = 0;
    virtual bool remove(const std::string& name) = 0;
};

// Adds every case, as "<backend>: <behaviour>".
void add_contract(std::vector<CMUnitTest>& tests, Backend& backend);

// Adds a test of one store only, named like the contract's. `body` receives `state` as *state.
void add_test(std::vector<CMUnitTest>& tests, const std::string& store, const char* behaviour,
              CMUnitTestFunction body, void* state);

int run_all(const char* group, const std::vector<CMUnitTest>& tests);

}  // namespace sg::test
