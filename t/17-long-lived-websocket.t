#!/usr/bin/perl

# WebSockets whose session ends: told so by a close frame with code 1008, where there is room for one.
# Attacks and faults: a socket that is talked through for hours after a logout, busy in both
# directions; a close frame in the middle of another frame; a client that does not read, or does not
# stop; nginx freeing the request it is ending.

use strict;
use warnings;

use FindBin;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;
use Test::LongLived;
use Test::WebSocket;

my $t = Test::Nginx->new()->has(qw(http proxy ssl session_guard));

my @HEAD = (101, { Connection => 'Upgrade', Upgrade => 'websocket' });
my @TICKS = map { (frame('text', "tick $_"), { delay => 20 }) } 1 .. 400;
my $long = frame('binary', 'x' x 70_000);
my %answers = (
    '/login' => [ 200, { 'X-Accel-Session' => 'create; user="alice"' }, "in\n" ],
    '/echo'  => [ @HEAD, '', upgrade => answering() ],
    '/busy'  => [ @HEAD, \@TICKS, upgrade => answering() ],
    '/half'  => [ @HEAD, [ frame('text', 'whole'), substr $long, 0, 69_000 ], upgrade => sub { return } ],
    '/head'  => [ @HEAD, [ frame('text', 'whole'), substr $long, 0, 5 ], upgrade => sub { return } ],
    '/bye'   => [ @HEAD, [ frame('text', 'whole'), frame('close', "\x03\xe8") ], upgrade => sub { return } ],
    '/flood' => [ @HEAD, [ ($long) x 200 ], upgrade => sub { return } ],
    '/other' => [ 101, { Connection => 'Upgrade', Upgrade => 'other' }, "other's bytes" ],
);
$answers{$_} = $answers{'/echo'} for qw(/keep /counts /login-echo);
$answers{'/login-echo'} = [ 101, [ %{ $HEAD[1] }, 'X-Accel-Session', 'renew' ], '', upgrade => answering() ];
my $up = $t->recorder(8081, \%answers);
my $flood = $t->recorder(8082, \%answers);    # blocks while nobody reads

