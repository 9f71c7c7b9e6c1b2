#include "nginx/realm_limit.h"

#include <algorithm>

#include "core/roster.h"
#include "nginx/conf.h"
#include "nginx/conf_text.h"

namespace sg::ngx {
namespace {

bool parse_evict(std::string_view text, Evict& evict) noexcept {
    if (text == "oldest") {
        evict = Evict::oldest;
    } else if (text == "idlest") {
        evict = Evict::idlest;
    } else if (text == "deny") {
        evict = Evict::deny;
    } else {
        return false;
    }
    return true;
}

bool is_role(std::string_view role) noexcept {
    return !role.empty() && role.size() <= RecordLimits::kRoleBytes &&
           std::ranges::all_of(role, [](char c) { return c > ' ' && c != 0x7f; });
}

bool parse_most(ngx_conf_t* cf, const ngx_str_t& word, std::size_t& most) noexcept {
    const ngx_int_t parsed = ngx_atoi(word.data, word.len);
    if (parsed == NGX_ERROR || parsed < 1 ||
        static_cast<std::size_t>(parsed) > kMostSessionsOfUser) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid number of sessions \"%V\": from 1 to %uz",
                           &word, kMostSessionsOfUser);
        return false;
    }
    most = static_cast<std::size_t>(parsed);
    return true;
}

}  // namespace

char* parse_session_limit(ngx_conf_t* cf, RealmConf& realm) noexcept {
    const std::span<ngx_str_t> word = words(cf);
    SessionLimit limit;
    if (!parse_most(cf, word[1], limit.most)) {
        return kConfError;
    }
    bool has_role = false;
    bool has_evict = false;
    for (const ngx_str_t& each : word.subspan(2)) {
        std::string_view value;
        if (!has_role && value_of(each, "role=", value) && is_role(value)) {
            limit.role = value;
            has_role = true;
        } else if (!has_evict && value_of(each, "evict=", value) &&
                   parse_evict(value, limit.evict)) {
            has_evict = true;
        } else {
            return invalid_parameter(cf, each);
        }
    }
    const auto same = [&limit](const SessionLimit& other) { return other.role == limit.role; };
    if (std::ranges::any_of(realm.core.limits, same)) {
        return is_duplicate();
    }
    const std::size_t count = realm.core.limits.size();
    if (count == realm.limits.size()) {
        return const_cast<char*>("is given too often");
    }
    realm.limits[count] = limit;
    realm.core.limits = std::span(realm.limits).first(count + 1);
    return NGX_CONF_OK;
}

}  // namespace sg::ngx
