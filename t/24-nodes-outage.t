#!/usr/bin/perl

# All memcached servers fail: known sessions go on for a while, nobody is taken
# for somebody without a session, and nothing is lost when the servers are back.
# Attacks and faults: users thrown out by an outage; a stolen cookie used while
# nobody can be asked; a logout during an outage that does not last; logins,
# logouts and changes that are forgotten when it is over.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Guard;
use Test::Nginx;
use Test::Nginx::Memcached;
use Test::Nginx::Process qw(timeout);
use Test::Nodes;

my $wait = timeout(300) . 'ms';

my $nodes = Test::Nodes->new(names => [qw(a b)], workers => 1);
my @servers = map { Test::Nginx::Memcached->new($nodes->node('a'), $_) } 8011 .. 8013;
my $list = join ' ', map { $_->address() } @servers;
$nodes->realm_is("store memcached $list replicas=2 timeout=$wait connect_timeout=$wait;")->run();

sub past_revalidate { $nodes->advance(5.001); return }

sub logged_in { my ($name, $count) = @_; return map { $nodes->login($name) } 1 .. $count }

sub known_to_both {
    my @clients = logged_in('a', $_[0]);
    $nodes->sees('b', $_) for @clients;
    return @clients;
}

sub logged_out {
    my ($name, @clients) = @_;
    my @copies = map { $_->clone() } @clients;
    is(join(' ', map { $nodes->logout($_, $name) } @clients), join(' ', (204) x @clients), "logged out on $name");
    return @copies;
}

sub let_in {
    my ($name, @clients) = @_;
    return scalar grep { $nodes->sees($name, $_) =~ m{/}x } @clients;
}

# What could not be written is tried again, until it lands.
sub all_written {
    for my $name ($nodes->names()) {
        ok($nodes->node($name)->wait_for(sub {
            $nodes->login($name);    # with every batch the servers are tried
            my $store = $nodes->status($name)->{store};
            return $nodes->is_well($name) && !$store->{retrying} && !$store->{waiting};
        }), "$name has written everything");
    }
    return;
}

logged_in('a', 20);
$nodes->advance(120);    # new servers' "nothing there" counts from now on

# --- they stall ---

my @known = known_to_both(10);
my @leaving = known_to_both(10);
my @unknown = logged_in('a', 10);
my @strangers = logged_in('a', 5);
my ($changing) = known_to_both(1);

$_->pause() for @servers;

is($nodes->tally('b', @known), '10 alice/editor/', 'known and just confirmed: nobody is asked');
is($nodes->tally('b', @unknown), '10 store_unavailable', 'genuine, unknown here: come again, with the cookie');
for my $client (@unknown[ 0 .. 2 ]) {
    my $response = $nodes->get($client, 'b', '/open');
    is($response->status() . ' ' . $response->header('X-Is') . ' ' . $response->header('X-Status'), '200 // store_unavailable',
        'anonymous where that is enough');
}
my $page = client(port => $nodes->{port}{b})->set_cookie(a => $unknown[0]->cookie('a'))->get('/', navigation());
is($page->status() . join('', map { $_->{name} } $page->set_cookies()), 503, 'a page: no cookie is touched');

past_revalidate();
is($nodes->tally('b', @known), '10 alice/editor/', 'known, not confirmed any more: the grace counts');
is($nodes->sees('b', $known[0], '/closed'), 'store_unavailable', 'not where the location is closed');
my $forged = $known[0]->clone();
my $token = $forged->cookie('a');
$forged->set_cookie(a => substr($token, 0, 40) . 'A' x 24);
is($nodes->sees('b', $forged), 'forged', 'a forged token is told without a server');
is(client(port => $nodes->{port}{b})->get('/free')->status(), 200, 'other locations answer');

