// One word of shared memory. All stores go through here, so that a unit test can kill a process
// after every single one of them (SG_TEST_STORES) and prove that the table can be repaired.
#pragma once

#include <atomic>
#include <cstdint>

namespace sg {

#if defined(SG_TEST_STORES)
// Called before each store; a test's hook may end the process.
inline void (*sg_on_store)() = nullptr;
#endif

template <typename T>
class SharedWord {
    static_assert(std::atomic<T>::is_always_lock_free, "address-free between processes");

  public:
    T load() const noexcept { return word_.load(std::memory_order_relaxed); }
    T load_acquire() const noexcept { return word_.load(std::memory_order_acquire); }
    void store(T value) noexcept {
        before_store();
        word_.store(value, std::memory_order_relaxed);
    }
    void store_release(T value) noexcept {
        before_store();
        word_.store(value, std::memory_order_release);
    }
    bool swap_if(T& expected, T value) noexcept {
        before_store();
        return word_.compare_exchange_weak(expected, value, std::memory_order_acq_rel,
                                           std::memory_order_relaxed);
    }

  private:
    static void before_store() noexcept {
#if defined(SG_TEST_STORES)
        if (sg_on_store != nullptr) {
            sg_on_store();
        }
#endif
    }

    std::atomic<T> word_;
};

// A sequence word is odd while what it guards is being written (seqlock; H.-J. Boehm, "Can seqlocks
// get along with programming language memory models?", MSPC 2012). Writers hold the shard's mutex.
class SequenceWord {
  public:
    void begin_write() noexcept {
        word_.store(word_.load() | 1u);
        std::atomic_thread_fence(std::memory_order_release);
    }
    void end_write() noexcept { word_.store_release((word_.load() | 1u) + 1); }
    bool is_odd() const noexcept { return (word_.load() & 1u) != 0; }

    std::uint32_t begin_read() const noexcept { return word_.load_acquire(); }
    // True when nothing was written since begin_read, which must have returned an even value.
    bool unchanged(std::uint32_t begun) const noexcept {
        std::atomic_thread_fence(std::memory_order_acquire);
        return (begun & 1u) == 0 && word_.load() == begun;
    }

  private:
    SharedWord<std::uint32_t> word_;
};

}  // namespace sg
