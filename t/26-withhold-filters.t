#!/usr/bin/perl

# An answer that waits for the store goes through all that nginx can do to an answer, and comes out
# as it would have: filters, subrequests, error pages, redirects to files, caches, deadlines.
# Faults: a filter that saw half an answer before the wait; bytes out of order; a connection that
# cannot be used again; a login that is answered from a cache.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;
use Test::Withhold;

my $t = Test::Nginx->new()->has(qw(http proxy cache rewrite ssi sub addition gzip mirror auth_request stub_status session_guard));

my $large = join '', map { sprintf "%07d\n", $_ } 1 .. 100_000;
my $create = 'create; user="alice"';
my $login = { 'X-Accel-Session' => $create, 'Content-Type' => 'text/plain' };
my %answer = (
    small   => [ 200, $login, "one two three\n" ],
    large   => [ 200, $login, $large ],
    parts   => [ 200, $login, [ "one\n", { delay => 20 }, "two one\n" ], chunked => 1 ],
    ssi     => [ 200, $login, 'a<!--# include virtual="/piece/quick" -->b<!--# include virtual="/piece/slow" -->c' ],
    file    => [ 200, { %{$login}, 'X-Accel-Redirect' => '/file/large.txt' }, 'not this' ],
    on      => [ 200, { %{$login}, 'X-Accel-Redirect' => '/on/small' }, 'not this' ],
    moved   => [ 302, { %{$login}, Location => '/x' }, "not this\n" ],
    cut     => [ 200, $login, $large, truncate => 300_000 ],
    fresh   => [ 200, { %{$login}, 'Cache-Control' => 'max-age=60' }, "in\n" ],
    cached  => [ 200, { 'Cache-Control' => 'max-age=60' }, "page\n" ],
    quick   => [ 200, {}, 'PIECE' ],
    slow    => [ 200, {}, 'SLOW', delay => 50 ],
    renew   => [ 200, { 'X-Accel-Session' => 'renew' }, "renewed\n" ],
    update  => [ 200, { 'X-Accel-Session' => 'update; roles="editor"' }, "updated\n" ],
    destroy => [ 404, { 'X-Accel-Session' => 'destroy' }, "gone\n" ],
);
my $up = $t->recorder(8091, sub {
    my ($request) = @_;
    my ($shape) = $request->path() =~ m{/([^/]+)\z}x;
    return $answer{$shape};
});
$t->write_file('file/large.txt', $large);
$t->write_file('err.html', "an error page\n");

