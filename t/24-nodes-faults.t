#!/usr/bin/perl

# Two nodes, three memcached servers, two replicas: one server fails at a time,
# in every way, and nobody notices.
# Attacks and faults: users thrown out because a server is down; a cookie
# replayed when a server that missed the logout is back; an outage taken for
# "no such session"; a reply that is none, taken for one.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Nginx::Memcached;
use Test::Nginx::Process qw(timeout);
use Test::Nodes;

my $wait = timeout(300) . 'ms';

my $nodes = Test::Nodes->new(names => [qw(a b)], workers => 1);
my ($on_a, $on_b) = $nodes->all();
my @servers = (
    Test::Nginx::Memcached->new($on_a, 8011, relay => 1),
    Test::Nginx::Memcached->new($on_a, 8012),
    Test::Nginx::Memcached->new($on_a, 8013, memory => 1),
);
my $list = join ' ', map { $_->address() } @servers;
$nodes->realm_is("store memcached $list replicas=2 timeout=$wait connect_timeout=$wait;")->run();

# Sessions that both nodes have, and sessions that b has to ask for.
sub sessions {
    my ($count) = @_;
    my @known = map { $nodes->login('a') } 1 .. $count;
    $nodes->sees('b', $_) for @known;
    return (\@known, [ map { $nodes->login('a') } 1 .. $count ]);
}

sub past_revalidate { $nodes->advance(5.001); return }

sub undecided {
    my $sum = 0;
    $sum += $nodes->status($_)->{events}{store_unknown} // 0 for $nodes->names();
    return $sum;
}

# Everything that users do, while a server is in trouble.
sub nobody_notices {
    my ($fault) = @_;
    my ($known, $unknown) = @{ $_[1] };

    my $count = @{$known};
    my $undecided = undecided();
    is($nodes->tally('b', @{$unknown}), "$count alice/editor/", "$fault: sessions that the node has to ask for");
    past_revalidate();
    is($nodes->tally('a', @{$known}), "$count alice/editor/", "$fault: sessions that have to be confirmed");
    my @new = map { $nodes->login('b') } 1 .. $count;
    is($nodes->tally('a', @new), "$count alice/editor/", "$fault: logins on the other node");
    $nodes->say($_, 'a', 'update; data.theme="dark"') for @new;
    past_revalidate();
    is($nodes->tally('b', @new), "$count alice/editor/dark", "$fault: changes");
    my @copies = map { $_->clone() } @new;
    is(join(' ', map { $nodes->logout($_, 'a') } @new), join(' ', (204) x $count), "$fault: logouts");
    past_revalidate();
    is($nodes->tally('b', @copies), "$count ended", "$fault: which the other node knows of");
    is(undecided() - $undecided, 0, "$fault: nobody had to decide without the store");
    $undecided = $nodes->status('a')->{events}{store_unknown} // 0;
    $nodes->restart('b');
    is($nodes->tally('b', @{$known}, @{$unknown}), 2 * $count . ' alice/editor/', "$fault: a node without memory knows all sessions");
    is($nodes->tally('b', @copies), "$count ended", "$fault: and all ends");
    is(undecided() - $undecided, 0, "$fault: nor then");
    return @copies;
}

# The nodes ask a server again a moment after it has failed, with their next batch.
sub well_again {
    my ($what) = @_;
    for my $name ($nodes->names()) {
        ok($nodes->node($name)->wait_for(sub {
            $nodes->login($name) for 1 .. 3;
            return $nodes->is_well($name);
        }), "$what: well again for $name");
    }
    return;
}

# How many times the node has written back what it knows to this server, since it came up empty.
sub written_back {
    my ($name, $i) = @_;
    my $port = port(8011 + $i);
    my $log = $nodes->node($name)->read_file('error.log');
    return scalar(() = $log =~ m/port[ ]$port,[ ]came[ ]up[ ]empty/xg);
}

# A look-up is answered after those that set out before it.
sub has_nothing_to_do {
    my ($name) = @_;
    my ($other) = grep { $_ ne $name } $nodes->names();
    return $nodes->node($name)->wait_for(sub { !$nodes->status($name)->{store}{waiting} })
        && $nodes->sees($name, $nodes->login($other)) eq 'alice/editor/';
}

# Servers come up empty: ends are written back at once, sessions a quarter of a minute later; after a
# minute what they do not have is not there.
sub start_empty {
    my ($meanwhile, @which) = @_;

    my %before;
    for my $name ($nodes->names()) {
        $before{$name}{$_} = written_back($name, $_) for @which;
    }
    $servers[$_]->start() for @which;
    $meanwhile->() if $meanwhile;
    well_again('empty');
    $nodes->advance(16);
    for my $name ($nodes->names()) {
        ok($nodes->node($name)->wait_for(sub { !grep { written_back($name, $_) == $before{$name}{$_} } @which }, 20),
            "and $name has written back what it knows");
        ok(has_nothing_to_do($name), "$name: all of it");
    }
    $nodes->advance(61);
    return;
}

