#!/usr/bin/perl

# Requests that last: what ends with their session, and what does not.
# Attacks and faults: somebody goes on reading or sending for hours after a logout; a client that
# does not read holds what it has; a truncated answer that looks whole; a logout or a login that
# cuts off its own answer.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes qw(time);

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;
use Test::LongLived;

my $t = Test::Nginx->new()->has(qw(http proxy rewrite session_guard));

my @EVENTS = map { ("data: $_\n\n", { delay => 200 }) } 1 .. 40;
my @SLOW = ("begin\n", { delay => 1800 }, "end\n");
my %answers = (
    '/login' => [ 200, { 'X-Accel-Session' => 'create; user="alice"' }, "in\n" ],
    '/events' => [ 200, { 'Content-Type' => 'text/event-stream' }, \@EVENTS, chunked => 1 ],
    '/slow'   => [ 200, {}, "late\n", delay => 8000 ],
    '/redirect' => [ 200, { 'X-Accel-Redirect' => '/inner' }, '' ],
    '/renew'  => [ 200, { 'X-Accel-Session' => 'renew' }, "done\n" ],
);
$answers{"/own/$_->[0]"} = [ 200, { 'X-Accel-Session' => $_->[1] }, \@SLOW ]
    for [ again => 'create; user="bob"' ], [ renew => 'renew' ], [ roles => 'update; roles="x"' ], [ leave => 'destroy' ];
$answers{"/$_"} = $answers{'/events'} for qw(optional keep free old inner);
my $up = $t->recorder(8081, \%answers);
my $big = 64 * 1024 * 1024;
$t->write_file('big', '');
truncate $t->testdir() . '/big', $big or die;

