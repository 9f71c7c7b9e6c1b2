#!/usr/bin/perl

# Read your login on any node: a genuine token that the store does not have is
# looked up once more, a moment later.
# Attacks and faults: a user who has just logged in on one node, refused on
# another; tokens of sessions long gone that cost the store more and more; a
# forged one that costs it anything.

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
my $shared = $node{a}->make_directory('store')->testdir() . '/store';
$node{b}->make_directory('store');
$node{a}->has(qw(http proxy rewrite session_guard))
    ->recorder(8081, sub { return [ 200, { 'X-Accel-Session' => 'create; user="alice"' }, "in\n" ] });

sub run {
    my ($name, $file) = @_;
    my $t = $node{$name};
    $t->write_private_file('a.key', join('', map { sprintf '%02x', $_ } 1 .. 32) . "\n");
    chown 0, 0, $t->testdir() . '/a.key' if $> == 0;
    $t->write_file_expand('nginx.conf', <<"EOC")->run();
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm a { zone 1m; key_file a.key; store lmdb $file map_size=8m; cookie a secure=off; }
    server {
        listen 127.0.0.1:$port{$name};
        location /         { session a; empty_gif; }
        location = /login  { session a optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /status { session_status; }
    }
}
EOC
    return;
}

sub looked_up {
    my $status = client(port => $port{b})->get('/status');
    return decode_json($status->body())->{realms}[0]{store}{look_ups}{operations};
}

sub logged_in_on_a {
    my $client = client();
    $client->post('/login', '', fetched());
    $client->{port} = $port{b};
    return $client;
}

sub asked_by {
    my ($client) = @_;
    my $before = looked_up();
    my $said = reason($client->get('/', fetched()));
    return "$said after " . (looked_up() - $before);
}

# --- a store that does not have it ---

run('a', "$shared/a.mdb");
run('b', 'store/own.mdb');
my $client = logged_in_on_a();
is(asked_by($client), 'absent after 2', 'a genuine token that is not there is looked up twice');
is(asked_by($client), 'absent after 1', 'the next time only once');
$node{b}->advance(11);
is(asked_by($client), 'absent after 2', 'after ten seconds it counts as new');
my $forged = client(port => $port{b});
$forged->set_cookie('a', substr($client->cookie('a'), 0, -1) . ($client->cookie('a') =~ m/A\z/x ? 'Q' : 'A'));
is(asked_by($forged), 'forged after 0', 'a forged one is not looked up at all');

# --- the node that made the session is still writing it ---

$node{b}->stop();
run('b', "$shared/a.mdb");
my $known = 0;
for (1 .. 10) {    # a slow machine may miss the moment
    $node{a}->store('stalls');
    my $late = logged_in_on_a();    # answered when its deadline had passed
    my $before = looked_up();
    my $helper = $node{a}->start_daemon(sub {
        $node{a}->wait_for(sub { looked_up() > $before });
        $node{a}->store('works');
    });
    $known = $late->get('/', fetched())->status() == 200;
    $node{a}->stop_daemon($helper);
    $node{a}->store('works');
    last if $known;
}
ok($known, 'a session that is written while another node looks for it is found');

done_testing();