my %extra = (
    plain   => '',
    gzip    => 'gzip on; gzip_types text/plain; gzip_min_length 1;',
    sub     => 'sub_filter one ONE; sub_filter_once off; sub_filter_types text/plain;',
    ssi     => 'ssi on; ssi_types text/plain;',
    both    => 'ssi on; ssi_types text/plain; gzip on; gzip_types text/plain; gzip_min_length 1; sub_filter one ONE; sub_filter_types text/plain;',
    add     => 'add_before_body /piece/quick; add_after_body /piece/slow; addition_types text/plain;',
    range   => 'proxy_force_ranges on;',
    rate    => 'limit_rate 2m;',
    mirror  => 'mirror /piece/quick;',
    auth    => 'auth_request /piece/slow;',
    any     => 'satisfy any; allow 127.0.0.1; deny all;',
    page    => 'proxy_intercept_errors on; error_page 302 404 /err.html;',
    named   => 'proxy_intercept_errors on; error_page 302 404 = @named;',
    abort   => 'proxy_ignore_client_abort on;',
    read    => 'proxy_read_timeout 500ms;',
    send    => 'send_timeout 500ms;',
    cache   => 'proxy_cache c; proxy_cache_methods GET HEAD POST; proxy_cache_key $uri; add_header X-Cache $upstream_cache_status;',
);
my $locations = join "\n", map {
    my $session = $_ eq 'any' ? 'session REALM;' : 'session REALM optional;';
    "location /$_/ { $session session_control on; proxy_pass http://127.0.0.1:8091; $extra{$_} }";
} sort keys %extra;
my $w = Test::Withhold->new($t, http => 'proxy_cache_path %%TESTDIR%%/cache keys_zone=c:1m;', locations => $locations . <<'EOC');
        location /file/  { internal; sendfile on; root %%TESTDIR%%; }
        location /on/    { session REALM optional; session_control create; proxy_pass http://127.0.0.1:8091; }
        location /piece/ { proxy_pass http://127.0.0.1:8091; }
        location /cached { proxy_cache c; proxy_cache_key $request_uri; add_header X-Cache $upstream_cache_status; proxy_pass http://127.0.0.1:8091; }
        location @named  { rewrite ^ /piece/quick break; proxy_pass http://127.0.0.1:8091; }
        location = /stub { stub_status; }
EOC

sub body { my ($raw) = @_; return Test::Nginx::Http::http_content($raw) // '' }

# --- filters ---

for my $case ([ plain => 'large' ], [ sub => 'small' ], [ sub => 'parts' ], [ ssi => 'ssi' ], [ add => 'small' ], [ mirror => 'small' ], [ auth => 'small' ],
    [ any => 'small' ], [ rate => 'large' ], [ plain => 'on' ]) {
    my ($kind, $shape) = @{$case};
    $w->waits("$kind $shape", "GET /$kind/$shape HTTP/1.1");
}
for my $case ([ gzip => 'large' ], [ gzip => 'small' ], [ both => 'ssi' ]) {
    my ($kind, $shape) = @{$case};
    my $got = $w->waits("$kind $shape", "GET /$kind/$shape HTTP/1.1\nAccept-Encoding: gzip");
    like($got, qr/^Content-Encoding:[ ]gzip/xmi, "$kind $shape: packed");
}
is(body($w->waits('a range', "GET /range/large HTTP/1.1\nRange: bytes=16-23")), "0000003\n", 'a range: those bytes');
like(body($w->waits('two ranges', "GET /range/large HTTP/1.1\nRange: bytes=0-7,16-23")), qr/0000001\n.*0000003\n/xs, 'two ranges: those bytes');

# --- other targets ---

is(body($w->waits('X-Accel-Redirect to a file', 'GET /plain/file HTTP/1.1')), $large, 'with the file');
is(body($w->waits('X-Accel-Redirect to a range of a file', "GET /plain/file HTTP/1.1\nRange: bytes=16-23")), "0000003\n", 'with that range');
$w->waits('X-Accel-Redirect to a file, HEAD', 'HEAD /plain/file HTTP/1.1');
is(body($w->waits('an error page', 'POST /page/moved HTTP/1.1', body => 'x' x 100)), "an error page\n", 'that of the disk');
is(body($w->waits('an error page of another upstream', 'POST /named/moved HTTP/1.1', body => 'x' x 50_000)), 'PIECE', 'with its answer');

# --- an upstream that breaks off; deadlines shorter than the wait would be ---

is(length body($w->waits('an upstream that breaks off', 'GET /plain/cut HTTP/1.1')), 300_000, 'what it had sent');

# Their time is up before the store answers, without that anybody gives up.
$t->store('stalls');
for my $kind (qw(read send)) {
    my $late = client();
    my $got = $late->get("/$kind/large", fetched());
    ok($got->status() == 200 && $got->body() eq $large, "$kind: answered when its time is up, with all of the body");
    like($late->get('/fence', fetched())->header('X-User'), qr/alice/x, "$kind: the session works here");
}
$t->store('works');

# --- caches ---

is(client()->get('/cached/cached')->header('X-Cache'), 'MISS', 'a cache beside it');
my $before = $up->count();
for my $time (1, 2) {
    $w->waits("a login where answers are cached, $time", 'GET /cache/fresh HTTP/1.1');
}
is($up->count(), $before + 4, 'every one comes from the application');
$t->store('stalls');
my $waiting = client()->start('GET', '/cache/fresh', fetched());
is(client()->get('/cached/cached')->header('X-Cache'), 'HIT', 'while one waits, a cached page is there');
is(client()->get('/cached/slow/cached')->header('X-Cache'), 'MISS', 'and one that is not is fetched');
$t->store('works');
is(client()->finish($waiting)->status(), 200, 'then the login is answered');

# --- one connection ---

my $keep = Test::Withhold::whole("GET /plain/small HTTP/1.1\nConnection: keep-alive");
my $gone = Test::Withhold::whole('GET /plain/large HTTP/1.1');
for my $case ([ 'one after the other' => $keep, $gone ], [ 'pipelined' => "$keep$keep$gone" ]) {
    my ($phrase, @requests) = @{$case};
    my @sockets = map { Test::Nginx::Socket->connect_to(port => port($_)) } $Test::Withhold::STORE, $Test::Withhold::PLAIN;
    my @answers = ('', '');
    for my $i (0 .. $#requests) {
        my ($silent) = $w->silent(sub { $sockets[0]->send_bytes($requests[$i]); $sockets[0] });
        ok($silent, "$phrase: request $i waits");
        $sockets[1]->send_bytes($requests[$i]);
        for (0, 1) {
            $answers[$_] .= ($i < $#requests ? $sockets[$_]->read_until(qr/three\n/x) : $sockets[$_]->read_all()) // '(nothing)';
        }
    }
    is(Test::Withhold::normal($answers[0]), Test::Withhold::normal($answers[1]), "$phrase: every answer whole and in its place");
    is(() = $answers[0] =~ m{^HTTP/1[.]1[ ]200}xmg, $phrase eq 'pipelined' ? 3 : 2, "$phrase: one for each request");
}

# --- clients that give up ---

sub active { my ($active) = client()->get('/stub')->body() =~ m/Active[ ]connections:[ ](\d+)/x; return $active }

my $active = active();
for my $kind (qw(plain abort gzip rate)) {
    my $sessions = $w->sessions();
    $t->store('stalls');
    my @clients = map { client() } 1 .. 10;
    my @pending = map { $_->start('GET', "/$kind/large", fetched()) } @clients;
    ok($t->wait_for(sub { $w->sessions() == $sessions + 10 }), "$kind: ten wait");
    $pending[$_]{socket}->close_now() for 0 .. 4;
    is(client()->get('/fence')->status(), 200, "$kind: five go away");
    $t->store('works');
    my @answers = map { $clients[$_]->finish($pending[$_]) } 5 .. 9;
    is((grep { $_->body() eq $large } @answers) + 0, 5, "$kind: the others have their answers");
    $w->remember($_->raw()) for @answers;
}
ok($t->wait_for(sub { active() <= $active }), 'no connection is left over');

# --- changes and logouts ---

for my $case ([ '/plain/renew', 200 ], [ '/plain/update', 200 ], [ '/plain/destroy', 404 ], [ '/page/destroy', 404 ], [ '/named/destroy', 200 ], [ '/logout', 204 ]) {
    my ($uri, $status) = @{$case};
    my $client = client();
    $client->get('/fence/login', fetched());
    my $old = $client->clone();
    my $count = $up->count();
    my $pending;
    my ($silent) = $w->silent(
        sub { $pending = $client->start('POST', $uri, { body => 'x' }, fetched()); $pending->{socket} },
        sub { $uri eq '/logout' || $up->count() > $count and client()->get('/piece/quick')->status() == 200 },
    );
    ok($silent, "$uri waits for the store");
    my $response = $client->finish($pending);
    is($response->status(), $status, "$uri: answered");
    $w->remember($response->raw());
    my $user = $uri =~ m/renew|update/x ? 'alice' : '';
    is($client->get('/fence', fetched())->header('X-User') // '', $user, "$uri: and done");
    push @{ $w->{ended} }, $old if $user eq '';
}

# A logout whose user does not wait for its end.
my $hasty = client();
$hasty->get('/fence/login', fetched());
my $written = $w->written();
my ($silent, $socket) = $w->silent(
    sub { my $pending = $hasty->start('POST', '/logout', { body => '' }, fetched()); $pending->{socket} },
    sub { $w->user_of($hasty->cookie('a')) eq '' },
);
ok($silent, 'a logout waits');
$socket->close_now();
push @{ $w->{ended} }, $hasty;
ok($t->wait_for(sub { $w->written() == $written + 1 }), 'and is written although nobody waits any more');

ok($t->wait_for(sub { active() <= $active }), 'no connection is left over');
$w->all_are_stored();
is((grep { $w->user_of($_->cookie('a')) ne '' } @{ $w->{ended} }) + 0, 0, 'every logout is in the store');

done_testing();
