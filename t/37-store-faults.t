#!/usr/bin/perl

# What goes wrong with a store is counted, each kind said once a minute and not more often, and
# shown to whoever looks.
# Faults: an outage that fills the disk with its log; one that nobody is told of; a damaged entry
# taken for "no such session"; a token in the log.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Nginx::Memcached;
use Test::Nodes;

my $nodes = Test::Nodes->new(
    names   => [qw(a b)],
    realm   => 'store memcached 127.0.0.1:8011 timeout=1s connect_timeout=1s; revalidate 5s;',
    workers => 1,
);
my ($on_a, $on_b) = $nodes->all();
my $server = Test::Nginx::Memcached->new($on_a, 8011);
$nodes->run();
$nodes->login('a');
$nodes->advance(120);

sub lines { my ($text) = @_; return scalar(() = $on_b->read_file('error.log') =~ m/realm[ ]"a":[ ]store:[ ]\Q$text\E/xg) }
sub fault { my ($name) = @_; return $nodes->status('b')->{store}{faults}{$name} }

# --- an entry that cannot be read ---

my %before = map { $_ => 1 } $server->names();
my @clients = map { $nodes->login('a') } 1 .. 3;
for my $name (grep { m/\Asg:s:/x && !$before{$_} } $server->names()) {
    my $value = $server->value($name);
    $server->write_value($name, substr($value, 0, -1) . chr(1 ^ ord substr $value, -1));
}
is($nodes->tally('b', @clients), '3 store_unavailable', 'three damaged entries: nobody knows');
cmp_ok(fault('bad_seal'), '>=', 3, 'each is counted');
is(lines('an entry does not open'), 1, 'and said once');
$nodes->advance(61);
is($nodes->sees('b', $clients[0]), 'store_unavailable', 'a minute later');
is(lines('an entry does not open'), 2, 'it is said again');

# --- a server that is gone ---

$server->kill();
is($nodes->sees('b', $nodes->login('a')), 'store_unavailable', 'the server is gone') for 1 .. 5;
ok($on_b->wait_for(sub { fault('unreachable') >= 3 }), 'which is counted');
is(lines('it could not be reached'), 1, 'and said once');
like($nodes->status('b')->{store}{servers}[0]{breaker}, qr/\A(?:open|half_open)\z/x, 'its breaker is open, as the status shows');
ok($on_b->wait_for(sub { $nodes->login('b'); fault('breaker_open') > 0 }), 'who is not even asked is counted');
$server->start();
ok($on_b->wait_for(sub { $nodes->login('b'); $nodes->is_well('b') }), 'it is back, and the breaker closed');

done_testing();
