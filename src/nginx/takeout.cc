#include "nginx/takeout.h"

#include <new>

#include "core/web/cookie.h"
#include "nginx/identity.h"
#include "nginx/request_headers.h"
#include "nginx/str.h"

namespace sg::ngx {
namespace {

RealmConf* realm_of_cookie(const MainConf& conf, std::string_view name) noexcept {
    for (RealmConf* const realm : conf.all_realms()) {
        if (realm->cookie.name == name) {
            return realm;
        }
    }
    return nullptr;
}

// False when memory is out. More than kMaxCandidates of one name: the rest is taken out unread.
[[gnu::always_inline]] inline bool present(ngx_http_request_t* r, RequestCtx& ctx,
                                           const RealmConf& realm,
                                           std::string_view value) noexcept {
    auto* presented = const_cast<Presented*>(find_presented(ctx, realm));
    if (presented == nullptr) {
        presented = add_presented(r, ctx, realm);
        if (presented == nullptr) {
            return false;
        }
    }
    Candidates& candidates = presented->candidates;
    if (candidates.count < kMaxCandidates) {
        candidates.values[candidates.count++] = value;
    }
    return true;
}

// Two words, which may overlap, at the beginning and the end of `prefix`.
template <typename Word>
bool same_ends(std::string_view text, std::string_view prefix) noexcept {
    const auto word = [](std::string_view from, std::size_t at) {
        return load_le<Word>(reinterpret_cast<const std::uint8_t*>(from.data()) + at);
    };
    const std::size_t last = prefix.size() - sizeof(Word);
    return word(text, 0) == word(prefix, 0) && word(text, last) == word(prefix, last);
}

// Prefixes ("name=") are short and asked about at every request.
bool begins_with(std::string_view text, std::string_view prefix) noexcept {
    const std::size_t size = prefix.size();
    if (text.size() < size || size < 4 || size > 16) {
        return text.starts_with(prefix);
    }
    return size < 8 ? same_ends<std::uint32_t>(text, prefix)
                    : same_ends<std::uint64_t>(text, prefix);
}

// What a browser with no other cookie sends, "name=TOKEN" and nothing else: nothing to copy.
bool is_ours_alone(ngx_http_request_t* r, const MainConf& conf, RequestCtx& ctx,
                   std::string_view value, bool& complete) noexcept {
    for (RealmConf* const realm : conf.all_realms()) {
        const std::size_t prefix = realm->cookie_prefix.len;
        if (value.size() == prefix + kTokenChars &&
            begins_with(value, view(realm->cookie_prefix)) &&
            value.find(';') == std::string_view::npos) {
            complete = present(r, ctx, *realm, value.substr(prefix));
            return true;
        }
    }
    return false;
}

// Cleans one Cookie header in place (its element stays where it is, with a new value).
bool clean_cookie_header(ngx_http_request_t* r, const MainConf& conf, RequestCtx& ctx, bool strip,
                         ngx_table_elt_t& header) noexcept {
    const std::string_view value = view(header.value);
    bool ours = false;
    bool complete = true;
    if (is_ours_alone(r, conf, ctx, value, complete)) {
        header.value.len = strip ? 0 : header.value.len;
        return complete;
    }
    const auto take = [&](std::string_view name, std::string_view cookie) {
        const RealmConf* const realm = realm_of_cookie(conf, name);
        if (realm == nullptr) {
            return false;
        }
        ours = true;
        complete = present(r, ctx, *realm, cookie) && complete;
        return true;
    };
    const std::span<char> kept = characters(r->pool, value.size() + 1);
    if (kept.empty()) {
        return false;
    }
    const std::size_t size = copy_without(value, kept, take);
    if (ours && strip) {
        kept[size] = '\0';
        header.value = str({kept.data(), size});
    }
    return complete;
}

// With `strip` off (an inner server that only the proxy itself reaches) the request stays as it
// came; the cookies are read all the same.
bool clean(ngx_http_request_t* r, const MainConf& conf, RequestCtx& ctx, bool strip) noexcept {
    bool complete = true;
    bool rebuild = false;
    bool others = false;
    for_each_request_header(r, [&](ngx_table_elt_t& header) {
        if (is_cookie(header)) {
            complete = clean_cookie_header(r, conf, ctx, strip, header) && complete;
            rebuild = rebuild || (strip && header.value.len == 0);
        } else {
            others = others || (strip && is_identity_name(conf, view(header.key)));
        }
    });
    if (!complete) {
        return false;
    }
    const auto drop = [&conf](const ngx_table_elt_t& header) {
        return is_cookie(header) ? header.value.len == 0 : is_identity_name(conf, view(header.key));
    };
    if (!rebuild && !others) {
        return true;
    }
    return (!others && drop_last_header_if_empty_cookie(r)) ||
           rebuild_request_headers(r, drop, {}) == NGX_OK;
}

[[gnu::noinline]] RequestCtx* first_take_out(ngx_http_request_t* r, const MainConf& conf) noexcept {
    RequestCtx* const ctx = create_request_ctx(r);
    if (ctx == nullptr || r->headers_in.headers.part.elts == nullptr) {
        return ctx;
    }
    if (clean(r, conf, *ctx, server_conf(r)->strip != 0)) {
        return ctx;
    }
    forget_request_ctx(r);  // half done is not done: the page of the error 500 takes out again
    return nullptr;
}

}  // namespace

// Asked five times a request: only the first time has anything to do.
RequestCtx* take_out(ngx_http_request_t* r) noexcept {
    if (RequestCtx* const ctx = find_request_ctx(r)) {
        return ctx;
    }
    const MainConf& conf = *main_conf(r);
    return conf.in_use ? first_take_out(r, conf) : nullptr;
}

ngx_int_t take_out_handler(ngx_http_request_t* r) noexcept {
    if (request_ctx_in_place(r) != nullptr || !main_conf(r)->in_use || take_out(r) != nullptr) {
        return NGX_DECLINED;
    }
    return NGX_HTTP_INTERNAL_SERVER_ERROR;
}

ngx_int_t post_read_handler(ngx_http_request_t* r) noexcept {
    const MainConf& conf = *main_conf(r);
    if (!conf.in_use || request_ctx_in_place(r) != nullptr || first_take_out(r, conf) != nullptr) {
        return NGX_DECLINED;
    }
    return NGX_HTTP_INTERNAL_SERVER_ERROR;
}

}  // namespace sg::ngx
