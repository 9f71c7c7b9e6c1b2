// The control header: what an application says about the session in its response,
//     X-Accel-Session: create; user="alice"; roles="editor admin"; level=aal2; data.theme="dark"
// an RFC 9651 structured field: an Item whose bare item is a Token (the verb), with Parameters.
// Parsed strictly: whatever this file does not understand is an error that says what and where.
//
//     create   user roles level idle absolute data.NAME    user is required
//     update   roles level data.NAME
//     reauth   level
//     renew    nothing
//     destroy  nothing
//
//     user        String or Display String
//     roles       String: names separated by spaces
//     level       Token: aal1, aal2 or aal3
//     idle        Integer, seconds, 1 to kMaxLimitSeconds; absolute likewise
//     data.NAME   String or Display String; NAME is 1 to 64 of a-z 0-9 _, so it can end a
//     variable's
//                 name. An empty value means no attribute: update removes it, create does not store
//                 it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "core/bytes.h"
#include "core/record.h"

namespace sg {

enum class ControlVerb : std::uint8_t { create, update, renew, reauth, destroy };

// Bit of a verb in the set that `session_control` allows.
constexpr std::uint32_t verb_bit(ControlVerb verb) noexcept {
    return 1u << static_cast<unsigned>(verb);
}
std::string_view verb_name(ControlVerb verb) noexcept;

// 400 days, as long as browsers keep a cookie at most (RFC 6265bis section 5.5).
inline constexpr std::uint32_t kMaxLimitSeconds = 400u * 24 * 3600;

// A parsed command. All views point into the caller's `scratch`, which must outlive it.
struct ControlCommand {
    ControlVerb verb = ControlVerb::create;
    // create only: 1..255 bytes of UTF-8 without control characters and without a space at either
    // end (a header that carries it to an upstream would lose the space and name somebody else).
    std::optional<std::string_view> user;
    // create, update: at most 32 names of at most 64 characters, joined by one space, no repeats; a
    // name is visible ASCII without comma, "=" and quote. Present and empty: no roles.
    std::optional<std::string_view> roles;
    std::optional<Level> level;           // create, update, reauth
    std::optional<std::uint32_t> idle_s;  // create; can only shorten the realm's
    std::optional<std::uint32_t> absolute_s;
    // create, update: packed as in record.h, at most max_data bytes, names unique, values UTF-8
    // without control characters; an empty value (update only) removes the attribute.
    ByteView attributes;
};

// What was wrong and at which byte of the field value (0-based). `what` is a static string;
// `token` quotes the offending piece of the input (a view into it, may be empty): a verb, a
// parameter's name or a few bytes of syntax, never a value. It holds whatever the application sent,
// control characters too: look before it is logged.
struct ControlError {
    const char* what = "";
    std::size_t offset = 0;
    std::string_view token;
};

// `max_data`: the realm's limit of packed attribute bytes. `scratch` must have at least
// control_scratch_size(value) bytes; unescaped strings and packed attributes are written there.
// Returns the command, or nullopt with `error` filled. Nothing is allocated.
std::size_t control_scratch_size(std::string_view value) noexcept;
std::optional<ControlCommand> parse_control(std::string_view value, std::size_t max_data,
                                            ByteSpan scratch, ControlError& error) noexcept;

// What `update` does to packed attributes: writes those of `base` to `out`, with the values of
// `changes` where both have the name, then the new ones; an empty value in `changes` removes. Both
// inputs have unique names; `out` must not overlap them. Returns the bytes written. nullopt:
// damaged input, or the result needs more than `max_data` or out.size() bytes. Attributes that are
// over max_data already (it was lowered since) may stay, but not grow.
std::optional<std::size_t> merge_attributes(ByteView base, ByteView changes, std::size_t max_data,
                                            ByteSpan out) noexcept;

}  // namespace sg
