// The closed list of outcomes.
#include "core/verdict.h"

#include "unit/support.h"

using namespace sg;
using namespace sg::test;

namespace {

struct Row {
    Status status;
    std::string_view name;
    unsigned http;
    bool expires_cookie;
};

// What pages, logs and dashboards rely on, written down a second time.
constexpr Row kRows[] = {
    {Status::none, "none", 401, false},
    {Status::valid, "valid", 200, false},
    {Status::malformed, "malformed", 401, true},
    {Status::forged, "forged", 401, true},
    {Status::unknown_key, "unknown_key", 401, false},
    {Status::absent, "absent", 401, true},
    {Status::expired_idle, "expired_idle", 401, true},
    {Status::expired_absolute, "expired_absolute", 401, true},
    {Status::ended, "ended", 401, true},
    {Status::regenerated, "regenerated", 401, false},
    {Status::ambiguous, "ambiguous", 401, true},
    {Status::insecure, "insecure", 403, false},
    {Status::csrf, "csrf", 403, false},
    {Status::limited, "limited", 403, false},
    {Status::store_unavailable, "store_unavailable", 503, false},
};
static_assert(std::size(kRows) == static_cast<std::size_t>(Status::store_unavailable) + 1);

// Would catch: a table that slipped by a line, so that every refusal has its neighbour's name; and
// a store in trouble, an unknown key or a running regeneration that costs the user the cookie.
void every_status_has_its_name_answer_and_cookie_rule(void**) {
    for (const Row& row : kRows) {
        assert_text(status_name(row.status), row.name);
        assert_int_equal(http_status(row.status), row.http);
        assert_int_equal(may_expire_cookie(row.status), row.expires_cookie);
        assert_false(status_title(row.status).empty());
    }
}

// Would catch: two outcomes that a log reader cannot tell apart.
void every_name_is_unique_and_fits_a_header(void**) {
    for (const Row& a : kRows) {
        for (const Row& b : kRows) {
            assert_int_equal(status_name(a.status) == status_name(b.status), a.status == b.status);
        }
        for (const char c : status_name(a.status)) {
            assert_true((c >= 'a' && c <= 'z') || c == '_');
        }
    }
}

// Would catch: a verdict about several cookies that depends on their order.
void more_telling_does_not_depend_on_the_order(void**) {
    for (const Row& a : kRows) {
        for (const Row& b : kRows) {
            if (a.status == Status::valid || b.status == Status::valid) {
                continue;  // only refusals are compared
            }
            const Status one = more_telling(a.status, b.status);
            assert_status(one, more_telling(b.status, a.status));
            assert_true(one == a.status || one == b.status);
            for (const Row& c : kRows) {
                if (c.status == Status::valid) {
                    continue;
                }
                assert_status(more_telling(one, c.status),
                              more_telling(a.status, more_telling(b.status, c.status)));
            }
        }
    }
}

// Would catch: "not logged in" beside an expired session, and a 401 where the store is in trouble.
void an_expired_session_tells_more_than_rubbish_and_a_store_in_trouble_most(void**) {
    assert_status(more_telling(Status::malformed, Status::expired_idle), Status::expired_idle);
    assert_status(more_telling(Status::ended, Status::forged), Status::ended);
    assert_status(more_telling(Status::none, Status::malformed), Status::malformed);
    for (const Row& row : kRows) {
        assert_status(more_telling(row.status, Status::store_unavailable),
                      Status::store_unavailable);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_its_name_answer_and_cookie_rule),
        cmocka_unit_test(every_name_is_unique_and_fits_a_header),
        cmocka_unit_test(more_telling_does_not_depend_on_the_order),
        cmocka_unit_test(an_expired_session_tells_more_than_rubbish_and_a_store_in_trouble_most),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
