#!/usr/bin/perl

# Rotation on several nodes that share a store: they hand out the same token without asking each
# other, believe what is ahead of them, and a copy ends the session everywhere; not while nobody can
# be asked.
# Attacks: a copied cookie taken to another node. Faults: users thrown out by the node that is behind,
# by a store that is away, or by a session the store has lost.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Guard;
use Test::Nginx;
use Test::Nginx::Memcached;
use Test::Nodes;

my $nodes = Test::Nodes->new(names => [qw(a b)]);
my ($on_a) = $nodes->all();
my @servers = map { Test::Nginx::Memcached->new($on_a, $_) } 8011, 8012;
my $list = join ' ', map { $_->address() } @servers;
$nodes->realm_is("store memcached $list replicas=2; revalidate 500ms; idle_timeout 2h; rotate 10m grace=30s;")->run();

sub with {
    my ($token, $name) = @_;
    my $client = client(no_cookies => 1, port => $nodes->{port}{$name});
    return $client->get('/', fetched(), Cookie => "a=$token");
}

sub page {
    my ($response) = @_;
    return $response->status() == 200 ? 200 : $response->status() . ' ' . ($response->header('Session-Status') // '');
}

sub handed {
    my ($response) = @_;
    my ($token) = ($response->header('Set-Cookie') // '') =~ m/\Aa=([\w-]{64});/x;
    return $token;
}

sub logged_in { return $nodes->login($_[0])->cookie('a') }

# --- the same on both ---

my $first = logged_in('a');
is(page(with($first, 'b')), 200, 'a session of one node is known to the other');
$nodes->advance(600);
my ($on_this, $on_that) = map { handed(with($first, $_)) } qw(a b);
ok($on_this, 'a rotation is due');
is($on_that, $on_this, 'both nodes hand out the same token');

my $second = $on_this;
is(page(with($second, 'b')), 200, 'it is used on one');
is(page(with($second, 'a')), 200, 'and on the other, at once');
is(page(with($first, $_)), 200, "the old one is good for the grace, on $_") for qw(a b);
is(handed(with($second, $_)), undef, "nothing is due any more, on $_") for qw(a b);

# --- both at once ---

$nodes->advance(600);
my @parallel = map { my $name = $_; map { handed(with($second, $name)) } 1 .. 3 } qw(a b);
my %different = map { ($_ // 'none') => 1 } @parallel;
is(scalar keys %different, 1, 'many requests, one token');
my $third = $parallel[0];
is(page(with($third, $_)), 200, "first used on both at once: $_") for qw(a b);

# --- ahead of a node that has heard nothing ---

$nodes->restart('b');
is(page(with($third, 'b')), 200, 'a node that has restarted takes what the store has');

# --- a copy ---

$nodes->advance(31);
is(page(with($second, 'b')), '401 ended', 'a token of before, taken to the other node, after the grace');
ok($on_a->wait_for(sub { page(with($third, 'a')) eq '401 ended' }), 'the session has ended on the first');
is(page(with($third, 'b')), '401 ended', 'and on the other');

# --- nobody can be asked ---

my $old = logged_in('a');
$nodes->advance(600);
my $new = handed(with($old, 'a'));
is(page(with($new, 'a')), 200, 'rotated');
$nodes->advance(31);
is(page(with($new, 'a')), 200, 'and confirmed');
$_->pause() for @servers;
is(page(with($old, 'a')), '503 store_unavailable', 'a token of before, while the store is away: nobody knows');
is(page(with($new, 'a')), 200, 'and nothing has ended');
$_->resume() for @servers;
ok($on_a->wait_for(sub { page(with($new, 'a')) eq '200' }), 'the store is back');
ok($on_a->wait_for(sub { page(with($old, 'a')) eq '401 ended' }), 'then it is a copy');
is(page(with($new, 'a')), '401 ended', 'and the session ends');

done_testing();
