#include "nginx/clock.h"

#if (SESSION_GUARD_TEST_CLOCK)

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>

namespace sg::ngx {
namespace {

struct TestFile {
    std::atomic<std::int64_t> clock_offset_ms;
    std::atomic<std::uint32_t> fail_random;
    std::atomic<std::uint32_t> store;
};

TestFile* test_file = nullptr;  // constant-initialised; set once per process tree, then read only

}  // namespace

void map_test_file() noexcept {
    const char* const path = std::getenv("SESSION_GUARD_TEST_FILE");
    if (path == nullptr || test_file != nullptr) {
        return;
    }
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd == -1) {
        return;
    }
    void* const mapped = mmap(nullptr, 64, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) {
        test_file = static_cast<TestFile*>(mapped);
    }
}

TimeMs test_clock_offset() noexcept {
    return test_file != nullptr ? test_file->clock_offset_ms.load(std::memory_order_relaxed) : 0;
}

bool test_random_fails() noexcept {
    return test_file != nullptr && test_file->fail_random.load(std::memory_order_relaxed) != 0;
}

TestStoreState test_store() noexcept {
    return test_file != nullptr
               ? static_cast<TestStoreState>(test_file->store.load(std::memory_order_relaxed))
               : TestStoreState::works;
}

}  // namespace sg::ngx

#endif
