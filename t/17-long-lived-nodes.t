#!/usr/bin/perl

# Connections that last, of a session that another node ends or keeps alive; and while the store
# cannot be asked.
# Attacks and faults: a logout that the connection's node does not hear of; users cut off because
# the store is down for a moment, or because this node has not seen them.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes qw(time);

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;
use Test::LongLived;
use Test::Nodes;
use Test::WebSocket;

my $other = Test::Nginx->new();
my $file = $other->make_directory('store')->testdir() . '/store/a.mdb';
my $sockets = Test::Nginx->new()->recorder(8083, sub {
    return [ 101, { Connection => 'Upgrade', Upgrade => 'websocket' }, '', upgrade => answering() ];
});
my $nodes = Test::Nodes->new(
    realm => "store lmdb $file map_size=16m; revalidate 5s; idle_timeout 15m; absolute_timeout 8h;",
    locations => join "\n", map {
        "location = /$_->[0] { session a; session_long_lived $_->[1]; $_->[2] proxy_pass http://127.0.0.1:8083;"
            . ' proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }'
    } [ socket => 'cut=on', 'session_on_store_error grace=2m;' ], [ strict => 'cut=on', 'session_on_store_error closed;' ],
    [ counts => 'activity=client_bytes', 'session_on_store_error grace=2m;' ],
)->run();

sub connected {
    my ($client, $node, $uri) = @_;
    my $copy = $client->clone();
    $copy->{port} = $nodes->{port}{$node};
    my ($response, $socket) = $copy->upgrade($uri // '/socket', fetched(), Origin => 'http://localhost');
    die $response->status() . ' ' . $response->body() . "\n" unless $socket;
    return $socket;
}

sub works {
    my ($socket) = @_;
    $socket->send_bytes(masked('text', 'hello'));
    return (next_frame($socket, 4) // ['nothing'])->[0] eq 'text';
}

sub told_why {
    my ($socket, $phrase) = @_;
    my $since = time();
    my $frame = next_frame($socket, 6);
    note(sprintf '%s: after %.2f s', $phrase, time() - $since);
    return $frame && $frame->[0] eq 'close' ? substr $frame->[1], 2 : 'nothing';
}

# --- ended, or seen, by another node ---

for my $name ($nodes->names()) {
    $nodes->logout($nodes->login($name), $name);    # there is something to hear
    ok($nodes->node($name)->wait_for(sub { defined $nodes->status($name)->{store}{feed_lag_ms} }), "$name follows the feed");
}
my $alice = $nodes->login('a');
my $here = connected($alice, 'a');
ok(works($here), 'a WebSocket on one node');
is($nodes->logout($alice, 'b'), 204, 'a logout on the other');
is(told_why($here, 'elsewhere'), 'ended', 'ends it');

$alice = $nodes->login('a');
my $there = connected($alice, 'b');
is($nodes->logout($alice, 'a'), 204, 'and the other way round');
is(told_why($there, 'elsewhere'), 'ended', 'the same');

$alice = $nodes->login('a');
$here = connected($alice, 'a');
for (1 .. 4) {
    $nodes->advance(400);
    is($nodes->sees('b', $alice), 'alice/editor/', 'active on the other node');
    ok($nodes->node('b')->wait_for(sub { $nodes->status('b')->{store}{waiting} == 0 }), 'told to the store');
}
ok(still_open($here), 'is active for all');
$nodes->advance(901);
is(told_why($here, 'idle'), 'expired_idle', 'until nobody has seen the user');

$alice = $nodes->login('a');
my $talks = connected($alice, 'a', '/counts');
for (1 .. 3) {
    $nodes->advance(400);
    ok(works($talks), 'what the client says');
    still_open($talks);
}
is($nodes->sees('b', $alice), 'alice/editor/', 'counts on the other node as well');
$talks->close_now();

# --- while the store cannot be asked ---

$alice = $nodes->login('a');
$here = connected($alice, 'a');
my $strict = connected($alice, 'a', '/strict');
ok(works($here) && works($strict), 'the store works');
$_->store('fails') for $nodes->all();
$nodes->advance(8);
is(told_why($strict, 'closed'), 'store_unavailable', 'closed: cut when the store could not say for too long');
ok(still_open($here), 'grace: kept');
$nodes->advance(60);
ok(still_open($here), 'grace: for its time');
$nodes->advance(70);
is(told_why($here, 'grace'), 'store_unavailable', 'grace: and no longer');
$_->store('works') for $nodes->all();
ok($nodes->node('a')->wait_for(sub { $nodes->sees('a', $alice) eq 'alice/editor/' }, 12), 'the session is good all the same');
# (A session that the store has just confirmed: the one of before may have the feed's word only.)
$alice = $nodes->login('a');
$here = connected($alice, 'a');
$_->store('stalls') for $nodes->all();
$nodes->advance(8);
ok(still_open($here), 'a store that does not answer: kept');
$_->store('works') for $nodes->all();
ok(works($here), 'answers: kept');
is($nodes->node('a')->wait_for(sub { $nodes->logout($alice, 'b') == 204 }, 12), 1, 'a logout elsewhere');
is(told_why($here, 'after the trouble'), 'ended', 'ends it as ever');

$_->stop_fast() for $nodes->all();
done_testing();
