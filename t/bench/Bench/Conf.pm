package Bench::Conf;

# What the nginx instances that are compared are configured with: same content, same worker count,
# same listening socket options; only the lines under test differ.

use strict;
use warnings;

use Exporter qw(import);

our @EXPORT_OK = qw(kind nginx_conf);

# One attribute of 64 bytes, so that a record has the size that 6-quality.md speaks of.
my $NOTE = 'x' x 64;

my $LUA = join '', map { "load_module /usr/lib/nginx/modules/$_.so;\n" }
    qw(ndk_http_module ngx_http_lua_module);

# Content comes from empty_gif: `return` would answer before the access phase.
my $GIF = "location / { %s empty_gif; }\n";
my $FREE = "location = /free { empty_gif; }\n";
my $STATUS = "location = /status { session_status; }\n";
my $PROXY = "location / { %s proxy_pass http://backend; }\n";

my $REALM = <<"END";
session_realm app {
    zone             %s;
    key_file         app.keys;
    cookie           sid secure=off;
    idle_timeout     8h;
    absolute_timeout 24h;
    %s
}
END

my $LOGIN = "location = /login { session app optional; session_control create; proxy_pass http://backend; }\n";

# A check as people write it by hand: the cookie's session from a shared dict, its expiry compared.
my $LUA_DICT = <<'END';
lua_shared_dict sessions 8m;
lua_shared_dict probe 8m;
init_by_lua_block {
    local probe, fit = ngx.shared.probe, 0
    while probe:safe_set(string.format("%064d", fit), string.rep("x", 200)) do fit = fit + 1 end
    local capacity = io.open("PREFIX/capacity", "w")
    capacity:write(probe:capacity() / fit)
    capacity:close()
    probe:flush_all()
    probe:flush_expired()
    local file = io.open("TOKENS")
    local value = string.format("%013d", 4102444800000) .. string.rep("x", 187)
    for i = 1, 1000 do
        local token = file and file:read("*l")
        if token then ngx.shared.sessions:set(token, value) end
    end
}
END
my $LUA_CHECK = <<'END';
access_by_lua_block {
    local token = ngx.var.cookie_sid
    local value = token and ngx.shared.sessions:get(token)
    if not value or tonumber(value:sub(1, 13)) < ngx.now() * 1000 then
        return ngx.exit(401)
    end
}
END

# The session from memcached, by the client of Debian's lua-nginx-memcached, connections kept.
my $LUA_MEMCACHED = <<'END';
access_by_lua_block {
    local memcached = require "nginx.memcached"
    local token = ngx.var.cookie_sid
    local client = memcached:new()
    client:set_timeout(1000)
    if not token or not client:connect("127.0.0.1", MEMCACHED) then
        return ngx.exit(503)
    end
    local value = client:get(token)
    client:set_keepalive(60000, 64)
    if not value or tonumber(value:sub(1, 13)) < ngx.now() * 1000 then
        return ngx.exit(401)
    end
}
END

# Sessions stay fresh for a run: what is measured is the first sight of one, or none at all.
my $STORE = "store %s;\nrevalidate 1h;\nthread_pool sessions;\n";
my $THREADS = "thread_pool sessions threads=2;\n";

my $AUTH = <<'END';
location = /auth {
    internal;
    proxy_pass http://backend;
    proxy_pass_request_body off;
    proxy_set_header Content-Length "";
}
END

# What each instance has: lines before http{}, in http{}, in server{}.
my %KIND = (
    bare        => { server => sprintf $GIF, '' },
    # In a process with threads the C library takes more steps at system calls and for memory.
    bare_threads => { main => $THREADS, server => sprintf $GIF, '' },
    lua_empty   => { main => $LUA, server => sprintf $GIF, 'access_by_lua_block { }' },
    lua_dict    => { main => $LUA, http => $LUA_DICT, server => sprintf $GIF, $LUA_CHECK },
    auth        => { server => $AUTH . sprintf $GIF, 'auth_request /auth;' },
    guard       => { guard => 1, server => $LOGIN . sprintf $GIF, 'session app;' },
    guard_off   => { guard => 1, server => $LOGIN . sprintf $GIF, '' },
    proxy       => { server => sprintf $PROXY, '' },
    proxy_lua   => { main => $LUA, http => $LUA_DICT, server => sprintf $PROXY, $LUA_CHECK },
    proxy_guard => { guard => 1, server => $LOGIN . sprintf $PROXY, 'session app;' },
    proxy_named => {
        guard => 1,
        realm => 'identity X-User=$session_user X-Roles=$session_roles;',
        server => $LOGIN . sprintf $PROXY, 'session app;',
    },
    guard_memcached => {
        guard => 1,
        main => $THREADS,
        realm => sprintf($STORE, 'memcached 127.0.0.1:MEMCACHED timeout=TIMEOUT'),
        server => $LOGIN . $FREE . sprintf $GIF, 'session app;',
    },
    guard_lmdb  => {
        guard => 1,
        main => $THREADS,
        realm => sprintf($STORE, 'lmdb PREFIX/sessions.mdb map_size=4g'),
        server => $LOGIN . $STATUS . sprintf $GIF, 'session app;',
    },
    lua_memcached => { main => $LUA, server => sprintf $GIF, $LUA_MEMCACHED },
    backend     => {
        server => qq(location / { empty_gif; add_header X-Bench 1; }\n)
            . 'location = /login { empty_gif; add_header X-Accel-Session '
            . qq('create; user="\$arg_u"; roles="editor admin"; data.note="$NOTE"'; }\n),
    },
);

sub kind {
    my ($name) = @_;
    return $KIND{$name} // die "no such server: $name\n";
}

# Of $server { kind, port, prefix, ... }: the whole file. Options: module, backend (its port), cpu
# (a mask).
sub nginx_conf {
    my ($server, %option) = @_;
    my $kind = $server->{kind};
    my $http = $kind->{http} // '';
    my $main = $kind->{main} // '';
    if ($kind->{guard}) {
        $main .= "load_module $option{module};\n";
        $http .= sprintf $REALM, $server->{zone} // '16m', $kind->{realm} // '';
    }
    $main .= "master_process off;\n" if $server->{callgrind};
    $main .= "worker_cpu_affinity $option{cpu};\n" if $option{cpu} && !$server->{callgrind};
    $main .= "user root;\n" if $> == 0;
    my $upstream = $option{backend} ? "upstream backend { server 127.0.0.1:$option{backend}; keepalive 512; }\n" : '';
    my $temporary = join '', map { "${_}_temp_path tmp;\n" } qw(client_body proxy fastcgi uwsgi scgi);
    my $text = <<"END";
${main}daemon off;
worker_processes 1;
worker_shutdown_timeout 10s;
pid nginx.pid;
events { worker_connections 1024; }
http {
access_log off;
keepalive_requests 1000000000;
keepalive_timeout 3600s;
proxy_http_version 1.1;
proxy_set_header Connection "";
${temporary}${upstream}${http}server {
listen 127.0.0.1:$server->{port};
$kind->{server}}
}
END
    my %word = (
        TOKENS => $server->{tokens} // '/nonexistent',
        PREFIX => $server->{prefix},
        MEMCACHED => $server->{memcached} // 0,
        TIMEOUT => $server->{timeout} // '1s',
    );
    $text =~ s/\b(TOKENS|PREFIX|MEMCACHED|TIMEOUT)\b/$word{$1}/g;
    return $text;
}

1;
