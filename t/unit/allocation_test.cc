// No allocation in core/ while a request is handled. This binary's malloc is its own and counts;
// what OpenSSL allocates inside an HMAC (only on a miss and at login) is counted apart.
#include <openssl/crypto.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <string>

#include "core/base64url.h"
#include "core/web/cookie.h"
#include "core/web/set_cookie.h"
#include "unit/support.h"

namespace {

// Plain numbers: used before any constructor has run. One thread. volatile: the compiler believes
// that malloc changes no variable.
volatile bool counting = false;
volatile long calls = 0;          // of malloc, calloc, realloc, free and their relatives
volatile long openssl_calls = 0;  // those of them that OpenSSL made

void count() {
    if (counting) {
        calls = calls + 1;
    }
}

}  // namespace

#if defined(__SANITIZE_ADDRESS__)

// sanitizer/allocator_interface.h, which comes with clang only
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void*,
                                                                           size_t),
                                                         void (*on_free)(const volatile void*));

namespace {
void on_malloc(const volatile void*, size_t) {
    count();
}
void on_free(const volatile void*) {
    count();
}
[[maybe_unused]] const int hooked = __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
}  // namespace

#else

extern "C" {

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t many, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
void __libc_free(void* memory);

void* malloc(size_t size) noexcept {
    count();
    return __libc_malloc(size);
}

void* calloc(size_t many, size_t size) noexcept {
    count();
    return __libc_calloc(many, size);
}

void* realloc(void* old, size_t size) noexcept {
    count();
    return __libc_realloc(old, size);
}

void* aligned_alloc(size_t alignment, size_t size) noexcept {
    count();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void** out, size_t alignment, size_t size) noexcept {
    count();
    *out = __libc_memalign(alignment, size);
    return *out != nullptr ? 0 : 12;
}

void free(void* memory) noexcept {
    count();
    __libc_free(memory);
}
}

#endif

using namespace sg;
using namespace sg::test;
using namespace std::string_view_literals;

