// The one door to nginx: every other file of this folder includes nginx through here, first.
#pragma once

extern "C" {
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

// The one symbol the shared object exports; everything else is hidden.
extern __attribute__((visibility("default"))) ngx_module_t ngx_http_session_guard_module;
}
