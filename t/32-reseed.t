#!/usr/bin/perl

# A memcached comes back empty: the nodes write back what they know.
# Attacks and faults: a cookie replayed after a logout, on a node that does not
# know of it, when the server has forgotten; users thrown out because a server
# has; an outage taken for "no such session".

use strict;
use warnings;

use FindBin;
use JSON::PP qw(decode_json);
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Nginx::Port qw(port);
use Test::Guard;

my %node = (a => Test::Nginx->new(), b => Test::Nginx->new());
my %port = (a => 8080, b => 8090);
$node{a}->has(qw(http proxy rewrite session_guard))->recorder(8081, sub {
    my ($request) = @_;
    return [ 200, { $request->path() eq '/login' ? ('X-Accel-Session' => 'create; user="alice"') : () }, "in\n" ];
});

my $memcached;

sub start_empty {
    my $port = port(8011);
    $memcached = $node{a}->start_daemon('memcached', '-u', 'nobody', '-l', '127.0.0.1', '-p', $port);
    $node{a}->waitforsocket("127.0.0.1:$port");
    return;
}

sub stop_it { return $node{a}->stop_daemon($memcached, 'KILL') }

start_empty();
for my $name (sort keys %node) {
    my $t = $node{$name};
    $t->write_private_file('a.key', join("\n", map { sprintf('%02x', $_) x 32 } 17, 18) . "\n");
    chown 0, 0, $t->testdir() . '/a.key' if $> == 0;
    $t->write_file_expand('nginx.conf', <<"EOC")->run();
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm a {
        zone 1m; key_file a.key; store memcached 127.0.0.1:8011 timeout=1s connect_timeout=1s;
        revalidate 1h; cookie a secure=off; idle_timeout off; absolute_timeout 8h;
    }
    server {
        listen 127.0.0.1:$port{$name};
        location /         { session a; proxy_pass http://127.0.0.1:8081; }
        location = /login  { session a optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /logout { session a; session_logout; }
        location = /status { session_status; }
    }
}
EOC
}

sub logged_in {
    my $client = client();
    $client->post('/login', '', fetched());
    return $client;
}

sub is_on {
    my ($client, $name) = @_;
    $client->{port} = $port{$name};
    my $response = $client->get('/', fetched());
    is($response->header('Set-Cookie'), undef, 'no cookie is touched') if $response->status() == 503;
    return $response->status() == 200 ? 'in' : reason($response);
}

# --- a new server ---

my @early = map { logged_in() } 1 .. 3;
is(is_on($early[0], 'b'), 'in', 'what it has counts at once');
my $nobody = logged_in();
stop_it();
start_empty();
is(is_on($nobody, 'b'), 'store_unavailable', 'what it has not may be what it has lost');

# --- it has lost what node a knows ---

$_->advance(300) for values %node;
my @alive = map { logged_in() } 1 .. 100;
my $gone = logged_in();
my $replayed = $gone->clone();
is($gone->post('/logout', '', fetched())->status(), 204, 'one logs out');
stop_it();
start_empty();

is(is_on($alive[0], 'b'), 'store_unavailable', 'node b cannot know whether there is such a session');
is(is_on($alive[0], 'a'), 'in', 'node a does');
logged_in();    # node a sees that the server is new
ok($node{b}->wait_for(sub { is_on($replayed, 'b') eq 'ended' }), 'what has ended is written back first');
is(is_on($alive[1], 'b'), 'store_unavailable', 'and nothing else yet');
$_->advance(16) for values %node;
ok($node{b}->wait_for(sub { is_on($alive[-1], 'b') eq 'in' }), 'then the sessions');
is(join(q{ }, map { is_on($_, 'b') } @alive), join(q{ }, ('in') x @alive), 'all of them');
is(is_on($replayed, $_), 'ended', "a cookie replayed after the logout: $_") for qw(a b);

$_->advance(60) for values %node;
my $forgotten = logged_in();
$node{a}->stop();
stop_it();
start_empty();
is(is_on($forgotten, 'b'), 'store_unavailable', 'what nobody has any more');
$node{b}->advance(61);
is(is_on($forgotten, 'b'), 'absent', 'is gone when the nodes have had their time');

done_testing();
