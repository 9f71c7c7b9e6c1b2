#!/usr/bin/perl

# A memcached comes back empty: the nodes write back what they know.
# Attacks and faults: a cookie replayed after a logout, on a node that does not
# know of it, when the server has forgotten; users thrown out because a server
# has; an outage taken for "no such session".

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Nginx::Memcached;
use Test::Nodes;

my $nodes = Test::Nodes->new(
    realm   => 'store memcached 127.0.0.1:8011 timeout=1s connect_timeout=1s; revalidate 1h; idle_timeout off;',
    keys    => join("\n", map { sprintf('%02x', $_) x 32 } 17, 18) . "\n",
    workers => 1,
);
my $server = Test::Nginx::Memcached->new($nodes->node('a'), 8011);
$nodes->run();

# --- a new server ---

my $early = $nodes->login('a');
is($nodes->sees('b', $early), 'alice/editor/', 'what it has counts at once');
my $nobody = $nodes->login('a');
$server->restart_empty();
is($nodes->sees('b', $nobody), 'store_unavailable', 'what it has not may be what it has lost');

# --- it has lost what node a knows ---

$nodes->advance(300);
my @alive = map { $nodes->login('a') } 1 .. 100;
my $gone = $nodes->login('a');
my $replayed = $gone->clone();
is($nodes->logout($gone, 'a'), 204, 'one logs out');
$server->restart_empty();

is($nodes->sees('b', $alive[0]), 'store_unavailable', 'node b cannot know whether there is such a session');
is($nodes->sees('a', $alive[0]), 'alice/editor/', 'node a does');
$nodes->login('a');    # node a sees that the server is new
my $b = $nodes->node('b');
ok($b->wait_for(sub { $nodes->sees('b', $replayed) eq 'ended' }), 'what has ended is written back first');
is($nodes->sees('b', $alive[1]), 'store_unavailable', 'and nothing else yet');
$nodes->advance(16);
ok($b->wait_for(sub { $nodes->sees('b', $alive[-1]) eq 'alice/editor/' }), 'then the sessions');
ok($b->wait_for(sub { $nodes->tally('b', @alive) eq '100 alice/editor/' }), 'all of them');
is($nodes->sees($_, $replayed), 'ended', "a cookie replayed after the logout: $_") for qw(a b);

$nodes->advance(60);
my $forgotten = $nodes->login('a');
$nodes->node('a')->stop();
$server->restart_empty();
is($nodes->sees('b', $forgotten), 'store_unavailable', 'what nobody has any more');
$b->advance(61);
is($nodes->sees('b', $forgotten), 'absent', 'is gone when the nodes have had their time');

# --- what one node knew, and another had not heard ---

# The server goes before b has heard of it; b, which has a copy, writes that back as well.
$nodes->node('a')->run()->advance(61);    # b's clock was moved alone
$nodes->advance(300);
my @renewed = map { $nodes->login('a') } 1 .. 20;
$nodes->tally('b', @renewed);
my @old = map { $_->clone() } @renewed;
$b->store('fails');
$nodes->say($_, 'a', 'renew') for @renewed;
$server->restart_empty();
$b->store('works');
$nodes->advance(11);
sub written_back { my ($name) = @_; return scalar(() = $nodes->node($name)->read_file('error.log') =~ m/came[ ]up[ ]empty/xg) }
my %before = map { $_ => written_back($_) } $nodes->names();
$nodes->login($_) for $nodes->names();    # they see that the server is new
$nodes->advance(16);
ok($b->wait_for(sub { written_back($_) > $before{$_} }, 20), "written back what it knows: $_") for $nodes->names();
$nodes->advance(3601);
is($nodes->tally($_, @old), '20 regenerated', "a replaced token is not good again: $_") for qw(b a);
$nodes->restart('b');
is($nodes->tally('b', @old), '20 regenerated', 'nor for a node that knows nothing of it');
is($nodes->tally('b', @renewed), '20 alice/editor/', 'unlike the new one');

done_testing();
