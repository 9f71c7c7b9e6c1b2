// Linked into the nginx built for `make asan`: leaks are looked for in workers only. A process that
// ends at once (`nginx -t`, `nginx -s`, the parent of the daemon) never frees the configuration it
// has read, on purpose; a worker does, so that what the module forgot while reading one shows there.

// As in nginx's ngx_process_cycle.h. Weak, because configure's probes are linked with this as well.
#define NGX_PROCESS_WORKER 3
extern unsigned long ngx_process __attribute__((weak));

int __lsan_is_turned_off(void);

int __lsan_is_turned_off(void)
{
    return &ngx_process == 0 || ngx_process != NGX_PROCESS_WORKER;
}

// nginx's pattern compiler keeps 72 bytes of PCRE2's just-in-time compiler for each configuration.
// A worker's own tables of connections and events go with it; now and then a fast exit is looked at
// when nothing points to them any more.
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:ngx_regex_malloc\n"
           "leak:ngx_event_process_init";
}
