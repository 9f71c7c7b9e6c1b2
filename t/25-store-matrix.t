#!/usr/bin/perl

# Every state of a session, with every state of its second replica, for a node
# that has it in its zone and one that has not, where a session is demanded,
# optional, and demanded with "session_on_store_error closed".
# Attacks and faults: somebody let in whom only an outdated replica knows;
# somebody thrown out because one replica has failed; "not there" and "not
# known" taken for each other, anywhere.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Nginx::Memcached;
use Test::Nginx::Process qw(timeout);
use Test::Nodes;

my $wait = timeout(500) . 'ms';

# Node a makes the sessions, node b is asked about them.
my $nodes = Test::Nodes->new(names => [qw(a b)]);
my @servers = map { Test::Nginx::Memcached->new($nodes->node('a'), $_, relay => 1) } 8011, 8012;
my $list = join ' ', map { $_->address() } @servers;
$nodes->realm_is("store memcached $list replicas=2 timeout=$wait connect_timeout=$wait;")->run();

# What the first replica says of the session, and what is with the second one: then how a node sees
# it that does not have it in its zone, and one that has it.
#   new, old   it is let in, with the session as it is, or was before the last change
#   unknown    503; anonymous
#   grace      as it is in the zone; closed: 503
#   others     401; anonymous
my %expected = (
    live => {    # the zone has it as it was before the change
        both    => [qw(new new)],
        missing => [qw(new new)],
        down    => [qw(new new)],
        stale   => [qw(new new)],          # it has the state before the change
        damaged => [qw(new new)],
    },
    ended => {
        both    => [qw(ended ended)],
        missing => [qw(ended ended)],
        down    => [qw(ended ended)],
        stale   => [qw(ended ended)],      # it has it alive
        damaged => [qw(ended ended)],
    },
    absent => {    # what lives in a zone would have left a note if it had ended: it goes on
        both    => [qw(absent old)],
        missing => [qw(absent old)],
        down    => [qw(absent old)],       # the one that answers can be certain
        stale   => [qw(old old)],          # it still has it: found on any wins
        damaged => [qw(unknown grace)],    # what cannot be read might be the session
    },
    unknown => {    # it does not answer; the zone has it as it is
        both    => [qw(unknown grace)],
        missing => [qw(absent new)],       # the other one can be certain
        down    => [qw(unknown grace)],
        stale   => [qw(old new)],
        damaged => [qw(unknown grace)],
    },
);
my %uri = (demanded => '/', optional => '/open', closed => '/closed');

# As node b answers.
sub answer {
    my ($cell) = @_;
    my $seen = $expected{ $cell->{truth} }{ $cell->{replica} }[ $cell->{zone} eq 'in the zone' ];
    my $in_zone = $cell->{truth} eq 'unknown' ? 'new' : 'old';
    $seen = $cell->{mode} eq 'closed' ? 'unknown' : $in_zone if $seen eq 'grace';
    my %is = (new => 'alice/editor/dark', old => 'alice/editor/');
    my $status = $seen eq 'unknown' ? 'store_unavailable' : $seen;
    return $is{$seen} ? "$is{$seen} valid" : $cell->{mode} eq 'optional' ? "// $status" : $status;
}

sub seen_by_b {
    my ($cell) = @_;
    my $response = $nodes->get($cell->{client}, 'b', $uri{ $cell->{mode} });
    return $nodes->meaning($response) . ($response->status() == 200 ? ' ' . $response->header('X-Status') : '');
}

# --- a session in the state that the cell wants ---

my %known;    # names of entries

sub new_entry {
    my ($server) = @_;
    my @new = grep { m/\Asg:s:/x && !$known{$_}++ } $server->names();
    die 'one login, ' . @new . " entries\n" if @new != 1;
    return $new[0];
}

sub begin {
    my ($cell, $second) = @_;

    $cell->{client} = $nodes->login('a');
    $cell->{name} = new_entry($second);
    $cell->{before} = $second->value($cell->{name});
    $nodes->sees('b', $cell->{client}) if $cell->{zone} eq 'in the zone';
    $nodes->say($cell->{client}, 'a', 'update; data.theme="dark"') if $cell->{truth} =~ m/\A(?:live|unknown)\z/x;
    return;
}

# Node b has heard of all changes, so that none of them is news later.
sub all_is_heard {
    my @last = map { $nodes->login('a') } 1 .. 12;
    $nodes->sees('b', $_) for @last;
    my @copies = map { $_->clone() } @last;
    $nodes->logout($_, 'a') for @last;
    $nodes->node('b')->wait_for(sub { $nodes->tally('b', @copies) eq '12 ended' }) or die "b hears nothing\n";
    return;
}

sub finish {
    my ($cell, $second) = @_;

    my $name = $cell->{name};
    $nodes->sees('b', $cell->{client}) if $cell->{truth} eq 'unknown' && $cell->{zone} eq 'in the zone';
    $nodes->logout($cell->{client}->clone(), 'a') if $cell->{truth} eq 'ended';
    my $now = $second->value($name) // die "the second replica does not have it\n";
    die "nothing was written\n" if ($now eq $cell->{before}) != ($cell->{truth} eq 'absent');
    $_->remove($name) for $cell->{truth} eq 'absent' ? @servers : ();
    $second->remove($name) if $cell->{replica} eq 'missing';
    $second->write_value($name, $cell->{before}) if $cell->{replica} eq 'stale';
    $second->write_value($name, substr($now, 0, -1) . chr(1 ^ ord substr $now, -1)) if $cell->{replica} eq 'damaged';
    return;
}

# What was confirmed earlier is not believed any more, neither for its age nor for the feed's sake.
sub nothing_is_believed {
    $nodes->advance(5.001);
    my $gaps = $nodes->status('b')->{events}{feed_gap};
    for my $server (@servers) {
        $server->remove(grep { m/\Asg:h:/x } $server->names());
    }
    $nodes->node('b')->wait_for(sub { $nodes->status('b')->{events}{feed_gap} > $gaps }) or die "b follows no feed\n";
    return;
}

# --- all cells ---

sub check {
    my ($cell, $which) = @_;
    is(seen_by_b($cell), answer($cell), "$cell->{truth}, replica $which $cell->{replica}, $cell->{zone}, $cell->{mode}");
    return;
}

sub all_well {
    $_->behave('pass') for @servers;
    $nodes->advance(10);    # longer than a server is left alone after it has failed
    for my $name ($nodes->names()) {
        $nodes->node($name)->wait_for(sub { $nodes->login($name); $nodes->is_well($name) }) or die "$name: the servers are not well\n";
    }
    $known{$_} = 1 for map { $_->names() } @servers;
    return;
}

$nodes->login('a') for 1 .. 5;
$nodes->advance(120);    # new servers' "nothing there" counts from now on

for my $which (1, 0) {
    my ($first, $second) = @servers[ 1 - $which, $which ];
    for my $replica (qw(both missing down stale damaged)) {
        all_well();
        my @cells;
        for my $truth (qw(live ended absent unknown)) {
            for my $zone ('in the zone', 'not in the zone') {
                push @cells, map { { truth => $truth, replica => $replica, zone => $zone, mode => $_ } } sort keys %uri;
            }
        }
        begin($_, $second) for @cells;
        all_is_heard();
        finish($_, $second) for @cells;
        nothing_is_believed();
        $second->behave('close') if $replica eq 'down';
        check($_, $which) for grep { $_->{truth} ne 'unknown' } @cells;
        $first->behave('close');
        $second->behave('close') if $replica eq 'both';
        check($_, $which) for grep { $_->{truth} eq 'unknown' } @cells;
    }
}

done_testing();
