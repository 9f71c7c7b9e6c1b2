// Directives of http, server and location, in manual order; where each default stands, once: the
// merges.
#include "nginx/ngx.h"

#include "nginx/conf.h"
#include "nginx/conf_text.h"
#include "nginx/endpoints/info.h"
#include "nginx/endpoints/logout.h"
#include "nginx/endpoints/status.h"
#include "nginx/long_lived/directive.h"

namespace sg::ngx {
namespace {

constexpr ngx_int_t kDefaultGrace = 2 * kMinute;

// session realm [optional] | off
char* session(ngx_conf_t* cf, ngx_command_t*, void* data) noexcept {
    auto& conf = *static_cast<LocationConf*>(data);
    if (conf.mode != NGX_CONF_UNSET_UINT) {
        return is_duplicate();
    }
    const std::span<ngx_str_t> word = words(cf);
    remember_place(cf, conf.file, conf.line);
    if (view(word[1]) == "off") {
        if (word.size() > 2) {
            return invalid_parameter(cf, word[2]);
        }
        conf.mode = static_cast<ngx_uint_t>(SessionMode::off);
        return NGX_CONF_OK;
    }
    conf.realm_name = word[1];
    conf.mode = static_cast<ngx_uint_t>(SessionMode::required);
    if (word.size() > 2) {
        if (view(word[2]) != "optional") {
            return invalid_parameter(cf, word[2]);
        }
        conf.mode = static_cast<ngx_uint_t>(SessionMode::optional);
    }
    return NGX_CONF_OK;
}

// session_control verb... | on | off
char* session_control(ngx_conf_t* cf, ngx_command_t*, void* data) noexcept {
    auto& conf = *static_cast<LocationConf*>(data);
    if (conf.control != NGX_CONF_UNSET_UINT) {
        return is_duplicate();
    }
    const std::span<ngx_str_t> word = words(cf);
    conf.control = 0;
    for (const ngx_str_t& each : word.subspan(1)) {
        const std::string_view text = view(each);
        if (text == "off" && word.size() == 2) {
            return NGX_CONF_OK;
        }
        ngx_uint_t bits = text == "on" ? kAllVerbs : 0;
        for (const ControlVerb verb : {ControlVerb::create, ControlVerb::update, ControlVerb::renew,
                                       ControlVerb::reauth, ControlVerb::destroy}) {
            bits |= text == verb_name(verb) ? verb_bit(verb) : 0;
        }
        if (bits == 0) {
            return invalid_parameter(cf, each);
        }
        conf.control |= bits;
    }
    return NGX_CONF_OK;
}

// session_login uri | off
char* session_login(ngx_conf_t* cf, ngx_command_t*, void* data) noexcept {
    auto& conf = *static_cast<LocationConf*>(data);
    if (conf.login.len != NGX_CONF_UNSET_SIZE) {
        return is_duplicate();
    }
    const ngx_str_t& uri = words(cf)[1];
    const std::string_view text = view(uri);
    if (text == "off") {
        conf.login = ngx_null_string;
        return NGX_CONF_OK;
    }
    const bool local = text.starts_with('/') && !text.starts_with("//");
    if (!local && !text.starts_with("https://") && !text.starts_with("http://")) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid login address \"%V\": a path of this server, or http(s)://...",
                           &uri);
        return kConfError;
    }
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte <= ' ' || byte >= 0x7f || c == '"' || c == '<' || c == '>' || c == '\\' ||
            c == '#') {
            ngx_conf_log_error(
                NGX_LOG_EMERG, cf, 0,
                "invalid login address \"%V\": characters that do not belong in a URI", &uri);
            return kConfError;
        }
    }
    conf.login = uri;
    remember_place(cf, conf.login_file, conf.login_line);
    return NGX_CONF_OK;
}