sub configuration {
    return <<'EOC';
%%TEST_GLOBALS%%
daemon off;
worker_processes 2;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app { zone 1m; key_file app.keys; cookie a secure=off; idle_timeout 15m; absolute_timeout 8h; }
    proxy_buffering off;
    log_format cut '$uri $session_user $session_reason';
    server {
        listen 127.0.0.1:8080 sndbuf=32k;
        access_log cut.log cut;
        session app;
        session_control on;
        location /            { proxy_pass http://127.0.0.1:8081; }
        location = /optional  { session app optional; proxy_pass http://127.0.0.1:8081; }
        location = /keep      { session_long_lived cut=off; proxy_pass http://127.0.0.1:8081; }
        location = /free      { session off; proxy_pass http://127.0.0.1:8081; }
        location = /old       { proxy_http_version 1.0; proxy_pass http://127.0.0.1:8081; }
        location = /inner     { internal; session off; proxy_pass http://127.0.0.1:8081; }
        location = /big       { root .; }
        location = /upload    { client_max_body_size 10m; proxy_pass http://127.0.0.1:8081; }
        location = /stream    { client_max_body_size 10m; proxy_request_buffering off; proxy_http_version 1.1; proxy_pass http://127.0.0.1:8081; }
        location = /counts    { session_long_lived activity=client_bytes; client_max_body_size 10m; proxy_pass http://127.0.0.1:8081; }
        location = /quiet     { session_touch off; add_header X-Left $session_idle_left; empty_gif; }
        location = /login     { session app optional; proxy_pass http://127.0.0.1:8081; }
        location = /logout    { session_logout; }
        location = /status    { session off; session_status; }
    }
}
EOC
}

$t->write_private_file('app.keys', join('', map { sprintf '%02x', $_ } 1 .. 32) . "\n");
chown 0, 0, $t->testdir() . '/app.keys' if $> == 0;
$t->write_file_expand('nginx.conf', configuration())->run();

sub logged_in {
    my $client = client();
    $client->post('/login', '', fetched());
    return $client;
}

# A request whose answer has begun (or, with a pattern of its own, is on its way).
sub begun {
    my ($client, $uri, $pattern) = @_;
    my $pending = $client->start('GET', $uri, fetched());
    $pending->{socket}->read_until($pattern // qr/data:[ ]1\n/x);
    return $pending->{socket};
}

# From another tab, that is, perhaps, by another worker.
sub leave {
    my ($client) = @_;
    my $status = $client->clone()->post('/logout', '', fetched())->status();
    die "logout: $status\n" if $status != 204;
    return;
}

# --- a logout ---

my $alice = logged_in();
my $bob = logged_in();
my $kept = begun($alice, '/keep');
my $free = begun($alice, '/free');
my $stranger = begun(client(), '/optional');
my $other = begun($bob, '/events');
my @streams = map { begun($alice, $_) } '/events', '/optional', '/redirect';
ok($t->wait_for(sub { gauge() == 5 }), 'connections that last are counted');
leave($alice);
my $since = time();
my @rest = map { cut_in_time($_, 'a stream ends with its session', $since) } @streams;
unlike(join('', @rest), qr/^0\r\n/xm, 'and does not look whole');
is(cuts(), 'ended:3', 'counted by reason');
ok(still_open($kept), 'cut=off leaves it');
ok(!(grep { $_->ended() } $free, $stranger, $other), 'and all that is nobody\'s, or another\'s');
ok($t->wait_for(sub { $up->closed() >= 4 }), 'the upstream\'s connections are closed as well');
$_->close_now() for $kept, $free, $stranger;
ok($t->wait_for(sub { $t->read_file('cut.log') =~ m{^/events[ ]alice[ ]ended$}xm }), 'the access log says why');

# --- a response that ends with its connection ---

$alice = logged_in();
my $old = begun($alice->clone(), '/old');
leave($alice);
cut_in_time($old, 'an answer of unknown length');
ok($old->was_reset(), 'is reset, for its end would look like the end');

# --- downloads, and a client that does not read ---

$alice = logged_in();
my $stalled = begun($alice, '/big', qr/\r\n\r\n/x);
ok($t->wait_for(sub { gauge() == 2 }), 'a download that stands still');
leave($alice);
ok($t->wait_for(sub { gauge() == 1 }), 'is cut while the client does not read');
my $got = length cut_in_time($stalled, 'and the client finds its end');
cmp_ok($got, '<', $big, 'which is not the file\'s');

# --- uploads ---

for my $uri ('/upload', '/stream') {
    $alice = logged_in();
    $up->clear();
    my $upload = $alice->start('POST', $uri, { body => 'x' x 1000 }, fetched(), 'Content-Length' => 1_000_000);
    ok($t->wait_for(sub { gauge() >= 1 }), "$uri: an upload that has only begun");
    leave($alice);
    is(cut_in_time($upload->{socket}, "$uri: is cut"), '', "$uri: without an answer");
    is($up->count(), 0, "$uri: and the upstream has no request of it") if $uri eq '/upload';
    ok($t->wait_for(sub { $up->closed() >= $up->opened() }), "$uri: nor a connection");
}

# --- an answer that has not begun ---

$alice = logged_in();
my $slow = $alice->start('GET', '/slow', fetched());
ok($t->wait_for(sub { gauge() >= 1 }), 'an application that thinks');
leave($alice);
is(cut_in_time($slow->{socket}, 'is not waited for'), '', 'and says nothing any more');

# --- what a request does to its own session ---

for my $case ([ again => 'who logs in anew' ], [ renew => 'who renews' ], [ roles => 'whose roles change' ],
    [ leave => 'who leaves' ]) {
    $alice = logged_in();
    my $thief = $alice->clone();
    my $response = $alice->get("/own/$case->[0]", fetched());
    is($response->body(), "begin\nend\n", "$case->[1] gets the whole answer");
    $t->advance(11);    # the old handle's last seconds
    isnt($thief->get('/quiet', fetched())->status(), 200, "$case->[1]: the session was another by then");
}
$alice = logged_in();
my $new = $alice->start('GET', '/own/renew', fetched());
$new->{socket}->read_until(qr/begin\n/x);
ok($new->{socket}, 'a stream under a session that it has renewed itself');
is(client()->post('/logout', '', fetched())->status(), 204, 'nobody\'s logout');
my ($head) = $t->read_file('cut.log') =~ m/(own.renew.*ended)/x;
is($head, undef, 'does not end it');

# --- regenerated elsewhere ---

$alice = logged_in();
my $tab = begun($alice->clone(), '/events');
is($alice->get('/renew', fetched())->status(), 200, 'another tab gets a new token');
ok(still_open($tab), 'the old one\'s stream goes on for a moment');
$t->advance(11);
cut_in_time($tab, 'but not after the window');

# --- timeouts ---

$alice = logged_in();
my $idle = begun($alice, '/events');
$t->advance(880);
ok(still_open($idle), 'nobody has moved for a while');
$t->advance(21);
cut_in_time($idle, 'the idle timeout ends it, whatever was sent');

$alice = logged_in();
for (1 .. 32) { $t->advance(890); $alice->get('/big', 'Range' => 'bytes=0-0') }
my $day = begun($alice, '/events');
$t->advance(8 * 3600 - 32 * 890 - 10);
ok(still_open($day), 'nearly eight hours');
$t->advance(11);
cut_in_time($day, 'the absolute timeout ends it');
like(cuts(), qr/expired_absolute:1[ ]expired_idle:[12][ ]regenerated:1/x, 'counted by reason');

# --- activity ---

sub left { my ($client) = @_; return $client->get('/quiet', fetched())->header('X-Left') // 0 }

for my $case ([ '/upload' => 0 ], [ '/counts' => 1 ]) {
    my ($uri, $counts) = @{$case};
    $alice = logged_in();
    my $upload = $alice->clone()->start('POST', $uri, { body => 'x' x 1000 }, fetched(), 'Content-Length' => 1_000_000);
    $t->wait_for(sub { gauge() >= 1 });
    $t->advance(500);
    ok(still_open($upload->{socket}), "$uri: half of the time is over");
    cmp_ok(left($alice), '<=', 400, "$uri: and silence is no activity");
    $upload->{socket}->send_bytes('x' x 1000);
    my $moved = $t->wait_for(sub { left($alice) > 800 }, 2);
    is(!!$moved, !!$counts, "$uri: what the client sends " . ($counts ? 'counts' : 'does not'));
    $t->advance(500);
    is(still_open($upload->{socket}), !!$counts, "$uri: accordingly");
    $upload->{socket}->close_now();
}

# --- what is short ---

my $before = cuts();
$alice = logged_in();
my $kept_alive = $alice->clone();
is($kept_alive->get('/quiet', { keepalive => 1 }, fetched())->status(), 200, 'a request on a connection that is kept');
leave($alice);
$t->wait_for(sub { gauge() <= 1 });
is($kept_alive->get('/quiet', { keepalive => 1 }, fetched())->status(), 401, 'the connection lives, the session does not');
is($kept_alive->{socket} ? 1 : 0, 1, 'on the same connection');
is(cuts(), $before, 'and nothing was cut');

# --- a reload ---

$alice = logged_in();
my $stays = begun($alice, '/events');
$t->reload();
ok(!$stays->ended(), 'a worker that is told to go serves what it has');
leave($alice);
cut_in_time($stays, 'and cuts it, too');

# --- nginx -t ---

for my $bad ('activity=all', 'cut=maybe', 'cut=on cut=on', 'activity=none cut=on x') {
    my ($ok, $output) = $t->nginx_t_http("server { listen 127.0.0.1:8090; session_long_lived $bad; }");
    ok(!$ok, "session_long_lived $bad: refused");
}
my ($ok, $output) = $t->nginx_t_http("session_long_lived cut=off; session_long_lived cut=on;");
like($output, qr/is[ ]duplicate/x, 'twice');

$other->close_now();
$t->stop();
done_testing();
