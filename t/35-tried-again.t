#!/usr/bin/perl

# What could not be written at first is written later: in the order of what happened, and with all
# that follows from it, also by a worker that has to go.
# Attacks and faults: an old change that undoes a newer one when the store is back; a logout that
# another node's new handle survives, because the worker that made it had to go.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Nodes;

# Two nodes on one file.
my $nodes = Test::Nodes->new(names => [qw(a b)], workers => 1);
my ($on_a, $on_b) = $nodes->all();
$on_a->make_directory('store');
my $file = $on_a->testdir() . '/store/a.mdb';
$nodes->realm_is("store lmdb $file map_size=16m; revalidate 1h; idle_timeout off;")->run();

sub theme_is {
    my ($client, $theme) = @_;
    return $nodes->say($client, 'a', qq{update; data.theme="$theme"})->status();
}

sub failed { return $nodes->status('a')->{events}{store_write_failed} // 0 }

sub all_written {
    ok($on_a->wait_for(sub { !$nodes->status('a')->{store}{retrying} && !$nodes->status('a')->{store}{waiting} }), 'all is written');
    return;
}

sub is_everywhere {
    my ($client, $expected, $phrase) = @_;
    is($nodes->sees('a', $client), $expected, $phrase);
    is($nodes->sees('b', $client), $expected, "$phrase: the store has it");
    return;
}

# --- a change fails, the next one does not ---

my $client = $nodes->login('a');
$on_a->store('fails');
theme_is($client, 'dark');
$on_a->store('works');
theme_is($client, 'light');
all_written();
cmp_ok(failed(), '>=', 1, 'the first change had failed');
is_everywhere($client, 'alice/editor/light', 'and does not undo the second');

# --- many fail, some of them between two tries ---

my @clients = map { $nodes->login('a') } 1 .. 4;
$on_a->store('fails');
for my $each (@clients) {
    theme_is($each, $_) for qw(first second third last);
    my $before = failed();
    ok($on_a->wait_for(sub { failed() > $before }), 'they are tried again');
}
$on_a->store('works');
all_written();
is_everywhere($_, 'alice/editor/last', 'the last change counts') for @clients;

# --- a logout by a handle that another node has replaced, in a worker that has to go ---

my $new = $nodes->login('a');
is($nodes->sees('b', $new), 'alice/editor/', 'known to both');
my $old = $new->clone();
$on_b->store('fails');
$nodes->say($new, 'a', 'renew');
isnt($new->cookie('a'), $old->cookie('a'), 'renewed on a, which b does not hear of');
is($nodes->logout($old, 'b'), 204, 'logged out on b, by the old handle');
is($nodes->sees('a', $new), 'alice/editor/', 'which nobody has been told yet');
my ($worker) = $on_b->workers();
$on_b->signal_worker($worker, 'TERM');
$on_b->store('works');
ok($on_b->wait_for(sub { !-e "/proc/$worker" }), 'the worker of b has gone');
ok($on_a->wait_for(sub { $nodes->sees('a', $new) eq 'ended' }), 'what it left behind ends the new handle, too');

done_testing();
