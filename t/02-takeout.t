#!/usr/bin/perl

# What must not reach anything behind: session cookies, and what clients say about themselves.
# Attacks: theft of a cookie from an upstream or a log; header spoofing in any spelling; cookie
# tossing with a case twin; token in a log.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http http_ssl http_v2 socket_ssl proxy fastcgi uwsgi scgi grpc rewrite map session_guard))
    ->has_daemon('curl');

my $login = [ 200, { 'X-Accel-Session' => 'create; user="alice"' }, "in\n" ];
my $app = $t->recorder(8081, { '/login' => $login, default => [ 200, {}, "page\n" ] }, name => 'http');
my %up = (
    proxy   => $app,
    fastcgi => $t->recorder(8082, { default => [ 200, {}, "page\n" ] }, protocol => 'fastcgi'),
    uwsgi   => $t->recorder(8083, { default => [ 200, {}, "page\n" ] }, protocol => 'uwsgi'),
    scgi    => $t->recorder(8084, { default => [ 200, {}, "page\n" ] }, protocol => 'scgi'),
);
$up{grpc} = $app;    # through an inner server, which takes nothing out

$t->ssl_cert()->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app   { zone 1m; identity X-User=$session_user X-Roles=$session_roles; }
    session_realm path  { zone 1m; cookie path path=/ secure=assumed; identity X-Path=$uri X-Path-User=$session_user; }
    session_realm other { zone 1m; cookie other path=/ secure=assumed; identity X-Other=$session_user; }

    log_format leaky '$status "$http_cookie" "$cookie_other" "$sent_http_set_cookie" "$http_x_user" "$at_server" "$at_location" "$mapped" "$uri"';
    access_log %%TESTDIR%%/leaky.log leaky;
    map "$http_cookie|$cookie_other" $mapped { volatile; default "$http_cookie|$cookie_other"; }

    fastcgi_param REQUEST_METHOD $request_method; fastcgi_param REQUEST_URI $request_uri;
    uwsgi_param   REQUEST_METHOD $request_method; uwsgi_param   REQUEST_URI $request_uri;
    scgi_param    REQUEST_METHOD $request_method; scgi_param    REQUEST_URI $request_uri;
    scgi_param    SCGI 1; scgi_param CONTENT_LENGTH $content_length; uwsgi_param CONTENT_LENGTH $content_length;
    proxy_set_header X-Seen "$at_server|$at_location|$mapped|$http_cookie|$cookie_other";

    server {
        listen 127.0.0.1:8443 ssl http2;
        ssl_certificate     localhost.crt;
        ssl_certificate_key localhost.key;
        large_client_header_buffers 2 1k;
        set $at_server   "$http_cookie|$cookie_other|$http_x_user";
        set $at_location "";
        location = /login       { session app optional;   session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /login-other { session other optional; session_control create; proxy_pass http://127.0.0.1:8081/login; }
        location = /in/proxy    { session app; proxy_pass   http://127.0.0.1:8081; set $at_location "$http_cookie|$cookie_other|$http_x_user"; }
        location = /in/fastcgi  { session app; fastcgi_pass 127.0.0.1:8082; }
        location = /in/uwsgi    { session app; uwsgi_pass   127.0.0.1:8083; }
        location = /in/scgi     { session app; scgi_pass    127.0.0.1:8084; }
        location = /in/grpc     { session app; grpc_pass    grpc://127.0.0.1:8086; }
        location = /login-path  { session path optional; session_control create; proxy_pass http://127.0.0.1:8081/login; }
        location /path/         { session path; proxy_pass http://127.0.0.1:8081; }
        location = /in/twin     { session app; proxy_pass   http://127.0.0.1:8081; access_log off; }
        location = /free/proxy   { proxy_pass   http://127.0.0.1:8081; set $at_location "$http_cookie|$cookie_other|$http_x_user"; }
        location = /free/fastcgi { fastcgi_pass 127.0.0.1:8082; }
        location = /free/uwsgi   { uwsgi_pass   127.0.0.1:8083; }
        location = /free/scgi    { scgi_pass    127.0.0.1:8084; }
        location = /free/grpc    { grpc_pass    grpc://127.0.0.1:8086; }
        location = /free/early   { return 200 "$http_cookie|$cookie_other|$http_x_user"; }
        location = /free/explicit {
            proxy_set_header Cookie $http_cookie;
            proxy_set_header X-Copy $cookie_other;
            proxy_pass http://127.0.0.1:8081;
        }
        error_page 400 494 @named;
        location @named { proxy_pass http://127.0.0.1:8081; set $at_location "$http_cookie|$cookie_other"; }
    }

    # errors found before any phase, answered by an upstream; headers in any spelling
    server {
        listen 127.0.0.1:8444 ssl;
        ssl_certificate        localhost.crt;
        ssl_certificate_key    localhost.key;
        ssl_client_certificate localhost.crt;
        ssl_verify_client      on;
        large_client_header_buffers 2 1k;
        underscores_in_headers on;
        ignore_invalid_headers off;
        error_page 497 @named;
        error_page 400 494 495 496 = /free/error;
        location = /free/error { internal; proxy_pass http://127.0.0.1:8081; proxy_set_header Host x; }
        location @named        { proxy_pass http://127.0.0.1:8081; proxy_set_header Host x; }
        location /             { proxy_pass http://127.0.0.1:8081; }
    }
    server {
        listen 127.0.0.1:8445 ssl;
        ssl_certificate     localhost.crt;
        ssl_certificate_key localhost.key;
        ssl_client_certificate localhost.crt;
        ssl_verify_client      on;
        error_page 400 494 495 496 @named;
        error_page 497 = /free/error;
        location = /free/error { internal; fastcgi_pass 127.0.0.1:8082; }
        location @named        { fastcgi_pass 127.0.0.1:8082; set $at_location "$http_cookie|$cookie_other"; }
    }

    # no word of a session; all spellings
    server {
        listen 127.0.0.1:8080;
        underscores_in_headers on;
        ignore_invalid_headers off;
        location /free/         { proxy_pass   http://127.0.0.1:8081; }
        location /free/fastcgi/ { fastcgi_pass 127.0.0.1:8082; }
        location /free/uwsgi/   { uwsgi_pass   127.0.0.1:8083; }
        location /free/scgi/    { scgi_pass    127.0.0.1:8084; }
        location /in/           { session app; proxy_pass http://127.0.0.1:8081; }
    }

    # as an inner server, which only the proxy itself reaches
    server {
        listen 127.0.0.1:8085;
        listen 127.0.0.1:8086 http2;
        session_strip off;
        access_log off;
        location / { proxy_pass http://127.0.0.1:8081; proxy_set_header X-Seen ""; }
        location /strip/ { proxy_pass http://127.0.0.1:8087; proxy_set_header X-Seen ""; }
        location /strip/in { session other; proxy_pass http://127.0.0.1:8087; proxy_set_header X-Seen ""; }
    }
}
EOC

my $kept = $t->recorder(8087, { default => [ 200, {}, "kept\n" ] }, name => 'kept');
$t->token_may_reach($kept);

my $alice = client(ssl => 1);
is($alice->post('/login', '', fetched())->status(), 200, 'login');
my $host = '__Host-id=' . $alice->cookie('__Host-id');
is($alice->post('/login-other', '', fetched())->status(), 200, 'login to another realm');
my $other = 'other=' . $alice->cookie('other');
isnt($alice->cookie('__Host-id'), $alice->cookie('other'), 'both have a session');

# --- cookies, every protocol, with and without a session's location ---

my @spellings = (
    [ 'first',              "$host; a=1; b=2",               'a=1; b=2' ],
    [ 'last',               "a=1; b=2; $host",               'a=1; b=2' ],
    [ 'in between',         "a=1; $host; b=2",               'a=1; b=2' ],
    [ 'two realms',         "$other; a=1; $host; b=2",       'a=1; b=2' ],
    [ 'twice',              "$host; a=1; $host; b=2; $host", 'a=1; b=2' ],
    [ 'without spaces',     "a=1;$host;b=2",                 'a=1;b=2' ],
    [ 'with many',          "a=1 ;   $host  ;\t b=2",        qr/\Aa=1[ ]?;[ \t]*b=2\z/x ],
    [ 'around the sign',    do { (my $h = $host) =~ s/=/ = /x; "a=1; $h; b=2" }, 'a=1; b=2' ],
    [ 'empty ones',         ";; ; $host;;a=1; b=2;",         qr/\A[; ]*a=1;[ ]b=2[; ]*\z/x ],
    [ 'alone',              $host,                           undef ],
    [ 'both alone',         "$other;$host",                  undef ],
    [ 'quoted',             do { (my $h = $host) =~ s/=(.*)/="$1"/x; "$h; a=1; b=2" }, 'a=1; b=2' ],
    [ 'more than it reads', join('; ', 'a=1', ($host) x 9, 'b=2'), 'a=1; b=2' ],
);
for my $kind (qw(proxy fastcgi uwsgi scgi grpc)) {
    for my $place (qw(in free)) {
        for my $case (@spellings) {
            my ($what, $cookie, $left) = @{$case};
            my $count = $up{$kind}->count();
            my $r = $alice->get("/$place/$kind", Cookie => $cookie, spoofed());
            my $admitted = $place eq 'free' || $what ne 'quoted';
            is($up{$kind}->count(), $count + ($admitted ? 1 : 0), "$place, $kind: " . ($admitted ? 'asked' : 'refused') . ": $what")
                or diag($r->status());
            next unless $admitted;
            my $got = $up{$kind}->last()->header('Cookie');
            ref $left ? like($got // '', $left, "$place, $kind: the others stay: $what")
                      : is($got, $left, "$place, $kind: the others stay: $what");
        }
        my $count = $up{$kind}->count();
        $alice->get("/$place/$kind", Cookie => [ 'a=1', "$host; b=2", $other, 'c=3' ]);
        is($up{$kind}->count(), $count + 1, "$place, $kind: asked: several headers");
        like($up{$kind}->last()->header('Cookie'), qr/\Aa=1[;,][ ]b=2[;,][ ]c=3\z/x, "$place, $kind: the others stay: several headers");
        $alice->h2(GET => "/$place/$kind", Cookie => [ 'a=1', $host, 'b=2', $other, 'c=3' ]);
        is($up{$kind}->count(), $count + 2, "$place, $kind: asked: HTTP/2");
        is($up{$kind}->last()->header('Cookie'), 'a=1; b=2; c=3', "$place, $kind: the others stay: HTTP/2");
    }
}
is($up{$_}->last()->header('X-User'), undef, "free, $_: no identity at the end") for sort keys %up;
$alice->get("/in/$_", Cookie => $host) for sort keys %up;
is($up{$_}->last()->header('X-User'), 'alice', "in, $_: the identity is sent") for grep { $_ ne 'proxy' } sort keys %up;

# --- variables ---

is($alice->get('/free/early')->body(), '||', 'nothing is left for return');
is($alice->get('/free/early', Cookie => "a=1; $host; $other")->body(), 'a=1||', 'but the other cookies');
for my $uri ('/in/proxy', '/free/proxy') {
    $alice->get($uri, Cookie => "a=1; $host; $other");
    is($app->last()->header('X-Seen'), 'a=1|||a=1|||a=1||a=1|', "nor for set, map and proxy_set_header: $uri");
}
$alice->get('/free/explicit');
unlike($app->last()->raw(), qr/Cookie|X-Copy/x, 'nor for a Cookie header set by hand');
like($t->read_file('leaky.log'), qr/^200[ ]"a=1"[ ]"-"[ ]"-"[ ]"-"[ ]"a=1[|][|]"[ ]"a=1[|][|]"[ ]"a=1[|]"/xm, 'nor for the log');

# --- identity headers, in every spelling, in servers without a session ---

my $any = client();
my %header_of = (proxy => '/free/x', fastcgi => '/free/fastcgi/x', uwsgi => '/free/uwsgi/x', scgi => '/free/scgi/x');
for my $kind (sort keys %header_of) {
    for my $spelling (qw(X-User x-user X-USER X_User x_user x.user X*User X-Roles X_Roles X.Roles X-Other)) {
        $any->get($header_of{$kind}, $spelling => 'mallory', 'X-User_' => 'kept', Cookie => "a=1; $host; $other");
        my $raw = $up{$kind}->last()->raw();
        unlike($raw, qr/mallory/x, "$kind: $spelling is taken out");
        like($raw, qr/kept/x, "$kind: a longer name stays, beside $spelling");
    }
}
$any->get('/free/x', 'X-User' => [ 'mallory', 'mallory' ], 'x_user' => [ 'mallory', 'mallory' ]);
unlike($app->last()->raw(), qr/mallory/x, 'several lines of it');
$alice->get('/in/proxy', spoofed(), Cookie => $host);
is(join('|', $app->last()->header('X-User')), 'alice', 'with a session the proxy\'s own is the only one');
$alice->h2(GET => '/in/proxy', 'x-user' => 'mallory', Cookie => $host);
is(join('|', $app->last()->header('X-User')), 'alice', 'over HTTP/2 too');

# --- a value that would break out of its header ---

my $walker = client(ssl => 1);
$walker->post('/login-path', '', fetched());
$walker->get('/path/good');
is($app->last()->header('X-Path'), '/path/good', 'a value of the client\'s is sent');
for my $sign (qw(%0d%0a %0a %0d %7f)) {    # %00 nginx refuses itself
    my $before = $app->count();
    is($walker->get("/path/x${sign}X-Evil:%20yes${sign}")->status(), 200, "$sign in a value: the request goes on");
    is($app->count(), $before + 1, "$sign in a value: as one request");
    is($app->last()->header('X-Path'), undef, "$sign in a value: the header is left out");
    is($app->last()->header('X-Evil'), undef, "$sign in a value: and nothing came of it");
    is($app->last()->header('X-Path-User'), 'alice', "$sign in a value: the other headers are sent");
}

# --- a case twin ---

(my $twin = $host) =~ s/__Host/__hOsT/x;
my $count = $app->count();
is($alice->get('/in/proxy', Cookie => '__hOsT-id=' . 'x' x 64)->status(), 401, 'a case twin does not authenticate');
is($alice->get('/in/twin', Cookie => $twin)->status(), 401, 'not with a good token either');
is($app->count(), $count, 'and is not passed on');
is($alice->get('/in/proxy', Cookie => '__hOsT-id=twin; ' . $host)->status(), 200, 'beside the true one it does no harm');
is($app->last()->header('Cookie'), '__hOsT-id=twin', 'and is just another cookie');

# --- errors before any phase ---

my @cookies = (Cookie => "a=1; $host; $other");
my %early = (
    '497, named, proxy'   => [ $app, sub { client(port => 8444)->get('/', @_) } ],
    '497, uri, fastcgi'   => [ $up{fastcgi}, sub { client(port => 8445)->get('/', @_) } ],
    '496, uri, proxy'     => [ $app, sub { client(ssl => 1, port => 8444)->get('/', @_) } ],
    '496, named, fastcgi' => [ $up{fastcgi}, sub { client(ssl => 1, port => 8445)->get('/', @_) } ],
    '495, uri, proxy'     => [ $app, sub { client(ssl => with_certificate(), port => 8444)->get('/', @_) } ],
    '495, named, fastcgi' => [ $up{fastcgi}, sub { client(ssl => with_certificate(), port => 8445)->get('/', @_) } ],
    '400, uri, proxy'     => [ $app, sub { client(ssl => 1, port => 8444)->get('/', @_, Host => [ 'a', 'b' ]) } ],
    '400, named, fastcgi' => [ $up{fastcgi}, sub { client(ssl => 1, port => 8445)->get('/', @_, 'Content-Length' => 'x') } ],
    '400, named, proxy'   => [ $app, sub { client(ssl => 1)->get('/', @_, Host => [ 'a', 'b' ]) } ],
    '494, uri, proxy'     => [ $app, sub { client(ssl => 1, port => 8444)->get('/', @_, Long => 'x' x 3000) } ],
    '494, named, fastcgi' => [ $up{fastcgi}, sub { client(ssl => 1, port => 8445)->get('/', @_, Long => 'x' x 40_000) } ],
    '494, named, proxy'   => [ $app, sub { client(ssl => 1)->get('/', @_, Long => 'x' x 3000) } ],
);

# one that was not signed by whom the server trusts
sub with_certificate {
    $t->write_file('other/.keep', '');
    my $base = $t->testdir() . '/other/client';
    if (!-e "$base.crt") {
        my $pid = $t->start_daemon('openssl', qw(req -x509 -nodes -days 30 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1
            -subj /CN=stranger -keyout), "$base.key", '-out', "$base.crt");
        $t->wait_for(sub { -s "$base.crt" });
    }
    return { SSL_cert_file => "$base.crt", SSL_key_file => "$base.key" };
}

for my $case (sort keys %early) {
    my ($upstream, $ask) = @{ $early{$case} };
    my $before = $upstream->count();
    my $r = $ask->(@cookies, 'X-User' => 'mallory', 'X-Roles' => 'mallory');
    is($upstream->count(), $before + 1, "$case: reaches the upstream") or diag($r->head());
    is($upstream->last()->header('Cookie'), 'a=1', "$case: without the session's cookies");
    unlike($upstream->last()->raw(), qr/mallory/x, "$case: without the client's identity");
}

# --- requests that are never answered ---

my $lines = () = $t->read_file('leaky.log') =~ m/\n/xg;
my $half = client(ssl => 1)->start(GET => '/', { body => undef }, @cookies, 'X-User' => 'mallory', Connection => 'close');
$half->{socket}->close_now();
http("GET /free/x HTTP/1.1\r\nHost: localhost\r\nCookie: a=1; $host; $other\r\nX-User: mallory\r\n", start => 1)->close();
$t->wait_for(sub { my $now = () = $t->read_file('leaky.log') =~ m/\n/xg; $now >= $lines + 2 });
like($t->read_file('leaky.log'), qr/^400[ ].*"\/free\/x"$/xm, 'a request cut off in its headers is logged');
unlike($t->read_file('leaky.log'), qr/mallory/x, 'no log holds a client\'s identity');

# --- session_strip off ---

client(port => 8085)->get('/strip/', Cookie => "a=1; $host; $other", 'X-User' => 'from-proxy');
is($kept->last()->header('Cookie'), "a=1; $host; $other", 'session_strip off: the cookies stay');
is($kept->last()->header('X-User'), 'from-proxy', 'session_strip off: so do the headers');
client(port => 8085)->get('/strip/in', Cookie => $other, 'X-Other' => 'mallory', 'x_other' => 'mallory', 'X-User' => 'from-proxy');
is(join('|', $kept->last()->header('X-Other')), 'alice', 'session_strip off: an enforced location says itself who it is');
is(client(port => 8085)->get('/strip/in', 'X-Other' => 'mallory')->status(), 401, 'session_strip off: and enforces');

nothing_foul($up{$_}, qr{\A/in/}x, qr{\A/free/}x, "nothing foul was sent: $_") for qw(proxy fastcgi uwsgi scgi);

done_testing();
