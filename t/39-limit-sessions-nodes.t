#!/usr/bin/perl

# limit_sessions on several nodes with one store.
# Attacks and faults: one login on each node, at the same moment; a node that has never heard of the
# user; a store that is away while users log in, or loses one of its servers; nodes that restart.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Nginx::Memcached;
use Test::Nginx::Process qw(timeout);
use Test::Guard;
use Test::Nodes;

my $wait = timeout(1000) . 'ms';
my $nodes = Test::Nodes->new(names => [qw(a b c)]);
my @servers = map { Test::Nginx::Memcached->new($nodes->node('a'), $_) } 8011 .. 8013;
my $list = join ' ', map { $_->address() } @servers;
$nodes->realm_is(<<"EOC")->run();
store memcached $list replicas=2 timeout=$wait connect_timeout=$wait;
limit_sessions 2;
limit_sessions 1 role=admin evict=deny;
EOC

# A new server's "nothing there" is not believed for a minute.
$nodes->login('a', qq(user="u$_")) for 1 .. 20;
$nodes->advance(120);

sub past_revalidate { $nodes->advance(5.001); return }

sub everywhere {
    my ($expected, $phrase, @clients) = @_;
    past_revalidate();
    is($nodes->tally($_, @clients), $expected, "$phrase: $_") for $nodes->names();
    return;
}

# --- one after the other ---

my @in = map { $nodes->login($_) } qw(a b);
everywhere('2 alice/editor/', 'one on a, one on b', @in);
push @in, $nodes->login('c');
everywhere('1 ended', 'a third, on c, ends the first', $in[0]);
everywhere('2 alice/editor/', 'the others stay', @in[ 1, 2 ]);
$nodes->restart();
push @in, $nodes->login('a');
everywhere('1 ended', 'all nodes restarted: who was there is not forgotten', $in[1]);
everywhere('2 alice/editor/', 'and who stays, stays', @in[ 2, 3 ]);
$nodes->logout($in[3], 'b');
push @in, $nodes->login('c');
everywhere('2 alice/editor/', 'logged out on b, logged in on c: the one before stays', @in[ 2, 4 ]);

$nodes->say($in[2], 'b', 'renew');
push @in, $nodes->login('a');
everywhere('1 ended', 'renewed on b, it is the oldest on a', $in[2]);
everywhere('2 alice/editor/', 'alone', @in[ 4, 5 ]);

# --- at the same moment ---

sub at_once {
    my ($count, $say) = @_;
    my (@clients, @started);
    for my $i (1 .. $count) {
        for my $name ($nodes->names()) {
            my $client = client(port => $nodes->{port}{$name});
            push @clients, $client;
            push @started, $client->start('POST', '/login', { body => '' }, fetched(), 'X-Say' => "create; $say");
        }
    }
    $clients[$_]->{answer} = $clients[$_]->finish($started[$_]) for 0 .. $#clients;
    return @clients;
}

sub good_on {
    my ($name, @clients) = @_;
    return scalar grep { $nodes->sees($name, $_) =~ m{/}x } @clients;
}

for my $round (1 .. 4) {
    my @many = at_once(4, qq(user="crowd$round"));
    is((grep { $_->{answer}->status() == 200 } @many) + 0, 12, "twelve logins on three nodes at once, $round");
    past_revalidate();
    is(good_on($_, @many), 2, "two are left: $_") for $nodes->names();
    my @admins = at_once(4, qq(user="admins$round"; roles="admin"));
    my @let_in = grep { $_->{answer}->status() == 200 } @admins;
    cmp_ok(scalar @let_in, '>=', 1, 'of twelve of whom one may be, somebody is let in');
    past_revalidate();
    is(good_on($_, @let_in), 1, "one is left: $_") for $nodes->names();
}

# --- one server of three is gone ---

$servers[0]->kill();
for my $round (1 .. 6) {
    my @some = map { $nodes->login($_, qq(user="less$round")) } qw(a b c);
    past_revalidate();
    is(join(' ', map { good_on($_, @some) } $nodes->names()), '2 2 2', "one server gone, user $round: two are left");
}
$servers[0]->start();
$nodes->advance(120);

# --- no store for a while ---

$_->store('fails') for $nodes->all();
my @apart = map { $nodes->login($_, 'user="apart"') } qw(a a b b);
is(good_on('a', @apart[ 0, 1 ]) + good_on('b', @apart[ 2, 3 ]), 4, 'without the store each node has its own count');
$_->store('works') for $nodes->all();
ok($nodes->node('a')->wait_for(sub {
    past_revalidate();
    return good_on('a', @apart) == 2 && good_on('b', @apart) == 2 && good_on('c', @apart) == 2;
}), 'two are left when it is back') or diag(join ' ', map { good_on($_, @apart) } $nodes->names());

done_testing();
