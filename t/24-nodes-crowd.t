#!/usr/bin/perl

# A crowd on three nodes that knows what every answer should be, while memcached
# servers, workers and nodes fail one at a time.
# Faults: a wrong answer that needs a certain moment: somebody let in after his
# logout, thrown out while he is logged in, taken for somebody else, or lost.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Crowd;
use Test::Nginx;
use Test::Nginx::Memcached;
use Test::Nginx::Process qw(timeout);
use Test::Nodes;

my $wait = timeout(300) . 'ms';
my $revalidate = 0.5;

my $nodes = Test::Nodes->new(names => [qw(a b c)]);
my ($on_a) = $nodes->all();
my @servers = map { Test::Nginx::Memcached->new($on_a, $_, relay => $_ == 8013) } 8011 .. 8013;
my $list = join ' ', map { $_->address() } @servers;
$nodes->realm_is("store memcached $list replicas=2 timeout=$wait connect_timeout=$wait; revalidate ${\ ($revalidate * 1000)}ms;")->run();
$nodes->login('a') for 1 .. 20;
$nodes->advance(120);

my $answers = 150;    # in each stage

sub crowd { return Test::Crowd->start($nodes, processes => 3, bound => $revalidate + 0.01) }

# However the servers did: nobody is let in, thrown out, mixed up or lost by mistake.
sub ends_well {
    my ($crowd, $what) = @_;

    my $sum = $crowd->end();
    diag("$what: ", join ', ', map { "$_ $sum->{$_}" } grep { $sum->{$_} } grep { $_ ne 'wrong' } sort keys %{$sum}) if $ENV{TEST_NGINX_VERBOSE};
    diag($_) for @{ $sum->{wrong} };
    is($sum->{$_}, 0, "$what: $_") for qw(wrong_admissions wrong_refusals lost somebody_else cookies);
    cmp_ok($sum->{logins}, '>=', 20, "$what: there were logins");
    cmp_ok($sum->{logouts}, '>=', 20, "$what: and logouts");
    return $sum;
}

sub stage {
    my ($crowd, $phrase) = @_;
    ok($crowd->wait_for_answers($answers), $phrase);
    return;
}

# By name, what lies in the servers: "live live", "ended live", or one of two only.
sub held {
    my %held;
    for my $server (@servers) {
        for my $name (grep { m/\Asg:s:/x } $server->names()) {
            my $value = $server->value($name) // next;
            push @{ $held{$name} }, length $value < 100 ? 'ended' : 'live';
        }
    }
    return map { $_ => join ' ', @{ $held{$_} } } keys %held;
}

# One fault at a time means that what a server has missed has been written there before the next one
# fails.
sub healed {
    my ($crowd, $phrase) = @_;

    for my $name ($nodes->names()) {
        $on_a->wait_for(sub { $nodes->is_well($name) }, 20);
    }
    my %held = held();
    my @behind = grep { $held{$_} !~ m/\A(\w+)[ ]\1\z/x } keys %held;
    ok($on_a->wait_for(sub {
        %held = held();
        @behind = grep { ($held{$_} // '') !~ m/\A(?:|(\w+)[ ]\1)\z/x } @behind;
        return !@behind;
    }, 20), $phrase) or diag(join "\n", map { "$_: $held{$_}" } @behind);
    stage($crowd, $phrase);
    return;
}

# --- one server at a time ---

my $crowd = crowd();
stage($crowd, 'all is well');
for my $server (@servers[ 0, 1 ]) {
    $server->pause();
    stage($crowd, 'a server is stopped');
    $server->resume();
    healed($crowd, 'it goes on, and has been told what it missed');
}
for my $mode (qw(garbage close cut slow=50)) {
    $servers[2]->behave($mode);
    stage($crowd, "a server: $mode");
    $servers[2]->behave('pass');
    healed($crowd, "$mode no more: it has been told what it missed");
}
$servers[1]->kill();
stage($crowd, 'a server is killed');
my $sum = ends_well($crowd, 'one server failed at a time');
is($sum->{unanswered}, 0, 'every request was answered');
is($sum->{unavailable}, 0, 'and nobody had to come again: with two replicas one failed server is noticed by nobody');

# --- a server that is new, workers and nodes that go ---

$servers[1]->start();
$crowd = crowd();
stage($crowd, 'a server has come up empty');
for my $name ($nodes->names()) {
    ok($nodes->node($name)->try_reload(), "$name is reloaded");
    stage($crowd, "$name is reloaded, and goes on");
}
$sum = ends_well($crowd, 'an empty server, reloads');
is($sum->{unanswered}, 0, 'every request was answered');
is($sum->{unavailable}, 0, 'and nobody had to come again');

$crowd = crowd();
for my $name ($nodes->names()) {
    $nodes->node($name)->kill_worker(($nodes->node($name)->workers())[0]);
    stage($crowd, "a worker of $name is killed");
}
ends_well($crowd, 'killed workers');

done_testing();
