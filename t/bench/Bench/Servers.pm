package Bench::Servers;

# The nginx instances that are compared: one process of each, same content, same worker count, same
# listening socket options; only the lines under test differ. Started and ended by pid.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Path qw(make_path);
use IO::Socket::INET;

use Test::Nginx::Port qw(port);
use Test::Nginx::Process qw(spawn adopt children title wait_until send_signal end_process);

# One attribute of 64 bytes, so that a record has the size that 6-quality.md speaks of.
my $NOTE = 'x' x 64;

my $LUA = join '', map { "load_module /usr/lib/nginx/modules/$_.so;\n" }
    qw(ndk_http_module ngx_http_lua_module);

# Content comes from empty_gif: `return` would answer before the access phase.
my $GIF = "location / { %s empty_gif; }\n";
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
    backend     => {
        server => qq(location / { empty_gif; add_header X-Bench 1; }\n)
            . 'location = /login { empty_gif; add_header X-Accel-Session '
            . qq('create; user="\$arg_u"; roles="editor admin"; data.note="$NOTE"'; }\n),
    },
);

my $next_port = 18_100;

sub new {
    my ($class, %option) = @_;
    my $self = bless { %option, all => {} }, $class;
    make_path($self->{folder});
    $self->{folder} = abs_path($self->{folder});
    return $self;
}

# The instance of this name: { port, master, worker, ... }; `kind` if it is not the name itself.
# Options: kind, zone, tokens (for Lua's dict), callgrind => output file.
sub start {
    my ($self, $name, %option) = @_;
    my $kind = $KIND{ $option{kind} // $name } or die "no such server: $name\n";
    my $server = $self->{all}{$name} = {
        %option,
        name   => $name,
        kind   => $kind,
        port   => port($next_port++),
        prefix => "$self->{folder}/$name",
    };
    $self->_write($server);
    my @command = ($self->{nginx}, '-p', $server->{prefix}, '-c', 'nginx.conf', '-e', 'error.log');
    unshift @command, 'valgrind', '--tool=callgrind', "--callgrind-out-file=$option{callgrind}",
        '--quiet'
        if $option{callgrind};
    my $log = "$server->{prefix}/output";
    $server->{master} = spawn({ stdout => $log, stderr => $log }, @command);
    my $ready = wait_until(
        sub {
            IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $server->{port});
        }, 60);
    die "nginx for $name did not start: see $server->{prefix}/error.log and $log\n" if !$ready;
    $server->{worker} = $option{callgrind} ? $server->{master} : $self->_worker($server);
    return $server;
}

sub _write {
    my ($self, $server) = @_;
    make_path("$server->{prefix}/tmp");
    my $kind = $server->{kind};
    my $http = $kind->{http} // '';
    my $main = $kind->{main} // '';
    if ($kind->{guard}) {
        $main .= "load_module $self->{module};\n";
        $http .= sprintf $REALM, $server->{zone} // '16m', $kind->{realm} // '';
        _write_file("$server->{prefix}/app.keys", '5e' x 32 . "\n", oct 600);
    }
    my $tokens = $server->{tokens} // '/nonexistent';
    $http =~ s/TOKENS/$tokens/;
    $http =~ s/PREFIX/$server->{prefix}/;
    my $single = $server->{callgrind} ? "master_process off;\n" : '';
    my $backend = $self->{all}{backend};
    my $upstream = $backend && $backend != $server
        ? "upstream backend { server 127.0.0.1:$backend->{port}; keepalive 64; }\n" : '';
    my $cpu = $self->{pin} ? sprintf "worker_cpu_affinity %s;\n", $server->{name} eq 'backend' ? '10' : '01' : '';
    $cpu = '' if $server->{callgrind};
    my $user = $> == 0 ? "user root;\n" : '';
    my $temporary = join '', map { "${_}_temp_path tmp;\n" } qw(client_body proxy fastcgi uwsgi scgi);
    _write_file("$server->{prefix}/nginx.conf", <<"END");
${main}${user}${single}${cpu}daemon off;
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
    return;
}

sub _write_file {
    my ($path, $text, $mode) = @_;
    open my $file, '>', $path or die "$path: $!\n";
    chmod $mode, $path if $mode;
    print {$file} $text;
    close $file or die "$path: $!\n";
    return;
}

sub _worker {
    my ($self, $server) = @_;
    my @found;
    wait_until(sub {
        @found = grep { title($_) =~ /worker[ ]process/ && title($_) !~ /shutting/ } children($server->{master});
        return @found == 1;
    });
    die "$server->{name}: no single worker\n" if @found != 1;
    return $found[0];
}

# HUP, with another zone size if given; true when the new worker is there.
sub reload {
    my ($self, $server, %change) = @_;
    my $before = $server->{worker};
    @{$server}{ keys %change } = values %change;
    $self->_write($server);
    send_signal('HUP', $server->{master});
    my ($new) = wait_until(sub {
        return (grep { $_ != $before && title($_) =~ /worker[ ]process$|worker[ ]process\s*$/ }
                children($server->{master}))[0];
    }, 30);
    $server->{worker} = $new if $new;
    return $new;
}

# CPU the worker has used so far, in microseconds: by the scheduler's own count where the kernel
# keeps it, else in clock ticks.
sub cpu_us {
    my ($self, $server) = @_;
    if (open my $file, '<', "/proc/$server->{worker}/schedstat") {
        my ($nanoseconds) = split ' ', <$file>;
        close $file;
        return $nanoseconds / 1000;
    }
    open my $file, '<', "/proc/$server->{worker}/stat" or die "the worker of $server->{name} has gone\n";
    my @field = split ' ', (<$file> =~ /^.*[)][ ](.*)/)[0];
    close $file;
    return ($field[11] + $field[12]) * 10_000;
}

sub stop {
    my ($self, $name) = @_;
    my $server = delete $self->{all}{$name} or return;
    end_process($server->{master}, 20, 'QUIT', 'TERM', 'KILL');
    return;
}

sub stop_all {
    my ($self) = @_;
    $self->stop($_) for grep { $_ ne 'backend' } sort keys %{ $self->{all} };
    $self->stop('backend');
    return;
}

# Lines of all error logs that nobody should see after a run.
sub complaints {
    my ($self) = @_;
    my @found;
    for my $log (glob "$self->{folder}/*/error.log") {
        open my $file, '<', $log or next;
        push @found, grep { /\[(?:error|crit|alert|emerg)\]/ } <$file>;
        close $file;
    }
    return @found;
}

1;
