#!/usr/bin/perl

# Idle and absolute timeouts, and what moves them.
# Attacks and faults: an unattended session that never ends because something polls; a session kept
# alive for ever; a login that asks for longer than the realm allows; a clock that steps back or
# forward; a reason that is lost when the room of an expired session is reused.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http proxy rewrite session_guard));

my $up = $t->recorder(8081, sub {
    my ($request) = @_;
    my ($limits) = $request->uri() =~ m/[?](.*)/x;
    my $command = join '; ', 'create', 'user="alice"', $limits ? split m/&/x, $limits : ();
    return [ 200, { 'X-Accel-Session' => $command }, "in\n" ] if $request->path() =~ m{/login\z}x;
    return [ 200, { 'X-Accel-Session' => $1 }, "done\n" ] if $request->path() =~ m{/(renew|reauth)\z}x;
    return [ 200, {}, "page\n" ];
});

sub configuration {
    my (%timeout) = @_;
    return <<"EOC";
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app  { zone 1m; key_file app.keys; cookie a secure=off;
                         idle_timeout $timeout{idle}; absolute_timeout $timeout{absolute}; }
    session_realm long { zone 1m; cookie b secure=off; idle_timeout off; absolute_timeout 8h; }
    upstream app { server 127.0.0.1:8081; }

    server {
        listen 127.0.0.1:8080;
        session app;
        add_header X-Status \$session_status always;
        add_header X-Idle \$session_idle_left always;
        add_header X-Absolute \$session_absolute_left always;

        location /              { proxy_pass http://app; }
        location = /login       { session app optional; session_control create; proxy_pass http://app; }
        location = /renew       { session_control renew; proxy_pass http://app; }
        location = /reauth      { session_control reauth; proxy_pass http://app; }
        location = /quiet       { session_touch off; proxy_pass http://app; }
        location = /optional    { session app optional; proxy_pass http://app; }
        location = /session     { session_info; }
        location = /if          { session_info; if (\$arg_x) { set \$x y; } }
        location = /logout      { session_logout; }
        location = /long        { session long; proxy_pass http://app; }
        location = /long/login  { session long optional; session_control create; proxy_pass http://app; }
    }
}
EOC
}

$t->write_private_file('app.keys', 'c1' x 32 . "\n");
$t->write_file_expand('nginx.conf', configuration(idle => '15m', absolute => '8h'))->run();

my $r;

sub logged_in {
    my ($limits, $where) = @_;
    my $client = client();
    $client->post(($where // '/login') . ($limits ? "?$limits" : ''), '', fetched());
    return $client;
}

# What the page says: 200, or the reason of the refusal.
sub page {
    my ($client, $uri) = @_;
    my $response = $client->get($uri // '/page', fetched());
    return $response->status() == 200 ? 200 : reason($response);
}

# Real time goes on beside the test's clock: two seconds are left for it.
sub about {
    my ($number, $wanted, $phrase) = @_;
    my $good = defined $number && $number <= $wanted && $number >= $wanted - 2;
    ok($good, $phrase) or diag('got ' . ($number // 'nothing') . ", expected about $wanted");
    return;
}

# --- idle ---

my $alice = logged_in();
$t->advance(895);
is(page($alice, '/quiet'), 200, 'idle for less than the limit');
$t->advance(5);
is(page($alice), 'expired_idle', 'idle for exactly the limit');
is($alice->get('/optional')->header('X-Status'), 'expired_idle', 'optional says so');
is(page($alice), 'expired_idle', 'asking again does not revive it');

$alice = logged_in();
for my $i (1 .. 4) {
    $t->advance(890);
    $r = $alice->get('/page');
    is($r->status(), 200, "active in time: $i");
    about($r->header('X-Idle'), 10, 'the time left is the one before this request');
    about($alice->get('/quiet')->header('X-Idle'), 900, 'and all of it after');
}
$t->advance(900);
is(page($alice), 'expired_idle', 'then idle');

# --- what does not count ---

$alice = logged_in();
for my $i (1 .. 8) {
    $t->advance(100);
    is(page($alice, '/quiet'), 200, "session_touch off: $i");
    like($alice->get('/session', fetched())->body(), qr/"idle_left":\d+/x, "session_info, GET: $i");
    is($alice->get('/if?x=y', fetched())->status(), 200, "session_info with if, GET: $i");
    is($alice->head('/session', fetched())->status(), 200, "session_info, HEAD: $i");
}
about($alice->get('/quiet')->header('X-Idle'), 100, 'none of them prolongs');
$t->advance(100);
is(page($alice, '/quiet'), 'expired_idle', 'a client that polls is thrown out in time');

$alice = logged_in();
$t->advance(800);
about(($alice->post('/session', '', fetched())->body() =~ m/"idle_left":(\d+)/x)[0], 900, 'a POST to session_info prolongs');
$t->advance(800);
is(page($alice), 200, 'as if a page had been asked for');
is($alice->post('/session', '', navigation(site => 'cross-site'))->status(), 403, 'another site\'s POST is refused');
$t->advance(800);
is($alice->post('/page', '', navigation(site => 'cross-site'))->status(), 403, 'so is one to a page');
$t->advance(100);
is(page($alice), 'expired_idle', 'and has prolonged nothing');

$alice = logged_in();
$t->advance(800);
is($alice->get('/optional')->header('X-Status'), 'valid', 'optional knows the session');
$t->advance(800);
is(page($alice), 200, 'and was activity');

# --- absolute ---

sub keep_active {
    my ($client, $seconds) = @_;
    my $refusals = 0;
    for (my $at = 0; $at < $seconds; $at += 600) {
        $t->advance($seconds - $at < 600 ? $seconds - $at : 600);
        $refusals++ if $at + 600 < $seconds && $client->get('/page')->status() != 200;
    }
    return $refusals;
}

$alice = logged_in();
is(keep_active($alice, 8 * 3600 - 10), 0, 'active for nearly eight hours');
$r = $alice->get('/page');
is($r->status(), 200, 'ten seconds before the end');
about($r->header('X-Absolute'), 10, 'which it knows');
about(($alice->post('/session', '', fetched())->body() =~ m/"idle_left":(\d+)/x)[0], 10, 'idle is never shown longer than absolute');
$t->advance(10);
is(page($alice), 'expired_absolute', 'at its end, active or not');

$alice = logged_in();
keep_active($alice, 7 * 3600);
is($alice->post('/renew', '', fetched())->status(), 200, 'a new ID');
is($alice->post('/reauth', '', fetched())->status(), 200, 'a new authentication');
is(page($alice), 200, 'and on');
is(keep_active($alice, 3600), 0, 'until the eighth hour');
is(page($alice), 'expired_absolute', 'neither has moved the end');

# --- limits of one session ---

$alice = logged_in('idle=60');
$t->advance(55);
is(page($alice), 200, 'idle=60: in time');
about($alice->get('/quiet')->header('X-Idle'), 60, 'idle=60: what is left');
$t->advance(60);
is(page($alice), 'expired_idle', 'idle=60: no longer');

$alice = logged_in('absolute=120');
$t->advance(115);
is(page($alice), 200, 'absolute=120: in time');
$t->advance(5);
is(page($alice), 'expired_absolute', 'absolute=120: no longer');

$alice = logged_in('idle=100000&absolute=1000000');
is($alice->cookie('a') =~ m/\A[\w-]{64}\z/x, 1, 'longer ones than the realm\'s: a login');
about($alice->get('/quiet')->header('X-Absolute'), 28_800, 'but no longer a session');
$t->advance(900);
is(page($alice), 'expired_idle', 'nor a longer idleness');

# --- idle_timeout off ---

my $long = logged_in('', '/long/login');
$t->advance(8 * 3600 - 10);
is(page($long, '/long'), 200, 'idle_timeout off: nearly eight hours without a request');
$t->advance(10);
is(page($long, '/long'), 'expired_absolute', 'idle_timeout off: the absolute one holds');
$long = logged_in('idle=60', '/long/login');
$t->advance(60);
is(page($long, '/long'), 'expired_idle', 'idle_timeout off: a session may have one of its own');

# --- a clock that steps ---

$alice = logged_in();
$t->advance(-3600);
is(page($alice), 200, 'an hour back: the session is good');
$r = $alice->get('/quiet');
ok($r->header('X-Idle') <= 900 && $r->header('X-Absolute') <= 28_800, 'an hour back: nothing is longer than it may be');
$alice->get('/page');
my $past = logged_in();
is(page($past), 200, 'an hour back: logins work');
$t->advance(3600);
is(page($alice), 200, 'put right: the session is good');
is(page($past), 'expired_idle', 'put right: the other one is older by an hour');
$t->advance(899 - 3);
is(page($alice), 200, 'put right: activity counts as ever');
$t->advance(-40 * 365 * 86_400);
is(page($alice), 200, 'decades back');
is(page(logged_in()), 200, 'decades back: logins work');
$t->advance(40 * 365 * 86_400);
is(page($alice), 200, 'decades forward again');
$t->advance(10 * 365 * 86_400);
like(page($alice), qr/expired|absent/x, 'years ahead: over');
is(page(logged_in()), 200, 'years ahead: logins work');
$t->advance(-10 * 365 * 86_400);
is(page(logged_in()), 200, 'put right: logins work');

# --- the reason outlives the sweep ---

# The sweep's timer goes by real time, a second a round. A session that is only late comes back with
# the clock; one that was swept does not.  The clock is back for one request at a time, since a sweep
# in that moment would find nothing.
sub swept {
    my (@clients) = @_;
    return $t->wait_for(sub {
        $t->advance(-600);
        my $there = page($clients[0], '/quiet') eq '200';
        $t->advance(600);
        shift @clients if !$there;
        return !@clients;
    }, 30);
}

my @idle = map { logged_in() } 1 .. 20;
my @old = map { logged_in('absolute=1000') } 1 .. 20;
my @live = map { logged_in() } 1 .. 5;
$t->advance(500);
page($_) for @old, @live;
$t->advance(400);
page($_) for @old, @live;
is(join(' ', map { page($_) } @idle[ 0, 9 ]), 'expired_idle expired_idle', 'before the sweep: idle');
$t->advance(100);
is(join(' ', map { page($_) } @old[ 0, 9 ]), 'expired_absolute expired_absolute', 'before the sweep: absolute');
ok(swept(@idle, @old), 'the sweep has come by');
is(join(' ', map { page($_) } @idle), join(' ', ('expired_idle') x 20), 'after the sweep: idle');
is(join(' ', map { page($_) } @old), join(' ', ('expired_absolute') x 20), 'after the sweep: absolute');
is(join(' ', map { page($_) } @live), join(' ', (200) x 5), 'after the sweep: the others live');
is($idle[0]->post('/logout', '', fetched())->status(), 204, 'after the sweep: logging out is as good');
is(page($idle[1]), 'expired_idle', 'after the sweep: of one says nothing of another');

# --- other timeouts after a reload ---

$alice = logged_in();
my $bob = logged_in();
$t->advance(400);
is(page($bob), 200, 'before the reload');
$t->write_file_expand('nginx.conf', configuration(idle => '5m', absolute => '1h'));
$t->reload();
is(page($alice), 'expired_idle', 'a shorter idle timeout counts at once');
is(page($bob), 200, 'for who was idle too long');
$t->advance(300);
is(page($bob), 'expired_idle', 'and from then on');

$alice = logged_in();
for (1 .. 6) { $t->advance(290); $alice->get('/page') }
$t->write_file_expand('nginx.conf', configuration(idle => '5m', absolute => '20m'));
$t->reload();
is(page($alice), 'expired_absolute', 'so does a shorter absolute one');

$alice = logged_in();
$t->write_file_expand('nginx.conf', configuration(idle => '1h', absolute => '8h'));
$t->reload();
$t->advance(3500);
is(page($alice), 200, 'a longer one counts as well for what is live');

done_testing();
