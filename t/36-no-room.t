#!/usr/bin/perl

# A session that finds no room in a node's zone: the store's entry decides, and what the user does
# there counts all the same.
# Attacks and faults: a cookie that goes on after the logout, since only the store had the session;
# a user who is busy and is taken for idle.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Nodes;

my $nodes = Test::Nodes->new(
    names     => [qw(a b)],
    workers   => 1,
    locations => 'large_client_header_buffers 4 64k; proxy_buffer_size 64k; proxy_buffers 4 64k; proxy_busy_buffers_size 128k;',
);
my ($on_a, $on_b) = $nodes->all();
$on_a->make_directory('store');
my $file = $on_a->testdir() . '/store/a.mdb';
$nodes->realm_is("store lmdb $file map_size=16m; idle_timeout 10m; revalidate 5s; max_data 32k;")->zone_is('48k')->run('b');
$nodes->zone_is('2m')->run('a');

# More than all of b's zone holds.
sub large {
    my $client = $nodes->login('a', 'user="alice"; roles="editor"; ' . join '; ', map { "data.d$_=\"" . 'x' x 4000 . '"' } 1 .. 6);
    is($nodes->sees('b', $client), 'alice/editor/', 'a session that b has no room for is let in there');
    is($nodes->status('b')->{zone}{sessions}, 0, 'from the store');
    return $client;
}

my $busy = large();
for my $round (1 .. 4) {
    $nodes->advance(4 * 60);
    my $written = $nodes->status('b')->{store}{writes}{operations};
    is($nodes->sees('b', $busy), 'alice/editor/', "busy on b: $round");
    ok($on_b->wait_for(sub { $nodes->status('b')->{store}{writes}{operations} > $written }), 'which the store hears of');
}
is($nodes->sees('a', $busy), 'alice/editor/', 'and is not idle on a');

my $leaving = large();
my $copy = $leaving->clone();
is($nodes->logout($leaving, 'b'), 204, 'logged out on b');
is($nodes->sees('b', $copy), 'ended', 'where it is over');
$nodes->advance(5.001);
is($nodes->sees('a', $copy), 'ended', 'as on a');

$leaving = large();
$copy = $leaving->clone();
$nodes->say($leaving, 'b', 'destroy');
is($nodes->sees('b', $copy), 'ended', 'ended by the application on b');
$nodes->advance(5.001);
is($nodes->sees('a', $copy), 'ended', 'as on a');

done_testing();
