#!/usr/bin/perl

# Three nodes, three memcached servers, two replicas: one session on all nodes.
# Attacks and faults: a cookie replayed on a node that has not heard of the
# logout; a session in use on one node that is idle on another; rights that
# were taken away on one node and still count on another; a change that is
# under way and brings an ended session back.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Nginx::Memcached;
use Test::Nginx::Process qw(timeout);
use Test::Nodes;

my $wait = timeout(1000) . 'ms';

my $nodes = Test::Nodes->new(names => [qw(a b c)]);
my @servers = map { Test::Nginx::Memcached->new($nodes->node('a'), $_) } 8011 .. 8013;
my $list = join ' ', map { $_->address() } @servers;
$nodes->realm_is("store memcached $list replicas=2 timeout=$wait connect_timeout=$wait;")->run();

# The default: a copy that is older is asked about again.
my $revalidate = 5;

sub past_revalidate { $nodes->advance($revalidate + 0.001); return }

# A new server's "nothing there" is not believed for a minute.
$nodes->login('a') for 1 .. 20;
$nodes->advance(120);

sub login_everywhere {
    my ($count) = @_;
    my @clients = map { $nodes->login('a') } 1 .. $count;
    for my $name ($nodes->names()) {
        is($nodes->tally($name, @clients), "$count alice/editor/", "logged in on a, known to $name at once");
    }
    return @clients;
}

sub everywhere {
    my ($expected, $phrase, @clients) = @_;
    is($nodes->tally($_, @clients), $expected, "$phrase: $_") for $nodes->names();
    return;
}

# --- login and logout ---

my @clients = login_everywhere(30);
my @copies = map { $_->clone() } @clients[ 0 .. 19 ];
is(join(' ', map { $nodes->logout($_, 'b') } @clients[ 0 .. 19 ]), join(' ', (204) x 20), 'twenty log out on b');
is($nodes->tally('b', @copies), '20 ended', 'whose cookies are worthless there at once');
past_revalidate();
is($nodes->tally('a', @copies), '20 ended', 'on a within revalidate');
is($nodes->tally('c', @copies), '20 ended', 'on c as well');
everywhere('10 alice/editor/', 'the others stay', @clients[ 20 .. 29 ]);
$nodes->restart();
everywhere('20 ended', 'all nodes restarted: ended stays ended', @copies);
everywhere('10 alice/editor/', 'all nodes restarted: the others are there', @clients[ 20 .. 29 ]);

# A node that has never seen the session logs it out.
my $stranger = $nodes->login('a');
my $seen = $stranger->clone();
is($nodes->sees('a', $stranger), 'alice/editor/', 'used on a only');
is($nodes->logout($stranger, 'c'), 204, 'logged out on c');
past_revalidate();
everywhere('1 ended', 'gone', $seen);

# --- idle ---

# Until what a node knows of last activity lies in the store.
sub used_on {
    my ($name, $client) = @_;
    my $written = $nodes->status($name)->{store}{writes}{operations};
    my $is = $nodes->sees($name, $client);
    $nodes->node($name)->wait_for(sub { $nodes->status($name)->{store}{writes}{operations} > $written })
        or return 'activity is not written';
    return $is;
}

my ($busy, $idle) = login_everywhere(2);
for my $round (1 .. 4) {
    $nodes->advance(10 * 60);
    is(used_on('b', $busy), 'alice/editor/', "in use on b: $round");
}
is($nodes->sees('c', $idle), 'expired_idle', 'who was idle everywhere is, on c');
is($nodes->sees('a', $idle), 'expired_idle', 'and on a');
is($nodes->sees('a', $busy), 'alice/editor/', 'in use on b is not idle on a');
is($nodes->sees('c', $busy), 'alice/editor/', 'nor on c');
$nodes->advance(14 * 60);
is($nodes->sees('c', $busy, '/quiet'), 'alice/editor/', 'nearly idle');
$nodes->advance(2 * 60);
everywhere('1 expired_idle', 'idle on all nodes', $busy);

# The one that looks first does not shorten it for the others: last seen is a maximum.
my ($shared) = login_everywhere(1);
$nodes->advance(8 * 60);
used_on('a', $shared);
$nodes->advance(4 * 60);
used_on('b', $shared);
$nodes->advance(8 * 60);
is($nodes->sees('a', $shared, '/quiet'), 'alice/editor/', 'a knows of b\'s later activity');
$nodes->advance(6 * 60);
is(used_on('a', $shared), 'alice/editor/', 'until shortly before b\'s limit');
is($nodes->sees('b', $shared), 'alice/editor/', 'which a has moved');

# --- changes ---

my ($changed) = login_everywhere(1);
$nodes->say($changed, 'b', 'update; data.theme="dark"');
is($nodes->sees('b', $changed), 'alice/editor/dark', 'changed on b');
past_revalidate();
everywhere('1 alice/editor/dark', 'seen within revalidate', $changed);

