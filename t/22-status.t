#!/usr/bin/perl

# session_status: what an operator can see of zone and store, and who may look.
# Attacks: a stranger who asks how many are logged in; a user's name or a token in it.

use strict;
use warnings;

use FindBin;
use JSON::PP qw(decode_json);
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http proxy realip session_guard));

my $up = $t->recorder(8081, { '/login' => [ 200, { 'X-Accel-Session' => 'create; user="alice"' }, "in\n" ], default => [ 200, {}, "page\n" ] });
$t->write_private_file('a.key', join('', map { sprintf '%02x', $_ } 1 .. 32) . "\n");
chown 0, 0, $t->testdir() . '/a.key' if $> == 0;
$t->make_directory('store');

$t->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm a { zone 1m; key_file a.key; store lmdb store/a.mdb; cookie a secure=off; }
    session_realm b { zone 64k; cookie b secure=off; }
    server {
        listen 127.0.0.1:8080;
        set_real_ip_from 127.0.0.1;
        real_ip_header X-Real-IP;
        location /         { session a; proxy_pass http://127.0.0.1:8081; }
        location = /login  { session a optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /logout { session a; session_logout; }
        location = /status { session_status; }
        location = /far    { session_status from=10.0.0.0/8,unix:; }
        location = /in     { session a; session_status from=127.0.0.1; }
    }
}
EOC

sub status { return decode_json(client()->get($_[0] // '/status')->body())->{realms} }

my @clients = map { my $c = client(); $c->post('/login', '', fetched()); $c } 1 .. 3;
my $r = client()->get('/status');
is($r->status(), 200, 'asked from this machine');
is($r->header('Content-Type'), 'application/json', 'JSON');
is($r->header('Cache-Control'), 'no-store', 'not to be kept');
unlike($r->body(), qr/alice/x, 'nobody is named');
my ($a, $b) = @{ status() };
is("$a->{name} $b->{name}", 'a b', 'both realms');
is($a->{zone}{sessions}, 3, 'sessions');
is($a->{zone}{bytes}, 1024 * 1024, 'the zone');
cmp_ok($a->{zone}{cells_total}, '>', 3000, 'and its room');
is($a->{store}{kind}, 'lmdb', 'the store');
is($a->{store}{breaker}, 'closed', 'is well');
is($b->{store}, undef, 'the other has none');

$clients[0]->post('/logout', '', fetched());
is(status()->[0]{zone}{sessions}, 2, 'one has left');
$t->store('fails');
$clients[1]->post('/logout', '', fetched());
is(status()->[0]{store}{retrying}, 1, 'a write that is tried again');
is(status()->[0]{events}{store_write_failed}, 1, 'is counted');
$t->store('works');
ok($t->wait_for(sub { status()->[0]{store}{retrying} == 0 }), 'until it lands');

is(client()->get('/far')->status(), 403, 'from= is enforced');
is(client()->get('/far', 'X-Real-IP' => '10.1.2.3')->status(), 200, 'for the address that realip says');
is(client()->get('/status', 'X-Real-IP' => '192.0.2.1')->status(), 403, 'the default is this machine');
is(client()->post('/status', 'x')->status(), 405, 'nothing to post');
is(reason(client()->get('/in', fetched())), 'none', 'a session may be demanded as well');
is($clients[2]->get('/in')->status(), 200, 'and then it is shown');

done_testing();
