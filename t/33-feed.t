#!/usr/bin/perl

# What one node ends or changes, the others hear of, and believe the rest.
# Attacks and faults: a cookie used on another node after the logout, for longer
# than the bound; a node that has missed something and does not know; a node
# that asks about every session again and again.

use strict;
use warnings;

use FindBin;
use JSON::PP qw(decode_json);
use Test::More;
use Time::HiRes qw(time);

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Nginx::Port qw(port);
use Test::Guard;

# Two nodes on one LMDB file, and on three memcached servers with two replicas.
my %node = (a => Test::Nginx->new(), b => Test::Nginx->new());
my %port = (a => 8080, b => 8090);
$node{a}->make_directory('store');
my $file = $node{a}->testdir() . '/store/l.mdb';
$node{a}->has(qw(http proxy rewrite session_guard))->recorder(8081, sub {
    my ($request) = @_;
    return [ 200, { 'X-Accel-Session' => 'create; user="alice"; roles="editor"' }, "in\n" ] if $request->path() eq '/login';
    return [ 200, { 'X-Accel-Session' => 'update; data.theme="light"' }, "ok\n" ] if $request->path() eq '/light';
    return [ 200, {}, "page\n" ];
});
my @server;
for (11, 12, 13) {
    my $port = port(8000 + $_);
    push @server, $node{a}->start_daemon('memcached', '-u', 'nobody', '-l', '127.0.0.1', '-p', $port);
    $node{a}->waitforsocket("127.0.0.1:$port");
}

for my $name (sort keys %node) {
    my $t = $node{$name};
    $t->write_private_file('a.key', join('', map { sprintf '%02x', $_ } 1 .. 32) . "\n");
    chown 0, 0, $t->testdir() . '/a.key' if $> == 0;
    my $servers = join q{ }, map { "127.0.0.1:$_" } 8011 .. 8013;
    $t->write_file_expand('nginx.conf', <<"EOC")->run();
%%TEST_GLOBALS%%
worker_processes 2;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm l { zone 1m; key_file a.key; store lmdb $file map_size=16m; revalidate 1h; cookie l secure=off; idle_timeout off; absolute_timeout 8h; }
    session_realm m {
        zone 1m; key_file a.key; store memcached $servers replicas=2 timeout=1s connect_timeout=1s;
        revalidate 1h; cookie m secure=off; idle_timeout off; absolute_timeout 8h;
    }
    server {
        listen 127.0.0.1:$port{$name};
        add_header X-Is "\$session_user/\$session_attr_theme";
        location = /status { session_status; }
        location /l/ { session l; proxy_pass http://127.0.0.1:8081/; }
        location /m/ { session m; proxy_pass http://127.0.0.1:8081/; }
        location = /l/login { session l optional; session_control create; proxy_pass http://127.0.0.1:8081/login; }
        location = /m/login { session m optional; session_control create; proxy_pass http://127.0.0.1:8081/login; }
        location = /l/light { session l; session_control update; proxy_pass http://127.0.0.1:8081/light; }
        location = /m/light { session m; session_control update; proxy_pass http://127.0.0.1:8081/light; }
        location = /l/logout { session l; session_logout; }
        location = /m/logout { session m; session_logout; }
    }
}
EOC
}

sub on {
    my ($client, $name, $uri) = @_;
    $client->{port} = $port{$name};
    return $client->get($uri, fetched());
}

sub is_on {
    my ($client, $name, $realm) = @_;
    my $response = on($client, $name, "/$realm/");
    return $response->status() == 200 ? $response->header('X-Is') : reason($response);
}

sub known_to_both {
    my ($realm) = @_;
    my $client = client();
    on($client, 'a', "/$realm/login");
    is_on($client, 'b', $realm);
    return $client;
}

sub store_of {
    my ($name, $realm) = @_;
    my $all = decode_json(client(port => $port{$name})->get('/status')->body())->{realms};
    my ($status) = grep { $_->{name} eq $realm } @{$all};
    return $status->{store};
}

sub counted { return store_of(@_)->{look_ups}{operations} }

sub ended_on {
    my ($client, $name, $realm) = @_;
    $client->{port} = $port{$name};
    return $client->post("/$realm/logout", '', fetched());
}

for my $realm (qw(l m)) {
    # The feed has begun when the first end was told; then every node finds its place in it.
    my $t = $node{a};
    ended_on(known_to_both($realm), 'a', $realm);
    for my $name (qw(a b)) {
        ok($t->wait_for(sub { defined store_of($name, $realm)->{feed_lag_ms} }), "$realm: followed by $name");
    }

    my @late;
    for (1 .. 20) {
        my $client = known_to_both($realm);
        my $copy = $client->clone();
        ended_on($client, 'a', $realm);
        my $start = time;
        ok($t->wait_for(sub { is_on($copy, 'b', $realm) eq 'ended' }), "$realm: a logout is heard of") or last;
        push @late, time - $start;
    }
    @late = sort { $a <=> $b } @late;
    diag(sprintf '%s: heard of after %.0f ms (median), %.0f ms (slowest of 20)', $realm, 1000 * ($late[@late / 2] // 0), 1000 * ($late[-1] // 0));

    my $client = known_to_both($realm);
    my $before = counted('b', $realm);
    $node{b}->advance(2 * 3600);
    # The clock has moved: nothing is believed until the feed has been heard again, and what was confirmed
    # before still is.
    ok($t->wait_for(sub { counted('b', $realm); is_on($client, 'b', $realm) eq 'alice/' }), "$realm: hours later");
    $before = counted('b', $realm);
    is(is_on($client, 'b', $realm), 'alice/', "$realm: known") for 1 .. 3;
    is(counted('b', $realm), $before, "$realm: without asking");
    on($client, 'a', "/$realm/light");
    ok($t->wait_for(sub { is_on($client, 'b', $realm) eq 'alice/light' }), "$realm: a change is heard of");
    ended_on($client, 'b', $realm);
    ok($t->wait_for(sub { is_on($client, 'a', $realm) =~ m/\A(?:none|ended)\z/x }), "$realm: the other way round");
}

# A server that nobody can hear: nothing is believed for longer than the bound.
my $client = known_to_both('m');
$node{b}->advance(30);
$node{a}->stop_daemon($server[2], 'KILL');
$node{b}->advance(2 * 3600);
my $before = counted('b', 'm');
is(is_on($client, 'b', 'm'), 'alice/', 'one of two replicas is enough');
cmp_ok(counted('b', 'm'), '>', $before, 'but it is asked');

done_testing();