// closed | grace=time
char* session_on_store_error(ngx_conf_t* cf, ngx_command_t*, void* data) noexcept {
    auto& conf = *static_cast<LocationConf*>(data);
    if (conf.on_store_error != NGX_CONF_UNSET) {
        return is_duplicate();
    }
    ngx_str_t& word = words(cf)[1];
    std::string_view value;
    if (view(word) == "closed") {
        conf.on_store_error = 0;
        return NGX_CONF_OK;
    }
    if (!value_of(word, "grace=", value)) {
        return invalid_parameter(cf, word);
    }
    ngx_str_t time = str(value);
    conf.on_store_error = ngx_parse_time(&time, 0);
    return conf.on_store_error != NGX_ERROR ? NGX_CONF_OK : invalid_parameter(cf, word);
}

ngx_int_t unknown_realm(ngx_conf_t* cf, const LocationConf& conf) noexcept {
    ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "unknown session realm \"%V\" in %V:%ui",
                  &conf.realm_name, &conf.file, conf.line);
    return NGX_ERROR;
}

// `session` with the realm resolved; a content handler makes its location optional.
ngx_int_t merge_session(ngx_conf_t* cf, const LocationConf& parent, LocationConf& conf) noexcept {
    if (conf.mode == NGX_CONF_UNSET_UINT) {
        conf.mode = parent.mode;
        conf.realm_name = parent.realm_name;
        conf.file = parent.file;
        conf.line = parent.line;
    }
    if (conf.mode == NGX_CONF_UNSET_UINT) {
        conf.mode = static_cast<ngx_uint_t>(SessionMode::off);
    }
    if (conf.mode == static_cast<ngx_uint_t>(SessionMode::off)) {
        return NGX_OK;
    }
    const auto* const main = static_cast<const MainConf*>(
        ngx_http_conf_get_module_main_conf(cf, ngx_http_session_guard_module));
    conf.realm = find_realm(*main, conf.realm_name);
    return conf.realm != nullptr ? NGX_OK : unknown_realm(cf, conf);
}

const char* handler_name(const LocationConf& conf) noexcept {
    if (conf.status_from != nullptr) {
        return "session_status";
    }
    return conf.is_logout ? "session_logout" : "session_info";
}

// A later proxy_pass would take the location over without a word, and logout would end nothing.
ngx_int_t check_content_handlers(ngx_conf_t* cf, LocationConf& conf) noexcept {
    if (conf.handler == nullptr) {
        return NGX_OK;
    }
    const bool is_status = conf.status_from != nullptr;
    const char* const problem = conf.core->handler != conf.handler ? "and another content handler"
                                : conf.realm == nullptr && !is_status ? "but no \"session\" realm"
                                                                      : nullptr;
    if (problem != nullptr) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "location \"%V\" has \"%s\" %s in %V:%ui",
                      &conf.core->name, handler_name(conf), problem, &conf.handler_file,
                      conf.handler_line);
        return NGX_ERROR;
    }
    if (!is_status) {
        conf.mode = static_cast<ngx_uint_t>(SessionMode::optional);
    }
    return NGX_OK;
}

}  // namespace

