#!/usr/bin/perl

# Sessions outlive nginx in memcached: one node and its servers.
# Attacks and faults: a cookie replayed after a logout and a restart; users
# thrown out by a restart, by a new key, by a long timeout that memcached reads
# as a date of 1970; names and tokens that can be read in a server; a list of
# servers that is not what was meant.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Nginx::Memcached;
use Test::Nginx::Process qw(timeout);
use Test::Nodes;

my @hex = map { join '', map { sprintf '%02x', $_ } $_ .. $_ + 31 } 1, 101;
my $wait = timeout(1000) . 'ms';

my $nodes = Test::Nodes->new(names => ['a']);
my $t = $nodes->node('a');
my $tcp = Test::Nginx::Memcached->new($t, 8011);

sub realm {
    my ($store, $more) = @_;
    $nodes->realm_is("store memcached $store timeout=$wait connect_timeout=$wait; " . ($more // ''));
    return;
}

# What a server holds of the first; a server that is new is told from one that is empty.
sub servers_are_old {
    $nodes->login('a') for 1 .. 20;
    $nodes->advance(120);
    return;
}

realm($tcp->address());
$nodes->run();
servers_are_old();

# --- restart ---

my $alice = $nodes->login('a');
is($nodes->sees('a', $alice), 'alice/editor/', 'logged in');
$nodes->say($alice, 'a', 'update; data.theme="dark"');
my $gone = $nodes->login('a');
my $copy = $gone->clone();
is($nodes->logout($gone, 'a'), 204, 'one logs out');
my $renewed = $nodes->login('a');
my $old = $renewed->clone();
$nodes->say($renewed, 'a', 'renew');
isnt($renewed->cookie('a'), $old->cookie('a'), 'one has a new handle');

$nodes->restart();
is($nodes->sees('a', $alice), 'alice/editor/dark', 'a restart loses no session, with its last change');
is($nodes->sees('a', $copy), 'ended', 'and brings none back');
is($nodes->sees('a', $renewed), 'alice/editor/', 'the new handle is good');
is($nodes->sees('a', $old), 'alice/editor/', 'the old one passes for its ten seconds');
$nodes->advance(11);
is($nodes->sees('a', $old), 'regenerated', 'and not longer');

my @many = map { $nodes->login('a') } 1 .. 40;
my @left = map { $_->clone() } @many[ 0 .. 9 ];
$nodes->logout($_, 'a') for @many[ 0 .. 9 ];
$t->kill_nginx();
$nodes->run();
is($nodes->tally('a', @many[ 10 .. 39 ]), '30 alice/editor/', 'kill -9 of every process loses no session');
is($nodes->tally('a', @left), '10 ended', 'and none that was logged out comes back');

# --- what memcached can tell ---

my %held = map { $_ => $tcp->value($_) // '' } $tcp->names();
cmp_ok(scalar(keys %held), '>=', 30, 'the server holds entries');
unlike(join(' ', %held), qr/alice|editor|theme|dark/x, 'of which nothing can be read');
my ($token) = map { $_->cookie('a') } $alice;
is((grep { index($_, substr $token, 2, 16) >= 0 } %held) + 0, 0, 'and nothing of a token, in names or values');

# --- timeouts ---

my $idle = $nodes->login('a');
my $busy = $nodes->login('a');
$t->stop();
$nodes->advance(8 * 60);
$nodes->run();
is($nodes->sees('a', $busy), 'alice/editor/', 'timeouts go on while nginx is down: still good');
$nodes->advance(8 * 60);
is($nodes->sees('a', $busy), 'alice/editor/', 'kept by activity');
is($nodes->sees('a', $idle), 'expired_idle', 'who did nothing has expired');
$nodes->restart();
is($nodes->sees('a', $idle), 'expired_idle', 'after a restart as well');
$nodes->advance(7 * 60);
$nodes->restart();
$nodes->advance(7 * 60);
is($nodes->sees('a', $busy), 'alice/editor/', 'activity is not forgotten by a restart');

# Beyond 30 days memcached takes a number for a date, and what it has been given is over at once.
realm($tcp->address(), 'idle_timeout 100d; absolute_timeout 400d;');
$nodes->configure();
ok($t->try_reload(), 'long timeouts');
my @long = map { $nodes->login('a') } 1 .. 5;
my $left = $nodes->login('a');
my $left_copy = $left->clone();
$nodes->logout($left, 'a');
$nodes->restart();
is($nodes->tally('a', @long), '5 alice/editor/', 'a session of 400 days is there after a restart');
is($nodes->sees('a', $left_copy), 'ended', 'so is its end');
$nodes->advance(90 * 86_400);
is($nodes->tally('a', @long), '5 alice/editor/', 'and ninety days later');
$nodes->restart();
is($nodes->tally('a', @long), '5 alice/editor/', 'after a restart, too');
is($nodes->sees('a', $left_copy), 'ended', 'as is its end');
realm($tcp->address());
$nodes->configure();
ok($t->try_reload(), 'the timeouts of before');

# --- keys ---

my $keyed = $nodes->login('a');
my $out = $nodes->login('a');
my $out_copy = $out->clone();
$nodes->logout($out, 'a');
$nodes->keys_are("$hex[0]\n$hex[1] current\n");
ok($t->try_reload(), 'another key signs');
my $new = $nodes->login('a');
$nodes->restart();
is($nodes->sees('a', $keyed), 'alice/editor/', 'a stored session of the first key is good');
is($nodes->sees('a', $out_copy), 'ended', 'and what has ended under it stays so');
is($nodes->sees('a', $new), 'alice/editor/', 'one of the second is, too');
$nodes->say($keyed, 'a', 'renew');
$nodes->keys_are("$hex[1]\n");
ok($t->try_reload(), 'the first key is taken out');
$nodes->restart();
is($nodes->sees('a', $keyed), 'alice/editor/', 'a session that was renewed under the second is good');
is($nodes->sees('a', $out_copy), 'unknown_key', 'a token of the first is nobody\'s');
$nodes->keys_are("$hex[0]\n$hex[1]\n");
ok($t->try_reload(), 'the first key again');
is($nodes->sees('a', $out_copy), 'ended', 'it was over, and still is');

# --- three servers, one of them on a socket ---

my @three = ($tcp, Test::Nginx::Memcached->new($t, 8012), Test::Nginx::Memcached->new($t, 'third.sock'));
realm(join ' ', map { $_->address() } @three);
$nodes->configure();
$nodes->restart();
servers_are_old();
my @spread = map { $nodes->login('a') } 1 .. 90;
$nodes->restart();
is($nodes->tally('a', @spread), '90 alice/editor/', 'three servers: all sessions are there after a restart');
my %count = map { $_->address() => scalar grep { m/\Asg:s:/x } $_->names() } @three[ 1, 2 ];
is((grep { $_ >= 15 } values %count) + 0, 2, 'each holds its part');
realm(join ' ', map { $_->address() } reverse @three);
$nodes->restart();
is($nodes->tally('a', @spread), '90 alice/editor/', 'in another order: the same ones');
is(join(' ', map { $_->{port} == port(8012) ? '8012' : $_->{port} ? '8011' : 'socket' } @{ $nodes->status('a')->{store}{servers} }),
    'socket 8012 8011', 'status lists them in this order');

# --- a list of servers ---

sub refused {
    my ($servers, $why, $phrase) = @_;
    my ($ok, $said) = $t->nginx_t_http("session_realm a { key_file a.key; store memcached $servers; }");
    ok(!$ok, "refused: $phrase");
    like($said, $why, 'with the reason');
    return;
}
refused('', qr/invalid[ ]store|names[ ]no[ ]server/x, 'no server');
refused('127.0.0.1:8011 127.0.0.1:8011', qr/duplicate[ ]memcached[ ]server[ ]"127[.]0[.]0[.]1:\d+"/x, 'one twice');
refused('10.0.0.1 10.0.0.1:11211', qr/duplicate[ ]memcached[ ]server[ ]"10[.]0[.]0[.]1:11211"/x, 'one twice, once by the default port');
refused('unix:/a.sock unix:/a.sock', qr{duplicate[ ]memcached[ ]server[ ]"unix:/a[.]sock"}x, 'a socket twice');
refused('10.0.0.1:11211/2 10.0.0.1:11211/3', qr/duplicate/x, 'one twice, with other weights');
refused('10.0.0.1/0', qr/invalid[ ]weight/x, 'no weight');
refused('10.0.0.1/x', qr/invalid[ ]weight/x, 'a weight that is none');
refused('10.0.0.1:0', qr/invalid/x, 'port 0');
refused('10.0.0.1:70000', qr/invalid[ ]port/x, 'a port that is none');
refused('unix:', qr/invalid[ ]memcached[ ]server/x, 'a socket without a path');
refused('10.0.0.1 replicas=2', qr/"replicas=2"[ ]needs[ ]as[ ]many[ ]servers/x, 'more replicas than servers');
refused('10.0.0.1 replicas=0', qr/invalid[ ]parameter[ ]"replicas=0"/x, 'no replica');
refused('10.0.0.1 timeout=0', qr/invalid[ ]parameter[ ]"timeout=0"/x, 'no time');
refused('10.0.0.1 timeout=1h', qr/invalid[ ]parameter[ ]"timeout=1h"/x, 'an hour');
refused('10.0.0.1 time_out=1s', qr/invalid[ ]parameter[ ]"time_out=1s"/x, 'a word with a typing error');
refused(join(' ', map { "10.0.0.$_" } 1 .. 17), qr/too[ ]many[ ]memcached[ ]servers[ ]at[ ]"10[.]0[.]0[.]17"/x, 'seventeen');
my ($ok, $said) = $t->nginx_t_http('session_realm a { store memcached 10.0.0.1; }');
ok(!$ok && $said =~ m/needs[ ]a[ ]"key_file"/x, 'refused: a store without a key file');

sub accepted {
    my ($servers, $phrase) = @_;
    my ($good, $text) = $t->nginx_t_http("session_realm a { key_file a.key; store memcached $servers; }");
    ok($good, "accepted: $phrase") or diag($text);
    return;
}
accepted('10.0.0.1:11211/3 10.0.0.2 [::1] [::1]:11212/2 unix:/a.sock cache.example.org:11211 replicas=2 timeout=20ms connect_timeout=1s', 'every kind of server');
accepted(join(' ', map { "10.0.0.$_" } 1 .. 16), 'sixteen');
($ok, $said) = $t->nginx_t_http(join ' ', map { "session_realm $_ { key_file a.key; store memcached 10.0.0.1; cookie $_; }" } qw(a b));
ok($ok, 'accepted: two realms on one server') or diag($said);

done_testing();
