#!/usr/bin/perl

# Key files: rotation, several realms on one file, generated keys, who may read them.
# Attacks and faults: a token made under a key that leaked and was removed; a roll-out that throws
# everybody out; a token of one realm shown to another; a key file within reach of the workers; a
# token under an unknown key taken for an attack, and its cookie away with it.
#
# A session that is in the zone is a hit without cryptography: removing a key alone does not end the
# sessions made under it, it only makes sure that none of them is believed once it has left the zone.
# After a leak, end them (logout, restart).

use strict;
use warnings;

use FindBin;
use MIME::Base64 qw(decode_base64);
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http proxy rewrite session_guard));

my $up = $t->recorder(8081, sub {
    my ($request) = @_;
    return [ 200, { 'X-Accel-Session' => 'create; user="alice"' }, "in\n" ] if $request->path() eq '/login';
    return [ 200, { 'X-Accel-Session' => 'renew' }, "done\n" ] if $request->path() eq '/renew';
    return [ 200, {}, "page\n" ];
});

# Masters whose key ids differ in realm a; looked for by their first use.
my %key = map { $_ => join '', map { sprintf '%02x', $_ } map { ord } split m//x, substr "$_ is a key of this test, not yours", 0, 32 } qw(one two three);
$t->secret(values %key);

sub keys_are {
    my (@lines) = @_;
    my @text = map { m/\A([a-z]+)(.*)/x ? "$key{$1}$2\n" : "$_\n" } @lines;
    unlink $t->testdir() . '/a.key';
    $t->write_private_file('a.key', join '', @text);
    chown 0, 0, $t->testdir() . '/a.key' if $> == 0;    # the workers cannot read it
    return;
}

sub configuration {
    my (%option) = @_;
    my $key_file = $option{key_file} // 'key_file a.key;';
    my $size = $option{size} // '1m';
    return <<"EOC";
%%TEST_GLOBALS%%
daemon off;
worker_processes 2;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm a { zone $size; $key_file cookie a secure=off; }
    session_realm b { zone 1m; key_file a.key; cookie b secure=off; }
    session_realm g { zone 1m; cookie g secure=off; }
    upstream app { server 127.0.0.1:8081; }
    server {
        listen 127.0.0.1:8080;
        add_header X-Id \$session_id;
        location = /a        { session a; empty_gif; }
        location = /a/login  { session a optional; session_control create; proxy_pass http://app/login; }
        location = /a/renew  { session a; session_control renew; proxy_pass http://app/renew; }
        location = /a/logout { session a; session_logout; }
        location = /b        { session b; empty_gif; }
        location = /b/login  { session b optional; session_control create; proxy_pass http://app/login; }
        location = /g        { session g; empty_gif; }
        location = /g/login  { session g optional; session_control create; proxy_pass http://app/login; }
    }
}
EOC
}

sub logged_in {
    my ($realm) = @_;
    my $client = client();
    $client->post("/$realm/login", '', fetched());
    return $client;
}

sub page {
    my ($client, $realm) = @_;
    my $response = $client->get("/$realm", fetched());
    return $response->status() == 200 ? 200 : reason($response);
}

# A token's first byte.
sub key_id {
    my ($client, $realm) = @_;
    return unpack 'C', decode_base64(substr($client->cookie($realm), 0, 4) =~ tr{-_}{+/}r);
}

sub reload_with {
    my (@lines) = @_;
    keys_are(@lines);
    return $t->try_reload();
}

keys_are('one');
$t->write_file_expand('nginx.conf', configuration())->run();

# --- one key ---

my $old = logged_in('a');
is(page($old, 'a'), 200, 'a session under the only key');
is((stat $t->testdir() . '/a.key')[2] & oct '7777', oct '600', 'the file is its owner\'s');
SKIP: {
    skip 'needs root: there is one user only', 2 if $> != 0;
    is((stat _)[4], 0, 'who is root');
    my @uids = map { worker_uid($_) } $t->workers();
    is((grep { defined && $_ != 0 } @uids) + 0, 2, 'the workers are not');
}

sub worker_uid {
    my ($pid) = @_;
    open(my $fh, '<', "/proc/$pid/status") or return;
    my ($uid) = join('', <$fh>) =~ m/^Uid:\s+\d+\s+(\d+)/xm;
    return $uid;
}
my ($worker) = $t->workers();
$t->kill_worker($worker);
$t->wait_for(sub { $t->workers() == 2 });
is(join(' ', map { page(logged_in('a'), 'a') } 1 .. 10), join(' ', (200) x 10), 'a new worker needs no file to make tokens');
unlink $t->testdir() . '/a.key';
($worker) = $t->workers();
$t->kill_worker($worker);
$t->wait_for(sub { $t->workers() == 2 });
is(join(' ', map { page(logged_in('a'), 'a') } 1 .. 10), join(' ', (200) x 10), 'not even one that is there');
$t->expect_alert(qr/open\(\)[ ]of[ ]key_file[ ]"[^"]+a[.]key"[ ]failed/x);
ok(!$t->try_reload(), 'a reload without the file is refused');
is(page($old, 'a') . page(logged_in('a'), 'a'), '200200', 'and all goes on');

# --- roll-out of a second key ---

my $first = key_id($old, 'a');
ok(reload_with('one current', 'two'), 'a second key behind the current one');
is(page($old, 'a'), 200, 'the old session is good');
my $still = logged_in('a');
is(key_id($still, 'a'), $first, 'the first key still makes the tokens');
ok(reload_with('one', 'two current'), 'the mark is moved');
is(page($old, 'a') . page($still, 'a'), '200200', 'the old sessions are good');
my $new = logged_in('a');
isnt(key_id($new, 'a'), key_id($old, 'a'), 'the second key makes the tokens');
is(page($new, 'a'), 200, 'which are good');

my $gone = $still->clone();
$still->post('/a/logout', '', fetched());
is(page($gone, 'a'), 'ended', 'logout under the first key');
my $forged = $old->cookie('a');
substr $forged, 50, 1, substr($forged, 50, 1) eq 'A' ? 'B' : 'A';
$t->secret($forged);
is(reason(client()->get('/a', Cookie => "a=$forged")), 'forged', 'one forged under the first key is forged');
is($old->post('/a/renew', '', fetched())->status(), 200, 'a session under the first key is renewed');
is(key_id($old, 'a'), key_id($new, 'a'), 'under the second');
my $kept = $old->get('/a')->header('X-Id');
like($kept, qr/\A[\w-]{16}\z/x, 'with a public ID');

# --- the first key is removed ---

my $before = logged_in('a');
ok(reload_with('one current', 'two'), 'back to the first, for some sessions');
my @under_one = map { logged_in('a') } 1 .. 3;
ok(reload_with('two'), 'the first key is removed');
is(page($new, 'a') . page($before, 'a') . page($old, 'a'), '200200200', 'sessions under the second are good');
is($old->get('/a')->header('X-Id'), $kept, 'a public ID does not change');
is(join(' ', map { page($_, 'a') } @under_one), '200 200 200', 'sessions under the first are hits while they are in the zone');
is(reason(client()->get('/a', Cookie => "a=$forged")), 'unknown_key', 'other tokens under the first are of an unknown key, not forged');
is(page($gone, 'a'), 'unknown_key', 'what was ended before as well');
my $taken = $under_one[0]->clone();
is($under_one[0]->post('/a/logout', '', fetched())->status(), 204, 'logout under a removed key');
is(page($taken, 'a'), 'unknown_key', 'ends the session');
my $r = $taken->get('/a', navigation());
is($r->header('Session-Status') . ' ' . ($r->header('Set-Cookie') // 'no cookie'), 'unknown_key no cookie', 'an unknown key takes no cookie away');
is($under_one[1]->post('/a/renew', '', fetched())->status(), 200, 'renewal under a removed key');
is(page($under_one[1], 'a'), 200, 'goes on under the second');
is(key_id($under_one[1], 'a'), key_id($new, 'a'), 'with a token of it');
$t->advance(901);
is(page($under_one[2], 'a'), 'expired_idle', 'an idle session under a removed key');
ok(reload_with('three', 'two', 'one'), 'without a mark');
my $three = logged_in('a');
isnt(key_id($three, 'a'), key_id($new, 'a'), 'the first line makes the tokens');
is(page($taken, 'a'), 'ended', 'with its key back, what was ended is ended');

# --- wrong files at a reload ---

for my $case ([ 'a key twice', 'one', 'one' ], [ 'two current', 'one current', 'two current' ], [ 'no key', '# none' ], [ 'a short one', '# x', '123' ]) {
    my ($what, @lines) = @{$case};
    $t->expect_alert(qr/key_file[ ]"[^"]+a[.]key"/x);
    ok(!reload_with(@lines), "refused at a reload: $what");
    is(page($three, 'a'), 200, "the running keys go on: $what");
}

# --- a restart ---

keys_are('one', 'two current', 'three');
$t->reload();
my $here = logged_in('a');
my $now = logged_in('g');
$t->stop();
$t->run();
is(page($here, 'a'), 'absent', 'after a restart a token is genuine, its session gone');
like(page($now, 'g'), qr/\A(?:unknown_key|forged)\z/x, 'a generated key is gone as well');    # one in 256 has the new one's id

# --- one file, two realms ---

my ($in_a, $in_b) = (logged_in('a'), logged_in('b'));
is(page($in_a, 'a') . page($in_b, 'b'), '200200', 'two realms on one file');
like(reason(client()->get('/b', Cookie => 'b=' . $in_a->cookie('a'))), qr/\A(?:unknown_key|forged)\z/x, 'a token of one is none of the other');
like(reason(client()->get('/a', Cookie => 'a=' . $in_b->cookie('b'))), qr/\A(?:unknown_key|forged)\z/x, 'nor the other way round');
my $moved = $in_a->cookie('a');
substr $moved, 0, 2, substr $in_b->cookie('b'), 0, 2;    # the other realm's key id
$t->secret($moved);
is(reason(client()->get('/b', Cookie => "b=$moved")), 'forged', 'not even under the other\'s key id');

# --- generated ---

my $generated = logged_in('g');
$t->reload();
is(page($generated, 'g'), 200, 'a generated key outlives a reload');
is(key_id(logged_in('g'), 'g'), key_id($generated, 'g'), 'and goes on making tokens');
my $a = logged_in('a');
$t->write_file_expand('nginx.conf', configuration(key_file => ''));
$t->reload();
is(page($a, 'a'), 200, 'from a file to a generated key: hits go on');
my $b = logged_in('a');
is(page($b, 'a'), 200, 'logins work');
$t->write_file_expand('nginx.conf', configuration(key_file => '', size => '2m'));
ok($t->try_reload(), 'another size');
is(page($a, 'a') . page($b, 'a'), '200200', 'all sessions are there');
is(key_id(logged_in('a'), 'a'), key_id($b, 'a'), 'under the same generated key');
$t->write_file_expand('nginx.conf', configuration(size => '2m'));
$t->reload();
is(page($a, 'a') . page($b, 'a'), '200200', 'and back to the file');

done_testing();
