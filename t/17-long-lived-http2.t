#!/usr/bin/perl

# Streams of one HTTP/2 connection, and gRPC behind nginx: those of a session that has ended are
# reset, the others go on.
# Attacks and faults: a stream that outlives its session because it shares a connection; one whose
# reset is not sent before something else is; another user's stream that goes with it; a client that
# gives no room.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes qw(time);

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Nginx::Streams;
use Test::Guard;
use Test::LongLived;

my $t = Test::Nginx->new()->has(qw(http http_v2 proxy grpc session_guard));

my @EVENTS = ("data: 1\n\n", map { ({ delay => 4000 }, "data: $_\n\n") } 2 .. 5);
my %answers = (
    '/login'  => [ 200, { 'X-Accel-Session' => 'create; user="alice"' }, "in\n" ],
    '/events' => [ 200, { 'Content-Type' => 'text/event-stream' }, \@EVENTS, chunked => 1 ],
    '/grpc'   => [ 200, { 'Content-Type' => 'application/grpc' }, \@EVENTS ],
);
my $up = $t->recorder(8081, \%answers);
my $grpc = $t->recorder(8082, \%answers, protocol => 'grpc');
my $big = 64 * 1024 * 1024;
$t->write_file('big', '');
truncate $t->testdir() . '/big', $big or die;

$t->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
worker_processes 2;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app { zone 1m; cookie a secure=off; idle_timeout 15m; absolute_timeout 8h; }
    proxy_buffering off;
    server {
        listen 127.0.0.1:8080;
        listen 127.0.0.1:8085 http2 sndbuf=32k;
        session app;
        location /           { session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /login    { session app optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /grpc     { grpc_pass grpc://127.0.0.1:8082; }
        location = /call     { grpc_pass grpc://127.0.0.1:8082; client_max_body_size 0; }
        location = /big      { root .; }
        location = /upload   { proxy_pass http://127.0.0.1:8081; client_max_body_size 10m; }
        location = /counts   { session_long_lived activity=client_bytes; proxy_pass http://127.0.0.1:8081; client_max_body_size 10m; }
        location = /quiet    { session_touch off; add_header X-Left $session_idle_left; empty_gif; }
        location = /logout   { session_logout; }
        location = /status   { session off; session_status; }
    }
}
EOC

sub logged_in {
    my $client = client();
    $client->post('/login', '', fetched());
    return $client;
}

sub leave {
    my ($client) = @_;
    my $status = $client->clone()->post('/logout', '', fetched())->status();
    die "logout: $status\n" if $status != 204;
    return;
}

sub headers {
    my ($client) = @_;
    return (cookie => 'a=' . $client->cookie('a'), 'sec-fetch-site' => 'same-origin');
}

my $INTERNAL_ERROR = 2;

sub is_reset {
    my ($h2, $id, $phrase) = @_;
    my $since = time();
    my $stream = $h2->response($id, 4);
    note(sprintf '%s: after %.2f s', $phrase, time() - $since);
    is($stream && $stream->{reset}, $INTERNAL_ERROR, "$phrase is reset");
    ok($stream && !$stream->{ended}, "$phrase does not look whole");
    return $stream;
}

# --- several on one connection ---

my ($alice, $bob) = (logged_in(), logged_in());
my $h2 = Test::Nginx::Streams->new(8085);
my $his = $h2->send('GET', '/events', headers($bob));
my @hers = map { $h2->send('GET', $_, headers($alice)) } '/events', '/grpc';
my $upload = $h2->open('POST', '/upload', headers($alice), 'content-length' => 1_000_000);
my $call = $h2->open('POST', '/call', headers($alice), 'content-type' => 'application/grpc', te => 'trailers');
$h2->say($_, 'x' x 1000) for $upload, $call;
ok($t->wait_for(sub { $h2->catch_up(); $h2->has_begun($his) && $h2->has_begun($hers[0]) && $h2->has_begun($hers[1]) }), 'streams');
ok($t->wait_for(sub { gauge() == 5 }), 'each of them counts');
leave($alice);
is_reset($h2, $hers[0], 'a stream');
is_reset($h2, $hers[1], 'a gRPC answer');
is_reset($h2, $upload, 'an upload');
is_reset($h2, $call, 'a gRPC call');
is(cuts(), 'ended:4', 'counted');
ok($t->wait_for(sub { $grpc->closed() == $grpc->opened() }), 'the gRPC upstream\'s connections are closed');
ok($t->wait_for(sub { $up->closed() == $up->opened() - 1 }), 'the others, too, but for one');
ok($h2->is_open(), 'the connection is not');
my $again = $h2->send('GET', '/quiet', headers($alice));
my %of = map { @{$_} } @{ $h2->response($again)->{headers} };
is($of{':status'}, 401, 'it takes requests');
ok(!defined $h2->{stream}{$his}{reset} && !$h2->{stream}{$his}{ended}, 'the other user\'s stream is left');
ok($t->wait_for(sub { $h2->catch_up(); $h2->{stream}{$his}{body} =~ m/data:[ ]2/x }), 'and goes on');
$h2->close_now();

# --- the only one ---

$alice = logged_in();
$h2 = Test::Nginx::Streams->new(8085);
my $only = $h2->send('GET', '/events', headers($alice));
$t->wait_for(sub { gauge() == 1 });
leave($alice);
is_reset($h2, $only, 'the only stream of a connection');
$h2->close_now();

# --- a client that gives no room: of its window, or of its buffers ---

for my $window (0, 65_535, undef) {
    my $name = defined $window ? "window $window" : 'unread';
    $alice = logged_in();
    $h2 = Test::Nginx::Streams->new(8085, defined $window ? (window => $window) : ());
    my $stalled = $h2->send('GET', '/big', headers($alice));
    ok($t->wait_for(sub { gauge() == 1 }), "$name: a download that stands still");
    my $before = cuts();
    leave($alice);
    ok($t->wait_for(sub { cuts() ne $before }), "$name: is cut");
    my $stream = is_reset($h2, $stalled, $name);
    cmp_ok(length($stream->{body}), '<', $big, "$name: before its end");
    ok($t->wait_for(sub { gauge() == 0 }), "$name: gone");
    $h2->close_now();
}

# --- what the client sends ---

sub left { my ($client) = @_; return $client->get('/quiet', fetched())->header('X-Left') // 0 }

for my $case ([ '/upload' => 0 ], [ '/counts' => 1 ]) {
    my ($uri, $counts) = @{$case};
    $alice = logged_in();
    $h2 = Test::Nginx::Streams->new(8085);
    my $stream = $h2->open('POST', $uri, headers($alice), 'content-length' => 1_000_000);
    $h2->say($stream, 'x' x 1000);
    $t->wait_for(sub { gauge() == 1 });
    $t->advance(500);
    $h2->say($stream, 'x' x 1000);
    is(!!$t->wait_for(sub { left($alice) > 800 }, 2), !!$counts, "$uri: what the client sends " . ($counts ? 'counts' : 'does not'));
    $t->advance(500);
    is_reset($h2, $stream, $uri) if !$counts;
    ok(!$h2->response($stream, 1), "$uri: goes on") if $counts;
    $h2->close_now();
}

$t->stop_fast();
done_testing();