my @before = map { $_->clone() } my @demoted = login_everywhere(5);
$nodes->say($_, 'b', 'update; roles="reader"') for @demoted;
everywhere('5 alice/reader/', 'other roles: the new handle has them at once', @demoted);
past_revalidate();
everywhere('5 alice//', 'the old one has those of both, none', @before);
$nodes->advance(11);
everywhere('5 regenerated', 'and is over ten seconds later', @before);
everywhere('5 alice/reader/', 'unlike the new one', @demoted);

# --- regeneration ---

my @old = map { $_->clone() } my @renewed = login_everywhere(5);
$nodes->say($_, 'b', 'renew') for @renewed;
is((grep { $renewed[$_]->cookie('a') ne $old[$_]->cookie('a') } 0 .. 4) + 0, 5, 'new handles on b');
everywhere('5 alice/editor/', 'good at once', @renewed);
everywhere('5 alice/editor/', 'the old ones pass for a moment', @old);
my @new = map { $_->clone() } @renewed;
is(join(' ', map { $nodes->logout($_, 'c') } @renewed), join(' ', (204) x 5), 'logged out on c by the new handle');
$nodes->advance(11);
everywhere('5 ended', 'the new one has ended', @new);
everywhere('5 regenerated', 'the old one passes nowhere', @old);
$nodes->restart();
everywhere('5 ended', 'nor after a restart of all: new', @new);
everywhere('5 regenerated', 'nor after a restart of all: old', @old);

# --- logged out by a handle that was replaced a moment ago ---

# On one node that ends the new one as well; see docs/architecture.md.
for my $case ('has a copy', 'knows nothing of it') {
    my $new = $nodes->login('a');
    $nodes->sees('b', $new) if $case eq 'has a copy';
    my $replaced = $new->clone();
    $nodes->say($new, 'a', 'renew');
    is($nodes->logout($replaced, 'b'), 204, "renewed on a, logged out by the old handle on b, which $case");
    past_revalidate();
    everywhere("1 ended", "which $case: the new handle has ended", $new);
}

# --- what is under way when a session ends ---

for my $command ('update; data.theme="dark"', 'renew', 'update; roles="admin"') {
    my @leaving = login_everywhere(10);
    my @held = map { $_->clone() } @leaving;
    my @late = map { $_->clone() } @leaving;
    for my $i (0 .. $#leaving) {
        $late[$i]->{port} = $nodes->{port}{a};
        $leaving[$i]->{port} = $nodes->{port}{b};
        my $change = $late[$i]->start('GET', '/', Test::Guard::fetched(), 'X-Say' => $command);
        my $logout = $leaving[$i]->start('POST', '/logout', { body => '' }, Test::Guard::fetched());
        $late[$i]->finish($change);
        $leaving[$i]->finish($logout);
    }
    past_revalidate();
    $nodes->advance(11);
    my %left;
    for my $name ($nodes->names()) {
        $left{ $nodes->sees($name, $_) }++ for @held, @late;
    }
    is(join(', ', grep { !m/\A(?:ended|regenerated)\z/x } sort keys %left), '', "$command on a, logout on b at the same time: it is over");
    $nodes->restart('c');
    is((grep { $nodes->sees('c', $_) =~ m{/}x } @held, @late) + 0, 0, "$command: also for a node that knows nothing of it");
}

# --- keys ---

# Nodes may sign with different keys for a while: the new handle has another one's.
sub renewed_meanwhile {
    my ($name) = @_;
    for my $other (grep { $_ ne $name } $nodes->names()) {
        my $new = $nodes->login($other);
        my $old = $new->clone();
        $nodes->say($new, $name, 'renew');
        past_revalidate();
        is($nodes->sees($other, $old), 'alice/editor/', "renewed on $name meanwhile: the old handle passes on $other");
        my $ending = $nodes->login($other);
        my $ended = $ending->clone();
        $nodes->say($ending, $name, 'renew');
        is($nodes->logout($ended, $other), 204, "renewed on $name, logged out by the old handle on $other");
        past_revalidate();
        everywhere('1 ended', 'the new one has ended', $ending);
    }
    return;
}

my ($first, $second) = map { join '', map { sprintf '%02x', $_ } $_ .. $_ + 31 } 1, 101;
my ($keyed) = login_everywhere(1);
for my $step ("$first current\n$second\n", "$first\n$second current\n") {
    for my $name ($nodes->names()) {
        $nodes->keys_are($step, $name);
        ok($nodes->node($name)->try_reload(), "a new key is handed out: $name");
        my $here = $nodes->login($name);
        everywhere('1 alice/editor/', "logged in on $name meanwhile", $here);
        renewed_meanwhile($name);
    }
}
everywhere('1 alice/editor/', 'a session of before', $keyed);
$nodes->restart();
everywhere('1 alice/editor/', 'and after a restart of all', $keyed);

is((grep { $nodes->status($_)->{events}{store_unknown} // 0 } $nodes->names()) + 0, 0, 'nobody ever had to decide without the store');

done_testing();