namespace {

template <typename Make>
auto by_openssl(Make make) {
    if (counting) {
        openssl_calls = openssl_calls + 1;
    }
    return make();
}

void* openssl_malloc(size_t size, const char*, int) {
    return by_openssl([=] { return std::malloc(size); });
}

void* openssl_realloc(void* old, size_t size, const char*, int) {
    const long before = calls;
    void* const made = by_openssl([=] { return std::realloc(old, size); });
    calls = counting ? before + 1 : before;  // the sanitizer reports a realloc as two
    return made;
}

void openssl_free(void* memory, const char*, int) {
    if (memory == nullptr) {
        return;  // the sanitizer does not report these
    }
    by_openssl([=] { std::free(memory); });
}

struct Counted {
    long core;
    long openssl;
};

template <typename Work>
Counted count_in(Work work) {
    calls = 0;
    openssl_calls = 0;
    counting = true;
    work();
    counting = false;
    return {.core = calls - openssl_calls, .openssl = openssl_calls};
}

// Neither core nor OpenSSL.
#define assert_no_allocation(work)              \
    do {                                        \
        const Counted counted = count_in(work); \
        assert_int_equal(counted.core, 0);      \
        assert_int_equal(counted.openssl, 0);   \
    } while (0)

std::array<std::uint8_t, 64 * 1024> buffer;

// Would catch: a counter that counts nothing, which would make every test below true.
void the_counter_counts(void**) {
    static void* volatile sink;
    static std::unique_ptr<int> made;
    const auto expect = [](const char* what, long least, Counted counted) {
        if (counted.core < least) {
            fail_msg("%s: %ld", what, counted.core);
        }
    };
    expect("malloc", 2, count_in([] {
               sink = std::malloc(10);
               std::free(sink);
           }));
    expect("calloc", 2, count_in([] {
               sink = std::calloc(3, 10);
               std::free(sink);
           }));
    expect("realloc", 2, count_in([] {
               sink = std::realloc(nullptr, 10);
               std::free(sink);
           }));
    expect("aligned_alloc", 2, count_in([] {
               sink = std::aligned_alloc(64, 128);
               std::free(sink);
           }));
    expect("new", 2, count_in([] {
               made = std::make_unique<int>(1);
               made.reset();
           }));
    expect("string", 2, count_in([] {
               const std::string text(1000, 'x');
               sink = const_cast<char*>(text.data());
           }));
    const Counted openssl = count_in([] {
        sink = OPENSSL_malloc(100);
        OPENSSL_free(sink);
    });
    assert_int_equal(openssl.core, 0);
    assert_int_equal(openssl.openssl, 2);
    assert_int_equal(count_in([] {}).core, 0);
}

struct Sessions {
    Token live;
    Token large;
    Token old;
    Token fresh;
    Token idle;
    Token ended;
};

Sessions sessions() {
    fresh_world(256 * 1024, true);
    static std::array<std::uint8_t, 4000> packed;
    static const std::string value(3000, 'v');
    std::size_t used = 0;
    append_attribute(packed, used, "x", value);
    Record large = login_record();
    large.attributes = ByteView(packed).first(used);
    Sessions made;
    made.live = put_session(login_record());
    made.large = put_session(large);
    made.old = put_session(login_record());
    made.fresh = put_session(login_record());
    supersede(made.old, made.fresh, kNow + kRegenerationWindow);
    made.idle = put_session(login_record(kNow - kHour), kNow - kHour);
    made.ended = put_session(login_record());
    remove(made.ended, Departure::ended, kNow + kHour);
    return made;
}

// The verdict, with no allocation on the way.
Status quiet_status(std::initializer_list<Token> tokens) {
    static std::array<TokenText, kMaxCandidates> texts;
    Candidates candidates;
    for (const Token& token : tokens) {
        texts[candidates.count] = text_of(token);
        candidates.values[candidates.count] = texts[candidates.count];
        ++candidates.count;
    }
    static Outcome outcome;
    assert_no_allocation([&] { outcome = begin(world.realm, candidates, kNow, buffer); });
    return outcome.status;
}

// Would catch: the figure in docs/performance.md becoming untrue, and a request that fails for want
// of memory.
void a_known_session_is_let_in_without_allocation(void**) {
    const Sessions made = sessions();
    assert_status(quiet_status({made.live}), Status::valid);
    assert_status(quiet_status({made.large}), Status::valid);
    assert_status(quiet_status({made.live, made.live}), Status::valid);
    assert_status(quiet_status({made.live, made.large}), Status::ambiguous);
    assert_status(quiet_status({made.old}), Status::valid);
    assert_status(quiet_status({made.old, made.fresh}), Status::valid);
    assert_status(quiet_status({made.idle}), Status::expired_idle);
    assert_status(quiet_status({made.live, made.idle}), Status::valid);
    assert_status(quiet_status({}), Status::none);
}

// Would catch: a buffer for the record that core gets itself where the given one is too small.
void too_small_a_buffer_allocates_nothing(void**) {
    const Sessions made = sessions();
    static TokenText text;
    text = text_of(made.large);
    static Outcome outcome;
    const Candidates candidates = candidates_of({text});
    assert_no_allocation(
        [&] { outcome = begin(world.realm, candidates, kNow, ByteSpan(buffer).first(512)); });
    assert_int_equal(outcome.step, Outcome::Step::needs_buffer);
}

// Would catch: an attacker who makes a worker allocate. What OpenSSL does inside the HMAC is its
// own.
void a_refused_token_costs_no_memory_of_core(void**) {
    const Sessions made = sessions();
    Token forged = made.live;
    forged.tag[0] ^= 1;
    for (const Token& token : {forged, made.ended, genuine_token()}) {
        static TokenText text;
        text = text_of(token);
        const Candidates candidates = candidates_of({text});
        const Counted counted = count_in([&] { begin(world.realm, candidates, kNow, buffer); });
        assert_int_equal(counted.core, 0);
    }
    const Candidates rubbish = candidates_of({"rubbish"});
    assert_no_allocation([&] { begin(world.realm, rubbish, kNow, buffer); });
}

void touching_and_asking_again_allocate_nothing(void**) {
    const Sessions made = sessions();
    const Outcome outcome = ask({text_of(made.live)}, kNow);
    assert_no_allocation([&] {
        world.table->touch(outcome.session.slot.slot, kNow + kMinute);
        is_live(world.realm, made.live, kNow);
        holds_session(world.realm, made.large, kNow);
        world.table->find_tombstone(made.ended.handle, kNow);
    });
}

void taking_cookies_out_allocates_nothing(void**) {
    static constexpr std::string_view kHeader = "a=1; __Host-sid=abc; b=\"2\"; __Host-sid=def; c";
    static std::array<char, kHeader.size()> out;
    static std::size_t used;
    assert_no_allocation([] {
        used = copy_without(kHeader, out, [](std::string_view name, std::string_view) {
            return name == "__Host-sid";
        });
    });
    assert_text({out.data(), used}, "a=1; b=\"2\"; c");
}

void writing_a_cookie_allocates_nothing(void**) {
    const Token token = sessions().live;
    static std::array<char, 256> out;
    assert_no_allocation([&] {
        format_token(token, std::span(out).first<kTokenChars>());
        CookieAttributes cookie;
        cookie.name = "__Host-sid";
        format_attributes(cookie, out);
        PublicId id{};
        format_public_id(id, std::span(out).first<kPublicIdChars>());
    });
}

void parsing_the_control_header_allocates_nothing(void**) {
    for (const std::string_view header :
         {R"(create; user="alice"; roles="editor admin"; level=aal2; idle=60; data.theme="dark")"sv,
          R"(create; user=%"f%c3%bcr"; data.x=%"%e2%82%ac")"sv, R"(destroy)"sv,
          R"(update; data.x="")"sv, R"(create; user="ali)"sv, R"(launch)"sv,
          R"(create; user="a"; user="b")"sv}) {
        assert_no_allocation([&] {
            ControlError error;
            const std::size_t size = control_scratch_size(header);
            parse_control(header, kMaxData, ByteSpan(buffer).first(size), error);
        });
    }
}

