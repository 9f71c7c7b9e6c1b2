#!/usr/bin/perl

# Two nodes change one session without having heard of each other.
# Attacks and faults: a change that is lost without a word; a session that has
# ended on the other node and is changed here; two changes that undo each other
# for ever.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Nginx::Memcached;
use Test::Nodes;

my $nodes = Test::Nodes->new(
    realm     => 'store memcached 127.0.0.1:8011 timeout=1s connect_timeout=1s; revalidate 1h; idle_timeout off;',
    locations => 'location = /lang { session a; add_header X-Is $session_attr_lang; empty_gif; }',
    workers   => 1,
);
my $server = Test::Nginx::Memcached->new($nodes->node('a'), 8011);
$nodes->run();

sub known_to_both {
    my $client = $nodes->login('a');
    is($nodes->sees($_, $client), 'alice/editor/', "known to $_") for qw(a b);
    return $client;
}

# Node b hears of nothing while node a does this; then its own turn comes at once.
sub unheard {
    my ($on_a) = @_;
    $nodes->node('b')->store('fails');
    $on_a->();
    $nodes->node('b')->store('works');
    return;
}

sub again { return $nodes->status('b')->{events}{store_change_again} }

# The feed is quick: now and then node b has heard after all, and makes its change on top at once.
my $client;
for (1 .. 20) {
    $client = known_to_both();
    unheard(sub { $nodes->say($client, 'a', 'update; data.theme="light"') });
    is($nodes->say($client, 'b', 'update; data.lang="de"')->status(), 200, 'b makes a change of its own');
    is($nodes->sees('b', $client), 'alice/editor/light', 'on top of the other');
    is($nodes->sees('b', $client, '/lang'), 'de', 'and keeps its own');
    last if again();
}
cmp_ok(again(), '>', 0, 'which was made again');
$nodes->restart('b');
is($nodes->sees('b', $client), 'alice/editor/light', 'the store has the one');
is($nodes->sees('b', $client, '/lang'), 'de', 'and the other');

$client = known_to_both();
unheard(sub { $nodes->say($client, 'a', 'update; data.theme="light"') });
$nodes->say($client, 'b', 'update; data.theme="light"');
is($nodes->sees($_, $client), 'alice/editor/light', "the same change on both: $_") for qw(b a);

# Ended there, changed here.
$client = known_to_both();
my $late = $client->clone();
unheard(sub { is($nodes->logout($client, 'a'), 204, 'logged out on a') });
$nodes->say($late, 'b', 'update; data.theme="light"');
is($nodes->sees('b', $late), 'ended', 'the end comes to b with its change at the latest');
is($nodes->sees('a', $late), 'ended', 'and nothing back to a');

# Given a new handle there, changed here: the old handle has lost.
$client = known_to_both();
my $old = $client->clone();
unheard(sub { $nodes->say($client, 'a', 'update; roles="reader"') });
isnt($client->cookie('a'), $old->cookie('a'), 'new rights on a, a new handle');
$nodes->say($old, 'b', 'update; data.theme="light"');
is($nodes->sees('b', $old), 'alice//', 'the old handle has on b what both have, no more: no role');
like($nodes->sees('b', $client), qr{\Aalice/reader/}x, 'the new one has them there');
$nodes->advance(11);
is($nodes->sees($_, $old), 'regenerated', "the old one is over on $_") for qw(a b);

done_testing();
