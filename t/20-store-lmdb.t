#!/usr/bin/perl

# Sessions outlive nginx in an LMDB file: restart, kill -9 of everything, an emptied zone.
# Attacks and faults: a cookie replayed after a logout and a restart; a handle replaced before a
# restart; a restart that throws users out; a file of somebody else's in the place of the store.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http proxy rewrite session_guard));

my $up = $t->recorder(8081, sub {
    my ($request) = @_;
    return [ 200, { 'X-Accel-Session' => 'create; user="alice"; roles="editor"; data.theme="dark"' }, "in\n" ]
        if $request->path() eq '/login';
    return [ 200, { 'X-Accel-Session' => 'create; user="alice"; roles="editor"; data.theme="dark"' }, "in\n", wait_file => 'go' ]
        if $request->path() eq '/slow';
    return [ 200, { 'X-Accel-Session' => 'create; user="alice"; roles="editor"; data.theme="dark"; idle=20' }, "in\n" ]
        if $request->path() eq '/short';
    return [ 200, { 'X-Accel-Session' => 'update; data.theme="light"' }, "ok\n" ] if $request->path() eq '/light';
    return [ 200, { 'X-Accel-Session' => 'renew' }, "ok\n" ] if $request->path() eq '/renew';
    return [ 200, {}, "page\n" ];
});

$t->write_private_file('a.key', join('', map { sprintf '%02x', $_ } 1 .. 32) . "\n");
chown 0, 0, $t->testdir() . '/a.key' if $> == 0;
$t->make_directory('store');

