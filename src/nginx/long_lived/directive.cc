#include "nginx/long_lived/directive.h"

#include "nginx/conf.h"
#include "nginx/conf_text.h"

namespace sg::ngx {
namespace {

// One parameter: sets or clears `bit`; a parameter that was there before is refused like a wrong
// one.
bool take(const ngx_str_t& word, std::string_view name, std::string_view on, std::string_view off,
          ngx_uint_t bit, ngx_uint_t& seen, ngx_uint_t& bits) noexcept {
    std::string_view value;
    if (!value_of(word, name, value) || (value != on && value != off) || (seen & bit) != 0) {
        return false;
    }
    seen |= bit;
    bits = value == on ? bits | bit : bits & ~bit;
    return true;
}

}  // namespace

char* session_long_lived(ngx_conf_t* cf, ngx_command_t*, void* data) noexcept {
    auto& conf = *static_cast<LocationConf*>(data);
    if (conf.long_lived != NGX_CONF_UNSET_UINT) {
        return is_duplicate();
    }
    conf.long_lived = kCutLongLived;
    ngx_uint_t seen = 0;
    for (const ngx_str_t& word : words(cf).subspan(1)) {
        if (!take(word, "activity=", "client_bytes", "none", kClientBytes, seen, conf.long_lived) &&
            !take(word, "cut=", "on", "off", kCutLongLived, seen, conf.long_lived)) {
            return invalid_parameter(cf, word);
        }
    }
    return NGX_CONF_OK;
}

}  // namespace sg::ngx
