#include "nginx/variables.h"

#include "core/web/return_url.h"
#include "nginx/clock.h"
#include "nginx/request_ctx.h"
#include "nginx/str.h"

namespace sg::ngx {
namespace {

enum class Variable : std::uintptr_t {
    user,
    roles,
    id,
    created,
    last_seen,
    idle_left,
    absolute_left,
    auth_age,
    level,
};

void set(ngx_http_variable_value_t* out, std::string_view text) noexcept {
    out->len = static_cast<unsigned>(text.size());
    out->data = reinterpret_cast<u_char*>(const_cast<char*>(text.data()));
    out->valid = 1;
    out->no_cacheable = 1;
    out->not_found = 0;
}

void set_nothing(ngx_http_variable_value_t* out) noexcept {
    set(out, {});
    out->not_found = 1;
    out->valid = 0;
}

ngx_int_t set_number(ngx_http_request_t* r, ngx_http_variable_value_t* out,
                     TimeMs number) noexcept {
    const std::span<char> text = characters(r->pool, NGX_INT64_LEN);
    if (text.empty()) {
        return NGX_ERROR;
    }
    auto* const begin = reinterpret_cast<u_char*>(text.data());
    const u_char* const end = ngx_sprintf(begin, "%L", static_cast<std::int64_t>(number));
    set(out, {text.data(), static_cast<std::size_t>(end - begin)});
    return NGX_OK;
}

const Pass* pass_of(ngx_http_request_t* r) noexcept {
    const RequestCtx* const ctx = find_request_ctx(r);
    const Pass* const pass = ctx != nullptr ? current_pass(r, *ctx) : nullptr;
    // After an internal redirect, until the new location has been entered, nobody is known here.
    return pass != nullptr && pass->conf == location_conf(r) ? pass : nullptr;
}

// The session a variable speaks of: known, and not refused since.
const Session* session_of(ngx_http_request_t* r) noexcept {
    const Pass* const pass = pass_of(r);
    const bool good = pass != nullptr && pass->status == Status::valid && !pass->refused;
    return good ? &pass->session : nullptr;
}

std::string_view level_name(Level level) noexcept {
    switch (level) {
        case Level::aal1:
            return "aal1";
        case Level::aal2:
            return "aal2";
        case Level::aal3:
            return "aal3";
    }
    return "";
}

ngx_int_t set_public_id(ngx_http_request_t* r, ngx_http_variable_value_t* out,
                        const Session& session) noexcept {
    const std::span<char> text = characters(r->pool, kPublicIdChars);
    if (text.empty()) {
        return NGX_ERROR;
    }
    format_public_id(session.record.public_id, text.first<kPublicIdChars>());
    set(out, {text.data(), text.size()});
    return NGX_OK;
}

ngx_int_t get_session_value(ngx_http_request_t* r, ngx_http_variable_value_t* out,
                            uintptr_t data) noexcept {
    const Session* const session = session_of(r);
    if (session == nullptr) {
        set_nothing(out);
        return NGX_OK;
    }
    const TimeMs now = now_ms();
    switch (static_cast<Variable>(data)) {
        case Variable::user:
            set(out, session->record.user);
            return NGX_OK;
        case Variable::roles:
            set(out, session->record.roles);
            return NGX_OK;
        case Variable::level:
            set(out, level_name(session->record.level));
            return NGX_OK;
        case Variable::id:
            return set_public_id(r, out, *session);
        case Variable::created:
            return set_number(r, out, session->record.created / kSecond);
        case Variable::last_seen:
            return set_number(r, out, session->ages.last_seen / kSecond);
        case Variable::idle_left:
            return set_number(r, out, idle_left(session->ages, session->timeouts, now) / kSecond);
        case Variable::absolute_left:
            return set_number(r, out,
                              absolute_left(session->ages, session->timeouts, now) / kSecond);
        case Variable::auth_age:
            return set_number(r, out, age(session->record.authenticated, now) / kSecond);
    }
    set_nothing(out);
    return NGX_OK;
}

ngx_int_t get_status(ngx_http_request_t* r, ngx_http_variable_value_t* out, uintptr_t) noexcept {
    const RequestCtx* const ctx = find_request_ctx(r);
    const Pass* const pass = pass_of(r);
    if (pass != nullptr && pass->conf->realm != nullptr) {
        set(out, status_name(pass->status));
    } else if (ctx != nullptr && ctx->refusal_code != 0 && r == r->main) {
        set(out, status_name(ctx->refusal));  // we are on the error page of the refusal
    } else {
        set_nothing(out);
    }
    return NGX_OK;
}

// The status, but only when the request was refused; or why it was cut off.
ngx_int_t get_reason(ngx_http_request_t* r, ngx_http_variable_value_t* out, uintptr_t) noexcept {
    const RequestCtx* const ctx = find_request_ctx(r);
    const Pass* const pass = pass_of(r);
    if (ctx != nullptr && ctx->cut_for != Status::none) {
        set(out, status_name(ctx->cut_for));
    } else if (pass != nullptr && pass->refused) {
        set(out, status_name(pass->status));
    } else if (ctx != nullptr && r == r->main && ctx->refusal_code != 0) {
        set(out, status_name(ctx->refusal));
    } else {
        set_nothing(out);
    }
    return NGX_OK;
}

// $session_attr_NAME; `data` is the whole variable's name.
ngx_int_t get_attribute(ngx_http_request_t* r, ngx_http_variable_value_t* out,
                        uintptr_t data) noexcept {
    constexpr std::string_view kPrefix = "session_attr_";
    const std::string_view name =
        view(*reinterpret_cast<const ngx_str_t*>(data)).substr(kPrefix.size());
    const Session* const session = session_of(r);
    const auto value =
        session != nullptr ? find_attribute(session->record.attributes, name) : std::nullopt;
    if (value) {
        set(out, *value);
    } else {
        set_nothing(out);
    }
    return NGX_OK;
}

// $session_return: the request's argument `return`, decoded, when it is a path of the own origin;
// else "/".
ngx_int_t get_return(ngx_http_request_t* r, ngx_http_variable_value_t* out, uintptr_t) noexcept {
    char name[] = "return";
    ngx_str_t value;
    set(out, "/");
    if (ngx_http_arg(r, reinterpret_cast<u_char*>(name), sizeof name - 1, &value) != NGX_OK) {
        return NGX_OK;
    }
    const std::span<char> text = characters(r->pool, value.len + 1);
    if (text.empty()) {
        return NGX_ERROR;
    }
    const std::size_t size = percent_decode(view(value), text);
    if (size <= value.len && is_own_origin_path({text.data(), size})) {
        set(out, {text.data(), size});
    }
    return NGX_OK;
}

struct Definition {
    std::string_view name;
    ngx_http_get_variable_pt get;
    std::uintptr_t data;
    ngx_uint_t flags;
};

constexpr std::uintptr_t number(Variable variable) noexcept {
    return static_cast<std::uintptr_t>(variable);
}

constexpr std::array<Definition, 13> kVariables{{
    {"session_status", get_status, 0, NGX_HTTP_VAR_NOCACHEABLE},
    {"session_reason", get_reason, 0, NGX_HTTP_VAR_NOCACHEABLE},
    {"session_return", get_return, 0, NGX_HTTP_VAR_NOCACHEABLE},
    {"session_user", get_session_value, number(Variable::user), NGX_HTTP_VAR_NOCACHEABLE},
    {"session_roles", get_session_value, number(Variable::roles), NGX_HTTP_VAR_NOCACHEABLE},
    {"session_level", get_session_value, number(Variable::level), NGX_HTTP_VAR_NOCACHEABLE},
    {"session_id", get_session_value, number(Variable::id), NGX_HTTP_VAR_NOCACHEABLE},
    {"session_created", get_session_value, number(Variable::created), NGX_HTTP_VAR_NOCACHEABLE},
    {"session_last_seen", get_session_value, number(Variable::last_seen), NGX_HTTP_VAR_NOCACHEABLE},
    {"session_idle_left", get_session_value, number(Variable::idle_left), NGX_HTTP_VAR_NOCACHEABLE},
    {"session_absolute_left", get_session_value, number(Variable::absolute_left),
     NGX_HTTP_VAR_NOCACHEABLE},
    {"session_auth_age", get_session_value, number(Variable::auth_age), NGX_HTTP_VAR_NOCACHEABLE},
    {"session_attr_", get_attribute, 0, NGX_HTTP_VAR_NOCACHEABLE | NGX_HTTP_VAR_PREFIX},
}};

}  // namespace

ngx_int_t add_variables(ngx_conf_t* cf) noexcept {
    for (const Definition& definition : kVariables) {
        ngx_str_t name = str(definition.name);
        ngx_http_variable_t* const variable = ngx_http_add_variable(cf, &name, definition.flags);
        if (variable == nullptr) {
            return NGX_ERROR;
        }
        variable->get_handler = definition.get;
        variable->data = definition.data;
    }
    return NGX_OK;
}

}  // namespace sg::ngx