my $conf = <<'EOC';
%%TEST_GLOBALS%%
worker_processes 2;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm s { zone 64k; key_file a.key; store lmdb store/s.mdb map_size=8m; cookie s secure=off; }
    session_realm a { zone 1m; key_file a.key; store lmdb store/a.mdb map_size=8m; cookie a secure=off; idle_timeout 10m; absolute_timeout 1h; }
    server {
        listen 127.0.0.1:8080;
        add_header X-User "$session_user/$session_roles/$session_attr_theme";
        location / { session a; proxy_pass http://127.0.0.1:8081; }
        location = /slow   { session a optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /short  { session a optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /login  { session a optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /light  { session a; session_control update; proxy_pass http://127.0.0.1:8081; }
        location = /renew  { session a; session_control renew; proxy_pass http://127.0.0.1:8081; }
        location = /logout { session a; session_logout; }
        location = /info   { session a; session_info; }
        location = /open   { session a optional; proxy_pass http://127.0.0.1:8081; }
        location = /small       { session s; proxy_pass http://127.0.0.1:8081; }
        location = /small/login { session s optional; session_control create; proxy_pass http://127.0.0.1:8081/login; }
        location = /free   { empty_gif; }
    }
}
EOC
$t->write_file_expand('nginx.conf', $conf)->run();

sub logged_in {
    my $client = client();
    $client->post('/login', '', fetched());
    return $client;
}

sub page {
    my ($client, $uri) = @_;
    my $response = $client->get($uri // '/', fetched());
    return $response->status() == 200 ? $response->header('X-User') : $response->status() . ' ' . reason($response);
}

sub restart {
    $t->stop();
    $t->run();
    return;
}

# --- restart ---

my $alice = logged_in();
is(page($alice), 'alice/editor/dark', 'logged in');
my $gone = logged_in();
my $copy = $gone->clone();
$gone->post('/logout', '', fetched());
is(page($copy), '401 ended', 'logged out');
$alice->get('/light', fetched());
is(page($alice), 'alice/editor/light', 'changed');
my $renewed = logged_in();
my $old = $renewed->clone();
$renewed->get('/renew', fetched());
isnt($renewed->cookie('a'), $old->cookie('a'), 'renewed');

restart();

is(page($alice), 'alice/editor/light', 'a restart loses no session, with its last change');
is(page($copy), '401 ended', 'and brings none back');
is(page($renewed), 'alice/editor/dark', 'the new handle of a renewed session is good');
is(page($old), 'alice/editor/dark', 'the old one passes for its ten seconds');
$t->advance(11);
is(page($old), '401 regenerated', 'and not longer');

# --- killed ---

my @all = map { logged_in() } 1 .. 30;
my @ended = map { $_->clone() } @all[ 0 .. 9 ];
$_->post('/logout', '', fetched()) for @all[ 0 .. 9 ];
$t->kill_nginx();
$t->run();
is((grep { page($_) eq 'alice/editor/dark' } @all[ 10 .. 29 ]) + 0, 20, 'kill -9 of every process loses no session');
is((grep { page($_) eq '401 ended' } @ended) + 0, 10, 'and none that was logged out comes back');

# --- binary upgrade: two masters, two zones, one file ---

my $before = logged_in();
my $leaver = logged_in();
my $left = $leaver->clone();
$t->upgrade_binary(sub {
    is(page($before), 'alice/editor/dark', 'the new binary knows the session');
    $leaver->post('/logout', '', fetched());
    is(page($left), '401 ended', 'a logout there counts');
});
is(page($before), 'alice/editor/dark', 'when the old one has gone as well');
is(page($left), '401 ended', 'for both');

# --- a changed zone size, while old workers go on ---

my $slow = client();
my $leaving = logged_in();
my $copied = $leaving->clone();
my $count = $up->count();
my $answer = $slow->start('POST', '/slow', { body => '' }, fetched());
$up->wait_for($count + 1);
(my $larger = $conf) =~ s/a[ ]\{[ ]zone[ ]1m/a { zone 2m/x;
$t->write_file_expand('nginx.conf', $larger);
ok($t->try_reload(), 'another size, while a login is under way in an old worker');
$t->write_file('go', '');
is($slow->finish($answer)->status(), 200, 'the old worker answers it');
is(page($slow), 'alice/editor/dark', 'and the new ones know it, from the store');
is(page($copied), 'alice/editor/dark', 'as they know those of before');
$t->write_file_expand('nginx.conf', $conf);
ok($t->try_reload(), 'back to the old size');

# --- timeouts go on while nginx is down, and activity is not forgotten ---

my $idle = logged_in();
my $busy = logged_in();
$t->stop();
$t->advance(5 * 60);
$t->run();
is(page($busy), 'alice/editor/dark', 'half an idle timeout later: still good');
$t->advance(4 * 60);
is(page($busy), 'alice/editor/dark', 'and kept so by activity');
$t->stop();
$t->advance(4 * 60);
$t->run();
is(page($busy), 'alice/editor/dark', 'which the store has heard of');
is(page($idle), '401 expired_idle', 'who did nothing meanwhile has expired');
$t->stop();
$t->advance(50 * 60);
$t->run();
is(page($busy), '401 expired_absolute', 'the absolute timeout counts from the login');
$t->stop();
$t->advance(10 * 60);
$t->run();
is(page($busy), '401 absent', 'later there is nothing left of it');

# A session that set itself a shorter limit is kept by activity within that.
my $short = client();
$short->post('/short', '', fetched());
for (1 .. 3) {
    $t->advance(6);
    page($short);
}
restart();
is(page($short), 'alice/editor/dark', 'a session with a limit of its own was used within it');

# --- a key that is taken out of the file ---

$t->write_file_expand('nginx.conf', $conf);
my $keyed = logged_in();
my $key = $t->read_file('a.key');
rekey(join('', map { sprintf '%02x', $_ } 101 .. 132) . "\n");
ok($t->try_reload(), 'the key is replaced, the old line removed');
$t->advance(200);
is(page($keyed), 'alice/editor/dark', 'a session of the zone goes on without its key, long after it was confirmed');
rekey($key);
ok($t->try_reload(), 'the old key again');

sub rekey {
    my ($text) = @_;
    unlink $t->testdir() . '/a.key';
    $t->write_private_file('a.key', $text);
    chown 0, 0, $t->testdir() . '/a.key' if $> == 0;
    return;
}

# --- more sessions than the zone can hold ---

my @many = map { my $client = client(); $client->post('/small/login', '', fetched()); $client } 1 .. 400;
is((grep { $_->cookie('s') } @many) + 0, 400, 'a small zone, many logins');
is((grep { page($_, '/small') eq 'alice/editor/dark' } @many) + 0, 400, 'all are known: what the store holds may leave the zone');

# --- the file ---

SKIP: {
    skip 'needs root: there is one user only', 2 if $> != 0;
    my @stat = map { [ stat $t->testdir() . "/store/a.mdb$_" ] } '', '-lock';
    is(join(' ', map { sprintf '%o', $_->[2] & oct '7777' } @stat), '600 600', 'both files are their owner\'s only');
    is((grep { $_->[4] == 0 } @stat) + 0, 0, 'who is the workers\' user');
}
unlike($t->read_file('store/a.mdb'), qr/alice|editor|theme/x, 'nothing of a session can be read in it');

$t->stop();
my $path = $t->testdir() . '/store/a.mdb';
my $good = $t->read_file('store/a.mdb');

sub replaced {
    my ($bytes) = @_;
    open(my $fh, '+<:raw', $path) or die "$path: $!\n";
    truncate $fh, 0;
    print {$fh} $bytes;
    close $fh or die "$path: $!\n";
    return;
}

sub refused {
    my ($what, $bytes) = @_;
    replaced($bytes);
    ok(!eval { $t->run(); 1 }, "$what: nginx does not start");
    like($t->read_file('stderr.log') . $t->read_file('error.log'), qr/session[ ]guard:[ ]realm[ ]"a":[ ]store:[^\n]+a[.]mdb/x, 'and says which file');
    ok($t->read_file('store/a.mdb') eq $bytes, 'which is left as it is');
    return;
}
$t->expect_alert(qr/session[ ]guard:[ ]realm[ ]"a":[ ]store:/x);
refused('somebody else\'s file', "SQLite format 3\0" . 'x' x 8192);
refused('a file cut in two', substr $good, 0, length($good) / 2);
refused('a page overwritten', substr($good, 0, 4096) . 'x' x 4096 . substr $good, 8192);
replaced($good);
$t->run();
my $safe = logged_in();
(my $bad = $conf) =~ s{store/a[.]mdb}{store/bad.mdb}x;
$t->write_file('store/bad.mdb', 'x' x 8192);
chmod 0600, $t->testdir() . '/store/bad.mdb';
$t->write_file_expand('nginx.conf', $bad);
ok(!$t->try_reload(), 'a reload with a bad file is refused');
is(page($safe), 'alice/editor/dark', 'and the running configuration goes on');
$t->write_file_expand('nginx.conf', $conf);
ok($t->try_reload(), 'until the next good one');
is(page(logged_in()), 'alice/editor/dark', 'the good file is good again');

done_testing();
