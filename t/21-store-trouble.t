#!/usr/bin/perl

# A store that fails, stalls, comes back. An outage is never taken for "no such session".
# Attacks and faults: users thrown out because the store is down; a logout during an outage that does
# not last; a stolen cookie used while nobody can be asked; an event loop that waits for a disk; a
# login answered before it is safe.

use strict;
use warnings;

use FindBin;
use Test::More;
use IO::Select;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http proxy rewrite session_guard));

my $large = 'x' x 300_000;
my $up = $t->recorder(8081, sub {
    my ($request) = @_;
    my $login = { 'X-Accel-Session' => 'create; user="alice"' };
    return [ 200, $login, "in\n" ] if $request->path() eq '/login';
    return [ 200, $login, $large ] if $request->path() eq '/large';
    return [ 302, { %{$login}, Location => '/x' }, '' ] if $request->path() eq '/moved';
    return [ 204, $login, '' ] if $request->path() eq '/empty';
    return [ 200, {}, "page\n" ];
});

$t->write_private_file('a.key', join('', map { sprintf '%02x', $_ } 1 .. 32) . "\n");
chown 0, 0, $t->testdir() . '/a.key' if $> == 0;
$t->make_directory('store');

$t->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
thread_pool small threads=2;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm a {
        zone 1m; key_file a.key; store lmdb store/a.mdb; thread_pool small; revalidate 10s;
        cookie a secure=off; idle_timeout 10m; absolute_timeout 1h;
    }
    server {
        listen 127.0.0.1:8080;
        add_header X-User "$session_user";
        add_header X-Status "$session_status";
        location / { session a; session_on_store_error grace=1m; proxy_pass http://127.0.0.1:8081; }
        location = /strict { session a; session_on_store_error closed; proxy_pass http://127.0.0.1:8081; }
        location = /open   { session a optional; proxy_pass http://127.0.0.1:8081; }
        location ~ ^/(login|large|moved|empty)$ { session a optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /logout { session a; session_logout; }
        location = /free   { empty_gif; }
    }
}
EOC

sub logged_in {
    my ($uri) = @_;
    my $client = client();
    $client->post($uri // '/login', '', fetched());
    return $client;
}

sub page {
    my ($client, $uri) = @_;
    my $response = $client->get($uri // '/', fetched());
    return $response->status() == 200 ? '200 ' . ($response->header('X-User') // '') : $response->status() . ' ' . reason($response);
}

# Another nginx process tree on the same file knows nothing of it: a zone of its own.
sub restart { $t->stop(); $t->run(); return }

# --- a store that fails ---

my $known = logged_in();
my $stored = logged_in();
restart();    # $stored is in the store only
is(page($known), '200 alice', 'a session of the store');
$t->store('fails');
is(page($known), '200 alice', 'known here, and just confirmed: nobody is asked');
is(page($stored), '503 store_unavailable', 'genuine, unknown here, nobody to ask: not 401');
is($stored->get('/', fetched())->header('Retry-After'), 1, 'the client may come again');
is($stored->get('/', navigation())->header('Set-Cookie'), undef, 'its cookie stays, on a page too');
is(page($stored, '/open'), '200 ', 'anonymous where that is enough');
is($stored->get('/open', fetched())->header('X-Status'), 'store_unavailable', 'which the log can tell');

$t->advance(11);
is(page($known), '200 alice', 'known here, confirmed a while ago: the grace counts');
is(page($known, '/strict'), '503 store_unavailable', 'not where the location is closed');
$t->advance(60);
is(page($known), '503 store_unavailable', 'nor for ever');

my $during = logged_in();
is(page($during), '200 alice', 'a login in the outage works on this node');
my $left = logged_in();
my $copy = $left->clone();
is($left->post('/logout', '', fetched())->status(), 204, 'so does a logout');
my $unseen = $stored->clone();
$stored->post('/logout', '', fetched());
is(page($unseen), '401 ended', 'even of a session nobody can say anything about');

my $forged = client();
$forged->set_cookie(a => substr($known->cookie('a'), 0, 40) . 'A' x 24);
like(page($forged), qr/^401[ ]forged/x, 'a forged token is told from a genuine one without a store');

$t->store('works');
is(page($known), '200 alice', 'the store is back');
ok($t->wait_for(sub { $t->read_file('error.log') =~ m/[ ]a[ ]write[ ]to[ ]the[ ]store[ ]failed/x }), 'writes had failed');
$t->advance(11);
$t->wait_for(sub { page($during) eq '200 alice' });
restart();
is(page($during), '200 alice', 'the login in the outage has reached the store');
is(page($copy), '401 ended', 'the logout too');
is(page($unseen), '401 ended', 'and the one of the session nobody knew');

# --- a store that stalls ---

# A login or logout under way: the application has answered, and another request has gone all the way
# through it since. What is not answered now waits.
sub under_way {
    my ($client, @request) = @_;
    my $before = $up->count();
    my $pending = $client->start(@request, fetched());
    $up->wait_for($before + 1) if $request[1] ne '/logout';
    page($known) for 1 .. 2;
    return $pending;
}

sub answered {
    my ($pending) = @_;
    return IO::Select->new($pending->{socket}->handle())->can_read(0) ? 1 : 0;
}

is(page($known), '200 alice', 'known here again');
$t->store('stalls');
my $client = client();
my $pending = under_way($client, 'POST', '/login', { body => '' });
ok(!answered($pending), 'a login waits for the store');
is(client()->get('/free')->status(), 200, 'other requests do not');
$t->store('works');
my $response = $client->finish($pending);
is($response->status() . $response->body(), "200in\n", 'and is answered when the store has it');
is(page($client), '200 alice', 'with a good cookie');

$t->store('stalls');
my $spare = $client->clone();
$pending = under_way($client, 'POST', '/logout', { body => '' });
ok(!answered($pending), 'a logout waits as well');
is(page($spare), '401 ended', 'and has ended the session already');
$t->store('works');
is($client->finish($pending)->status(), 204, 'answered');

$t->store('stalls');
my %status = ('/login' => 200, '/large' => 200, '/moved' => 302, '/empty' => 204);
for my $uri (sort keys %status) {
    for my $method (qw(POST HEAD)) {
        my $late = client();
        my $got = $late->request($method, $uri, fetched());
        is($got->status(), $status{$uri}, "$method $uri: answered when its time is up");
        is(length $got->body(), $method eq 'POST' ? length $large : 0, 'with all of its body') if $uri eq '/large';
        is(page($late), '200 alice', "$method $uri: and the session works here");
    }
}

# --- clients that give up, in the store's good time ---

$t->store('works');
my @parked = map { logged_in() } 1 .. 20;
restart();
$t->store('stalls');
my @waiting = map { $_->start('GET', '/', fetched()) } @parked;
is(client()->get('/free')->status(), 200, 'twenty wait for look-ups, the loop does not');
is((grep { answered($_) } @waiting) + 0, 0, 'they do wait');
$_->{socket}->close_now() for splice @waiting, 0, 10;
is(client()->get('/free')->status(), 200, 'ten go away');
$t->store('works');
is(join(' ', map { $parked[ 10 + $_ ]->finish($waiting[$_])->status() } 0 .. 9), join(' ', (200) x 10), 'ten are let in');
is(page($parked[0]), '200 alice', 'and those who went may come again');

# --- reload and quit with a store that stalls ---

restart();
$t->store('stalls');
@waiting = map { $_->start('GET', '/', fetched()) } @parked;
is(client()->get('/free')->status(), 200, 'twenty wait again');
ok($t->try_reload(), 'a reload goes through');
my %late;
$late{ $parked[$_]->finish($waiting[$_])->status() }++ for 0 .. $#parked;
is(join(' ', map { "$_ x$late{$_}" } sort keys %late), '503 x20', 'the old worker answers its requests: nobody knows');
$t->store('works');
is(join(' ', map { page($_) } @parked), join(' ', ('200 alice') x 20), 'nobody is thrown out');

done_testing();