ngx_command_t commands[] = {
    {ngx_string("session_realm"), NGX_HTTP_MAIN_CONF | NGX_CONF_BLOCK | NGX_CONF_TAKE1,
     session_realm_block, NGX_HTTP_MAIN_CONF_OFFSET, 0, nullptr},

    {ngx_string("session"),
     NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE12, session,
     NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},

    {ngx_string("session_control"),
     NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_1MORE, session_control,
     NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},

    {ngx_string("session_login"),
     NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1, session_login,
     NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},

    {ngx_string("session_touch"),
     NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_FLAG,
     ngx_conf_set_flag_slot, NGX_HTTP_LOC_CONF_OFFSET, offsetof(LocationConf, touch), nullptr},

    {ngx_string("session_csrf"),
     NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_FLAG,
     ngx_conf_set_flag_slot, NGX_HTTP_LOC_CONF_OFFSET, offsetof(LocationConf, csrf), nullptr},

    {ngx_string("session_on_store_error"),
     NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1,
     session_on_store_error, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("session_cache"),
     NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_FLAG,
     ngx_conf_set_flag_slot, NGX_HTTP_LOC_CONF_OFFSET, offsetof(LocationConf, cache), nullptr},

    {ngx_string("session_long_lived"),
     NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE12,
     session_long_lived, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},

    {ngx_string("session_strip"), NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_CONF_FLAG,
     ngx_conf_set_flag_slot, NGX_HTTP_SRV_CONF_OFFSET, offsetof(ServerConf, strip), nullptr},

    {ngx_string("session_logout"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS | NGX_CONF_TAKE12,
     session_logout, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},

    {ngx_string("session_status"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS | NGX_CONF_TAKE1,
     session_status, NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},
    {ngx_string("session_info"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS, session_info,
     NGX_HTTP_LOC_CONF_OFFSET, 0, nullptr},

    ngx_null_command,
};

char* install_handler(ngx_conf_t* cf, LocationConf& conf, ngx_http_handler_pt handler) noexcept {
    auto* const core = static_cast<ngx_http_core_loc_conf_t*>(
        ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module));
    if (core->handler != nullptr) {
        return const_cast<char*>("is incompatible with another content handler");
    }
    core->handler = handler;
    conf.handler = handler;
    remember_place(cf, conf.handler_file, conf.handler_line);
    return NGX_CONF_OK;
}

void* create_server_conf(ngx_conf_t* cf) noexcept {
    auto* const conf = static_cast<ServerConf*>(ngx_pcalloc(cf->pool, sizeof(ServerConf)));
    if (conf != nullptr) {
        conf->strip = NGX_CONF_UNSET;
    }
    return conf;
}

char* merge_server_conf(ngx_conf_t*, void* parent, void* child) noexcept {
    const auto& outer = *static_cast<const ServerConf*>(parent);
    auto& conf = *static_cast<ServerConf*>(child);
    ngx_conf_merge_value(conf.strip, outer.strip, 1);
    return NGX_CONF_OK;
}

void* create_location_conf(ngx_conf_t* cf) noexcept {
    auto* const conf = static_cast<LocationConf*>(ngx_pcalloc(cf->pool, sizeof(LocationConf)));
    if (conf == nullptr) {
        return nullptr;
    }
    conf->mode = NGX_CONF_UNSET_UINT;
    conf->control = NGX_CONF_UNSET_UINT;
    conf->login.len = NGX_CONF_UNSET_SIZE;
    conf->touch = NGX_CONF_UNSET;
    conf->csrf = NGX_CONF_UNSET;
    conf->cache = NGX_CONF_UNSET;
    conf->long_lived = NGX_CONF_UNSET_UINT;
    conf->on_store_error = NGX_CONF_UNSET;
    return conf;
}

char* merge_location_conf(ngx_conf_t* cf, void* parent, void* child) noexcept {
    const auto& outer = *static_cast<const LocationConf*>(parent);
    auto& conf = *static_cast<LocationConf*>(child);
    conf.core = static_cast<ngx_http_core_loc_conf_t*>(
        ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module));
    // `if` and `limit_except` blocks keep the content handler of the location around them.
    if (conf.core->noname && !conf.is_logout && !conf.is_info && conf.status_from == nullptr) {
        conf.status_from = outer.status_from;
        conf.is_logout = outer.is_logout;
        conf.logout_return = outer.logout_return;
        conf.clear_site_data = outer.clear_site_data;
        conf.is_info = outer.is_info;
    }
    if (merge_session(cf, outer, conf) != NGX_OK || check_content_handlers(cf, conf) != NGX_OK) {
        return kConfError;
    }
    ngx_conf_merge_uint_value(conf.control, outer.control, 0);
    if (conf.login.len == NGX_CONF_UNSET_SIZE) {
        conf.login = outer.login;
        conf.login_file = outer.login_file;
        conf.login_line = outer.login_line;
    }
    if (conf.login.len == NGX_CONF_UNSET_SIZE) {
        conf.login = ngx_null_string;
    }
    ngx_conf_merge_value(conf.touch, outer.touch, 1);
    ngx_conf_merge_value(conf.csrf, outer.csrf, 1);
    ngx_conf_merge_value(conf.cache, outer.cache, 0);
    ngx_conf_merge_uint_value(conf.long_lived, outer.long_lived, kCutLongLived);
    ngx_conf_merge_value(conf.on_store_error, outer.on_store_error, kDefaultGrace);
    conf.grace = conf.on_store_error;
    return NGX_CONF_OK;
}

}  // namespace sg::ngx
