#!/usr/bin/perl

# Another size of the zone while an old worker goes on, and a second node: the old zone is swept by
# the new worker, which knows of the store.
# Faults: a user who is busy on the other node, and whom this one refuses as idle without asking.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Nginx::Port qw(port);
use Test::Nginx::Socket;
use Test::Nodes;

my $nodes = Test::Nodes->new(names => [qw(a b)], workers => 1);
my ($on_a, $on_b) = $nodes->all();
$on_a->make_directory('store');
my $file = $on_a->testdir() . '/store/a.mdb';
$nodes->realm_is("store lmdb $file map_size=16m; idle_timeout 10m;")->run();

my $busy = $nodes->login('a');
my $idle = $nodes->login('a');
is($nodes->sees('b', $_), 'alice/editor/', 'known to both') for $busy, $idle;

# The worker of before has begun to read a request: it goes on.
my ($before) = $on_a->workers();
my $held = Test::Nginx::Socket->connect_to(port => port($nodes->{port}{a}));
$held->send_bytes("\r\n");
$nodes->zone_is('3m')->configure('a');
ok($on_a->try_reload(), 'a larger zone');

$nodes->advance(9 * 60);
my $written = $nodes->status('b')->{store}{writes}{operations};
is($nodes->sees('b', $busy), 'alice/editor/', 'busy on b');
ok($on_b->wait_for(sub { $nodes->status('b')->{store}{writes}{operations} > $written }), 'which the store hears of');
is($nodes->status('a')->{zone}{sessions}, 2, 'both are in the old zone of a');
$nodes->advance(9 * 60);
ok($on_a->wait_for(sub { $nodes->status('a')->{zone}{sessions} == 0 }), 'it is swept');
ok(-e "/proc/$before", 'while its worker is there');
is($nodes->sees('a', $busy), 'alice/editor/', 'busy on b is not idle on a');
is($nodes->sees('a', $idle), 'expired_idle', 'who was idle on both is');

$held->close_now();
done_testing();
