// The configuration as the request path sees it. Three lifetimes, three kinds of names: *Conf lives
// in the configuration cycle (cf->pool), Zone* in shared memory, *Ctx (request_ctx.h) in a request.
#pragma once

#include "nginx/ngx.h"

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/keys.h"
#include "core/realm.h"
#include "core/web/control.h"
#include "core/web/set_cookie.h"
#include "nginx/old_zones.h"
#include "nginx/zone.h"

namespace sg::ngx {

// One `identity Header=value`.
struct IdentityHeader {
    ngx_str_t name;
    ngx_str_t lowcase;
    ngx_uint_t hash;
    ngx_http_complex_value_t value;
};

// One way our cookie is or was set; an expiry must repeat the same Path and Domain to take effect.
struct CookieVariant {
    std::string_view path;
    std::string_view domain;
    ngx_str_t expiry;  // complete Set-Cookie value
};

enum class SecureMode : std::uint8_t { on, off, assumed };

struct StoreConf;  // tier/store_conf.h

// One session_realm block. Constructed in cf->pool with a cleanup that runs the destructor.
struct RealmConf {
    ngx_str_t name{};
    ngx_uint_t index = 0;
    bool generated_key = false;

    CookieAttributes cookie;
    SecureMode secure = SecureMode::on;
    ngx_str_t cookie_prefix{};               // "name="
    ngx_str_t cookie_suffix{};               // "; Path=/; ..."
    ngx_str_t first_cookie_suffix{};         // of a login's
    ngx_array_t* cookie_variants = nullptr;  // of CookieVariant, the current one first
    ngx_array_t* formerly = nullptr;         // of CookieVariant, from formerly=

    ngx_array_t* origins = nullptr;   // of std::string_view, normalised
    ngx_array_t* identity = nullptr;  // of IdentityHeader
    std::size_t max_data = 0;

    StoreConf* store = nullptr;  // none: the zone alone

    ngx_shm_zone_t* zone = nullptr;
    ZoneRoot* shared = nullptr;  // set when the zone is initialised

    KeyFile key_file;  // wiped once the key ring is loaded
    KeyRing keys;
    std::optional<Table> table;
    std::array<SessionLimit, kMostSessionLimits> limits;
    OldZones old_zones;  // of this realm, from before a change of its size
    Realm core;          // what core/ works with; complete once the zone is initialised

    std::span<const std::string_view> own_origins() const noexcept {
        if (origins == nullptr) {
            return {};
        }
        return {static_cast<const std::string_view*>(origins->elts), origins->nelts};
    }
    std::span<IdentityHeader> identity_headers() const noexcept {
        if (identity == nullptr) {
            return {};
        }
        return {static_cast<IdentityHeader*>(identity->elts), identity->nelts};
    }
};

// http{}: all realms, and what the take-out looks for in every request of every server.
struct MainConf {
    ngx_array_t realms;  // of RealmConf*
    // Names of all identity headers, lower case, every other character than a letter or digit as
    // '-'.
    ngx_array_t identity_names;      // of ngx_str_t
    std::uint64_t identity_lengths;  // bit n: a name of n bytes exists (63: that or longer)
    ngx_uint_t preaccess_index;      // of our handler in the phase engine; see is_clone
    ngx_int_t sent_cookie_index;     // of $sent_http_set_cookie
    bool in_use;                     // some realm exists

    std::span<RealmConf*> all_realms() const noexcept {
        return {static_cast<RealmConf**>(realms.elts), realms.nelts};
    }
};

struct ServerConf {
    ngx_flag_t strip;
};

enum class SessionMode : ngx_uint_t { off, optional, required };

// The bits of `session_control on`.
inline constexpr ngx_uint_t kAllVerbs = (1u << 5) - 1;

struct LocationConf {
    // `session`: inherited as a whole. The realm is looked up by name when levels are merged, so
    // that a realm may be declared after its use.
    ngx_uint_t mode;  // SessionMode
    ngx_str_t realm_name;
    RealmConf* realm;
    ngx_str_t file;  // where `session` stands, for messages
    ngx_uint_t line;

    ngx_uint_t control;  // verb_bit()s
    ngx_str_t login;     // data == nullptr: none; session_login
    ngx_str_t login_file;
    ngx_uint_t login_line;
    ngx_flag_t touch;
    ngx_flag_t csrf;
    ngx_flag_t cache;
    ngx_uint_t long_lived;     // kCutLongLived, kClientBytes
    ngx_int_t on_store_error;  // grace in ms; 0: closed
    TimeMs grace;              // the same, once the levels are merged

    // Content handlers; not inherited.
    ngx_http_handler_pt handler;
    ngx_str_t handler_file;
    ngx_uint_t handler_line;
    ngx_flag_t is_logout;
    ngx_str_t logout_return;
    ngx_str_t clear_site_data;
    ngx_flag_t is_info;
    ngx_array_t* status_from;  // of ngx_cidr_t: who may ask; session_status

    ngx_flag_t warned_bypass;  // per worker: answered without a pass, said once
    ngx_http_core_loc_conf_t* core;
};

// session_long_lived
inline constexpr ngx_uint_t kCutLongLived = 1;
inline constexpr ngx_uint_t kClientBytes = 2;

inline MainConf* main_conf(ngx_http_request_t* r) noexcept {
    return static_cast<MainConf*>(ngx_http_get_module_main_conf(r, ngx_http_session_guard_module));
}
inline ServerConf* server_conf(ngx_http_request_t* r) noexcept {
    return static_cast<ServerConf*>(ngx_http_get_module_srv_conf(r, ngx_http_session_guard_module));
}
inline LocationConf* location_conf(ngx_http_request_t* r) noexcept {
    return static_cast<LocationConf*>(
        ngx_http_get_module_loc_conf(r, ngx_http_session_guard_module));
}

// realm_conf.cc
char* session_realm_block(ngx_conf_t* cf, ngx_command_t* cmd, void* conf) noexcept;
RealmConf* find_realm(const MainConf& conf, const ngx_str_t& name) noexcept;
void* create_main_conf(ngx_conf_t* cf) noexcept;

// location_conf.cc
extern ngx_command_t commands[];
void* create_server_conf(ngx_conf_t* cf) noexcept;
char* merge_server_conf(ngx_conf_t* cf, void* parent, void* child) noexcept;
void* create_location_conf(ngx_conf_t* cf) noexcept;
char* merge_location_conf(ngx_conf_t* cf, void* parent, void* child) noexcept;

// location_conf.cc: makes `handler` this location's content handler. What is returned ends the
// directive.
char* install_handler(ngx_conf_t* cf, LocationConf& conf, ngx_http_handler_pt handler) noexcept;

// location_check.cc: refuses a session_login that leads to a location which demands a session.
ngx_int_t check_logins(ngx_conf_t* cf) noexcept;

}  // namespace sg::ngx