my @during = logged_in('b', 5);
is($nodes->tally('b', @during), '5 alice/editor/', 'logins work on this node');
is($nodes->tally('a', @during), '5 store_unavailable', 'the other one cannot know');
my @left = logged_out('a', @leaving);
is($nodes->tally('a', @left), '10 ended', 'so do logouts');
my @left_unseen = logged_out('b', @strangers);
is($nodes->tally('b', @left_unseen), '5 ended', 'of a session the node cannot know, too');
is($nodes->say($changing, 'a', 'update; data.theme="dark"')->status(), 200, 'a change');
is($nodes->sees('a', $changing), 'alice/editor/dark', 'counts here');

$nodes->advance(121);
is($nodes->tally('b', @known), '10 store_unavailable', 'the grace is over');
is(let_in('b', @left, @left_unseen), 0, 'for those who have left, too');

$_->resume() for @servers;
all_written();
past_revalidate();
sub everything_is_there {
    my ($when) = @_;
    for my $name ($nodes->names()) {
        is($nodes->tally($name, @known, @unknown, @during), '25 alice/editor/', "$when: no session is lost: $name");
        is($nodes->tally($name, @left, @left_unseen), '15 ended', "$when: no end is: $name");
        is($nodes->sees($name, $changing), 'alice/editor/dark', "$when: nor the change: $name");
    }
    return;
}
everything_is_there('back');
$nodes->restart();
everything_is_there('and all nodes restarted');

# --- they are killed, and come back empty ---

past_revalidate();
@known = known_to_both(30);
@leaving = known_to_both(10);
my @gone = logged_out('a', known_to_both(10));
$nodes->tally($_, @gone) for $nodes->names();
past_revalidate();
my ($unseen) = logged_in('a', 1);
$nodes->tally($_, @known, @gone) for $nodes->names();
$_->kill() for @servers;
@during = logged_in('a', 5);
@left = logged_out('b', @leaving);
is($nodes->tally('b', @known), '30 alice/editor/', 'killed: known sessions go on');
is($nodes->tally('b', @during), '5 store_unavailable', 'unknown ones are not refused');
$_->start() for @servers;
all_written();
is($nodes->sees('b', $unseen), 'store_unavailable', 'empty: what they have not may be what they have lost');
$nodes->node('b')->wait_for(sub { let_in('b', @left, @gone) == 0 });
is(let_in('b', @left, @gone), 0, 'nobody who has logged out is let in');
$nodes->advance(16);
for my $name ($nodes->names()) {
    ok($nodes->node($name)->wait_for(sub { (() = $nodes->node($name)->read_file('error.log') =~ m/came[ ]up[ ]empty/xg) >= @servers }, 20),
        "$name has written back what it knows");
}
$nodes->advance(61);
all_written();
$nodes->restart();
for my $name ($nodes->names()) {
    is($nodes->tally($name, @known, @during, $unseen), '36 alice/editor/', "what nodes knew is in the new servers: $name");
    is($nodes->tally($name, @left, @gone), '20 ended', "and what had ended: $name");
}

# --- a login with the cookie of a session that nobody can be asked about ---

my @earlier = known_to_both(5);
my @presented = map { $_->clone() } @earlier;
all_written();

# (What a node still writes back to the servers that came up empty is not taken any more.)
$_->expect_alert(qr/the[ ]store[ ]did[ ]not[ ]take[ ]\d+[ ]changes/x) for $nodes->all();
$_->kill() for @servers;
$nodes->restart('b');
$nodes->send($_, 'b', 'POST', '/login', 'create; user="bob"') for @earlier;
$_->start() for @servers;
all_written();
past_revalidate();
is($nodes->tally('a', @presented), '5 regenerated', 'a login in an outage ends the session that came with it');
is($nodes->tally('a', @earlier), '5 bob//', 'and opens another');

# --- nginx starts while there is no server ---

$_->kill() for @servers;
$nodes->restart('a');
my ($early) = logged_in('a', 1);
is($nodes->sees('a', $early), 'alice/editor/', 'nginx starts without them: a login');
is($nodes->sees('a', $known[0]), 'store_unavailable', 'and nobody is refused for nothing');
$_->start() for @servers;
all_written();
is($nodes->sees('b', $early), 'alice/editor/', 'it is stored when they are there');

done_testing();