$t->write_private_file('app.keys', join('', map { sprintf '%02x', $_ } 1 .. 32) . "\n");
chown 0, 0, $t->testdir() . '/app.keys' if $> == 0;
$t->ssl_cert()->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
worker_processes 2;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app { zone 1m; key_file app.keys; cookie a secure=off; idle_timeout 15m; absolute_timeout 8h; }
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection upgrade;
    server {
        listen 127.0.0.1:8080 sndbuf=32k;
        listen 127.0.0.1:8443 ssl sndbuf=32k;
        ssl_certificate localhost.crt;
        ssl_certificate_key localhost.key;
        session app;
        session_control on;
        location /          { proxy_pass http://127.0.0.1:8081; }
        location = /keep    { session_long_lived cut=off; proxy_pass http://127.0.0.1:8081; }
        location = /counts  { session_long_lived activity=client_bytes; proxy_pass http://127.0.0.1:8081; }
        location = /flood   { proxy_pass http://127.0.0.1:8082; }
        location = /quiet   { session_touch off; add_header X-Left $session_idle_left; empty_gif; }
        location = /login   { session app optional; proxy_pass http://127.0.0.1:8081; }
        location = /logout  { session_logout; }
        location = /status  { session off; session_status; }
    }
}
EOC

sub logged_in {
    my (%option) = @_;
    my $client = client(%option);
    $client->post('/login', '', fetched());
    return $client;
}

sub leave {
    my ($client) = @_;
    my $status = $client->clone()->post('/logout', '', fetched())->status();
    die "logout: $status\n" if $status != 204;
    return;
}

sub connected {
    my ($client, $uri) = @_;
    my $scheme = $client->{ssl} ? 'https' : 'http';
    my ($response, $socket) = $client->clone()->upgrade($uri, fetched(), Origin => "$scheme://localhost");
    die "$uri: " . $response->status() . "\n" unless $socket;
    return $socket;
}

sub says {
    my ($socket, $text) = @_;
    $socket->send_bytes(masked('text', $text));
    my $frame = next_frame($socket, 4);
    return $frame ? "@{$frame}" : 'nothing';
}

# What the last frame is, in words; and that the connection ends after it, in time.
sub told_why {
    my ($socket, $phrase) = @_;

    my $since = time();
    my $last;
    while (my $frame = next_frame($socket, 4)) { $last = $frame }
    ok($socket->ended(), "$phrase: the connection ends");
    note(sprintf '%s: after %.2f s', $phrase, time() - $since);
    return 'nothing' unless $last && $last->[0] eq 'close';
    my ($code, $reason) = unpack 'n a*', $last->[1];
    return "$code $reason";
}

# --- a logout, plain and over TLS ---

for my $ssl (0, 1) {
    my $name = $ssl ? 'TLS' : 'plain';
    my $alice = logged_in(ssl => $ssl);
    my $socket = connected($alice, '/echo');
    is(says($socket, 'hello'), 'text hello', "$name: a WebSocket works");
    my $kept = connected($alice, '/keep');
    leave($alice);
    is(told_why($socket, $name), '1008 ended', "$name: and is closed by name");
    is(says($kept, 'still'), 'text still', "$name: cut=off leaves it");
    $kept->close_now();

    # busy in both directions: the client never stops, nor does the application
    $alice = logged_in(ssl => $ssl);
    $socket = connected($alice, '/busy');
    my $sender = fork() // die "fork: $!\n";
    if (!$sender) {
        local $SIG{PIPE} = 'IGNORE';
        $socket->{handle}->syswrite(masked('text', 'y' x 500)) && sleep 0.01 for 1 .. 300;
        POSIX::_exit(0);
    }
    next_frame($socket) for 1 .. 20;
    leave($alice);
    my $why = told_why($socket, "$name, busy");
    waitpid $sender, 0;
    like($why, qr/\A(?:1008[ ]ended|nothing)\z/x, "$name, busy: no broken frame ($why)") if $ssl;
    is($why, '1008 ended', "$name, busy: closed by name all the same") if !$ssl;
}
ok($t->wait_for(sub { gauge() == 0 }), 'all are gone');
ok($t->wait_for(sub { $up->closed() == $up->opened() }), 'the upstream\'s connections, too');

# --- no room for a frame ---

for my $case ([ half => 'half a frame' ], [ head => 'half a frame\'s head' ], [ bye => 'a close frame of its own' ]) {
    for my $ssl (0, 1) {
        my $alice = logged_in(ssl => $ssl);
        my $socket = connected($alice, "/$case->[0]");
        is(join(' ', @{ next_frame($socket) }), 'text whole', "$case->[1]: a frame before it");
        ok($t->wait_for(sub { gauge() == 1 }), "$case->[1]: goes on");
        $socket->read_with(sub { 0 }, 0.3);
        my $before = length $socket->{buffer};
        leave($alice);
        is(length cut_in_time($socket, "$case->[1]: is cut"), $before, "$case->[1]: and nothing is put into it");
    }
}

my $alice = logged_in();
my $other = connected($alice, '/other');
is($other->read_until(qr/bytes/x), 'other\'s bytes', 'another protocol');
leave($alice);
is(cut_in_time($other, 'is cut'), '', 'and told nothing');

for my $ssl (0, 1) {
    $alice = logged_in(ssl => $ssl);
    my $stalled = connected($alice, '/flood');
    ok($t->wait_for(sub { gauge() == 1 }), 'a client that does not read');
    leave($alice);
    ok($t->wait_for(sub { gauge() == 0 }), 'cannot hold it');
    ok($t->wait_for(sub { $flood->closed() == $flood->opened() }, 12), 'nor the upstream');
    $stalled->close_now();
}

# --- timeouts, and what counts as activity ---

sub left { my ($client) = @_; return $client->get('/quiet', fetched())->header('X-Left') // 0 }

$alice = logged_in();
my $silent = connected($alice, '/echo');
my $talks = connected($alice, '/counts');
$t->advance(500);
is(says($silent, 'x'), 'text x', 'talk that does not count');
cmp_ok(left($alice), '<=', 400, 'is no activity');
is(says($talks, 'x'), 'text x', 'talk that counts');
ok($t->wait_for(sub { left($alice) > 800 }), 'is');
$t->advance(500);
ok(still_open($silent), 'and keeps the session for all');
$t->advance(401);
is(told_why($silent, 'idle'), '1008 expired_idle', 'until nobody talks any more');
is(told_why($talks, 'idle, too'), '1008 expired_idle', 'on either');

$alice = logged_in();
$talks = connected($alice, '/counts');
for (1 .. 33) {
    $t->advance(800);
    says($talks, 'x');
    $t->wait_for(sub { left($alice) > 850 });
}
$t->advance(8 * 3600 - 33 * 800 - 20);
is(says($talks, 'x'), 'text x', 'talked for nearly eight hours');
$t->advance(21);
is(told_why($talks, 'absolute'), '1008 expired_absolute', 'and no longer');

# --- by its own doing ---

$alice = logged_in();
my $renewed = connected($alice, '/login-echo');
$t->advance(12);
is(says($renewed, 'x'), 'text x', 'the session was renewed with the handshake');

# --- a worker that is told to go ---

$alice = logged_in();
my $stays = connected($alice, '/echo');
$t->reload();
is(says($stays, 'x'), 'text x', 'lives in the old worker');
leave($alice);
is(told_why($stays, 'reload'), '1008 ended', 'and is closed there');

# --- many at once ---

$alice = logged_in();
my @crowd = map { connected($alice, $_ % 2 ? '/echo' : '/busy') } 1 .. 60;
my $bob = connected(logged_in(), '/echo');
leave($alice);
my %why;
$why{ told_why($_, 'of many') }++ for @crowd;
is(join(', ', map { "$_: $why{$_}" } sort keys %why), '1008 ended: 60', 'each of many is told');
is(says($bob, 'x'), 'text x', 'the others are left');

$_->close_now() for $renewed, $bob;
$t->stop();
done_testing();
