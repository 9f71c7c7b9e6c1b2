// A session_login that leads to a location which itself demands a session would send browsers round
// in circles: found at nginx -t, by looking the address up the way ngx_http_core_find_location
// does.
#include "nginx/ngx.h"

#include <algorithm>

#include "nginx/conf.h"
#include "nginx/str.h"

namespace sg::ngx {
namespace {

// What is looked through: a server's own level, whose core configuration does not point to the
// others.
struct Server {
    const ngx_http_core_loc_conf_t* core;
    const LocationConf* guard;
};

const LocationConf& guard_conf(const Server& server,
                               const ngx_http_core_loc_conf_t* location) noexcept {
    if (location == server.core) {
        return *server.guard;
    }
    return *static_cast<const LocationConf*>(
        location->loc_conf[ngx_http_session_guard_module.ctx_index]);
}

struct Match {
    const ngx_http_core_loc_conf_t* location = nullptr;
    bool exact = false;
};

// The static location tree: nodes hold the part of the name below their parent (`tree`), see
// ngx_http_create_locations_tree (ngx_http.c).
Match find_static(const ngx_http_location_tree_node_t* node, std::string_view uri) noexcept {
    Match best;
    while (node != nullptr) {
        const std::string_view name(reinterpret_cast<const char*>(node->name), node->len);
        const std::size_t common = std::min(name.size(), uri.size());
        const int order = uri.substr(0, common).compare(name.substr(0, common));
        if (order != 0) {
            node = order < 0 ? node->left : node->right;
        } else if (uri.size() < name.size()) {
            node = node->left;
        } else if (uri.size() == name.size()) {
            return node->exact != nullptr ? Match{node->exact, true}
                                          : Match{node->inclusive, false};
        } else if (node->inclusive != nullptr) {
            best.location = node->inclusive;
            uri.remove_prefix(name.size());
            node = node->tree;
        } else {
            node = node->right;
        }
    }
    return best;
}

#if (NGX_PCRE)
const ngx_http_core_loc_conf_t* find_regex(const ngx_http_core_loc_conf_t* within,
                                           std::string_view uri) noexcept {
    if (within->regex_locations == nullptr) {
        return nullptr;
    }
    ngx_str_t text = str(uri);
    for (ngx_http_core_loc_conf_t** each = within->regex_locations; *each != nullptr; ++each) {
        if (ngx_regex_exec((*each)->regex->regex, &text, nullptr, 0) >= 0) {
            return *each;
        }
    }
    return nullptr;
}
#endif

// The same search as ngx_http_core_find_location; `exact`: outer locations are not asked any more.
Match find_location(const ngx_http_core_loc_conf_t* within, std::string_view uri) noexcept {
    const Match match = find_static(within->static_locations, uri);
    if (match.exact) {
        return match;
    }
    Match found{within, false};
    if (match.location != nullptr) {
        found = find_location(match.location, uri);
        if (found.exact) {
            return found;
        }
    }
#if (NGX_PCRE)
    const bool search = match.location == nullptr || !match.location->noregex;
    const auto* const regex = search ? find_regex(within, uri) : nullptr;
    if (regex != nullptr) {
        return {find_location(regex, uri).location, true};
    }
#endif
    return found;
}

ngx_int_t check_login(ngx_conf_t* cf, const Server& server, const LocationConf& conf) noexcept {
    const std::string_view uri = view(conf.login).substr(0, view(conf.login).find('?'));
    if (!uri.starts_with('/')) {
        return NGX_OK;
    }
    const ngx_http_core_loc_conf_t* const target = find_location(server.core, uri).location;
    const LocationConf& there = guard_conf(server, target);
    if (there.mode != static_cast<ngx_uint_t>(SessionMode::required)) {
        return NGX_OK;
    }
    ngx_log_error(
        NGX_LOG_EMERG, cf->log, 0,
        "session_login \"%V\" in %V:%ui leads to location \"%V\", which demands a session itself; "
        "make it \"session %V optional\"",
        &conf.login, &conf.login_file, conf.login_line, &target->name, &there.realm_name);
    return NGX_ERROR;
}

ngx_int_t check_location(ngx_conf_t* cf, const Server& server,
                         const ngx_http_core_loc_conf_t* location) noexcept;

ngx_int_t check_tree(ngx_conf_t* cf, const Server& server,
                     const ngx_http_location_tree_node_t* node) noexcept {
    if (node == nullptr) {
        return NGX_OK;
    }
    for (const auto* const location : {node->exact, node->inclusive}) {
        if (location != nullptr && check_location(cf, server, location) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    for (const auto* const next : {node->left, node->right, node->tree}) {
        if (check_tree(cf, server, next) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    return NGX_OK;
}

// The location itself, then the ones inside it.
ngx_int_t check_location(ngx_conf_t* cf, const Server& server,
                         const ngx_http_core_loc_conf_t* location) noexcept {
    const LocationConf& conf = guard_conf(server, location);
    if (conf.login.data != nullptr && conf.mode == static_cast<ngx_uint_t>(SessionMode::required) &&
        check_login(cf, server, conf) != NGX_OK) {
        return NGX_ERROR;
    }
#if (NGX_PCRE)
    if (location->regex_locations != nullptr) {
        for (ngx_http_core_loc_conf_t** each = location->regex_locations; *each != nullptr;
             ++each) {
            if (check_location(cf, server, *each) != NGX_OK) {
                return NGX_ERROR;
            }
        }
    }
#endif
    return check_tree(cf, server, location->static_locations);
}

}  // namespace

ngx_int_t check_logins(ngx_conf_t* cf) noexcept {
    const auto* const main = static_cast<const ngx_http_core_main_conf_t*>(
        ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module));
    auto** const servers = static_cast<ngx_http_core_srv_conf_t**>(main->servers.elts);
    for (ngx_uint_t i = 0; i < main->servers.nelts; ++i) {
        void** const confs = servers[i]->ctx->loc_conf;
        const Server server{
            static_cast<const ngx_http_core_loc_conf_t*>(confs[ngx_http_core_module.ctx_index]),
            static_cast<const LocationConf*>(confs[ngx_http_session_guard_module.ctx_index])};
        if (check_location(cf, server, server.core) != NGX_OK) {
            return NGX_ERROR;
        }
    }
    return NGX_OK;
}

}  // namespace sg::ngx