# --- a new server's "nothing there" counts after a minute ---

$nodes->login('a') for 1 .. 20;
$nodes->advance(120);

# --- spoiled answers ---

for my $mode (qw(close garbage cut hang)) {
    my @sessions = sessions(10);
    $servers[0]->behave($mode);
    nobody_notices($mode, \@sessions);
    $servers[0]->behave('pass');
    well_again($mode);
}
my @slow = sessions(10);
$servers[0]->behave('slow=' . timeout(20));
nobody_notices('slow', \@slow);
$servers[0]->behave('slow=' . timeout(2000));
nobody_notices('too slow', [ sessions(5) ]);
$servers[0]->behave('pass');
well_again('slow');

# --- stopped, with logouts meanwhile ---

# The length of its value tells an end from a session.
sub ends_held {
    my ($server) = @_;
    my @values = grep { defined && length $_ < 100 } map { $server->value($_) } grep { m/\Asg:s:/x } $server->names();
    return scalar @values;
}

# Every end reaches two of the three servers: the one in trouble has its part of the last ones late.
sub the_ends_are_there {
    my ($fault, $before, $count) = @_;
    well_again($fault);
    ok($on_a->wait_for(sub {
        $nodes->login('a');
        my $held = 0;
        $held += ends_held($_) for @servers;
        return $held - $before >= 2 * ($count // 10);
    }), "$fault: it has been told of the logouts") or diag($before, ' ', map { ends_held($_), ' ' } @servers);
    return;
}

sub all_ends { my $sum = 0; $sum += ends_held($_) for @servers; return $sum }

my @sessions = sessions(10);
my $before = all_ends();
$servers[1]->pause();
my @gone = nobody_notices('stopped', \@sessions);
$servers[1]->resume();
is($nodes->tally('b', @gone), '10 ended', 'it goes on with old data: the other replica knows better');
the_ends_are_there('stopped', $before);
$servers[$_]->kill() for 0, 2;
$nodes->restart('b');
is((grep { $nodes->sees('b', $_) =~ m{/}x } @gone) + 0, 0, 'it alone is left: nobody is let in again');
start_empty(undef, 0, 2);

# --- a worker that knows what a server has missed is killed ---

my ($left) = sessions(10);
my @replayed = map { $_->clone() } @{$left};
$before = all_ends();
$servers[1]->pause();
is(join(' ', map { $nodes->logout($_, 'a') } @{$left}), join(' ', (204) x 10), 'a server is stopped: logouts');
my ($worker) = $on_a->workers();
$on_a->kill_worker($worker);
ok($on_a->wait_for(sub { $on_a->workers() == 1 }), 'the worker that made them is killed');
$servers[1]->resume();
the_ends_are_there('killed worker', $before);
is($nodes->tally('a', @replayed), '10 ended', 'they are over');

# --- shut down, revived with the data of before ---

@sessions = sessions(10);
$before = all_ends();
$servers[2]->shut();
@gone = nobody_notices('shut', \@sessions);
$servers[2]->start();
cmp_ok(scalar($servers[2]->names()), '>=', 20, 'it is revived with old data');
is($nodes->tally('b', @gone), '10 ended', 'the other replica knows better');
the_ends_are_there('revived', $before);
$servers[$_]->kill() for 0, 1;
$nodes->restart('b');
is((grep { $nodes->sees('b', $_) =~ m{/}x } @gone) + 0, 0, 'it alone is left: nobody is let in again');
start_empty(undef, 0, 1);

# --- killed, restarted empty; one after the other ---

@sessions = sessions(20);
my @leaving = map { $nodes->login('a') } 1 .. 20;
my @ended = map { $_->clone() } @leaving;
$nodes->logout($_, 'b') for @leaving;
for my $i (0 .. $#servers) {
    $servers[$i]->kill();
    nobody_notices("killed $i", [ sessions(5) ]);
    start_empty(sub { nobody_notices("empty $i", [ sessions(5) ]) }, $i);
}
$nodes->restart();
for my $name ($nodes->names()) {
    is($nodes->tally($name, map { @{$_} } @sessions), '40 alice/editor/', "every server was new once: no session is lost: $name");
    is((grep { $nodes->sees($name, $_) =~ m{/}x } @ended) + 0, 0, "and nobody is let in again: $name");
}

done_testing();