// Would catch: core that allocates at login or change: the caller gives the work space.
void the_lifecycle_allocates_nothing_but_inside_openssl(void**) {
    fresh_world();
    static std::array<std::uint8_t, kWorkBytes> work;
    static Changed changed;
    const ControlCommand create = command(R"(create; user="alice"; roles="a b"; data.x="1")");
    const ControlCommand update = command(R"(update; data.x="2"; data.y="3")");
    const ControlCommand renew = command("renew");
    assert_int_equal(count_in([&] {
                         changed = open_session(world.realm, world.random, create, kNow, work);
                     }).core,
                     0);
    assert_int_equal(changed.result, Change::done);
    const Token first = *changed.token;
    assert_no_allocation([&] {
        changed =
            change_session(world.realm, world.random, first.handle, update, kMaxData, kNow, work);
    });
    assert_int_equal(changed.result, Change::done);
    assert_int_equal(count_in([&] {
                         changed = change_session(world.realm, world.random, first.handle, renew,
                                                  kMaxData, kNow, work);
                     }).core,
                     0);
    assert_int_equal(changed.result, Change::done);
    assert_no_allocation([&] { end_session(world.realm, first.handle, Departure::ended, kNow); });
    assert_false(is_live(world.realm, *changed.token, kNow));
}

}  // namespace

int main() {
    // Before OpenSSL's first allocation, or it refuses.
    if (CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) != 1) {
        return 1;
    }
    const CMUnitTest tests[] = {
        cmocka_unit_test(the_counter_counts),
        cmocka_unit_test(a_known_session_is_let_in_without_allocation),
        cmocka_unit_test(too_small_a_buffer_allocates_nothing),
        cmocka_unit_test(a_refused_token_costs_no_memory_of_core),
        cmocka_unit_test(touching_and_asking_again_allocate_nothing),
        cmocka_unit_test(taking_cookies_out_allocates_nothing),
        cmocka_unit_test(writing_a_cookie_allocates_nothing),
        cmocka_unit_test(parsing_the_control_header_allocates_nothing),
        cmocka_unit_test(the_lifecycle_allocates_nothing_but_inside_openssl),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
