#!/usr/bin/perl

# samesite=strict: the login's cookie is sent as Lax, so that the hop that follows a login on another
# site (OpenID Connect, SAML) is logged in; from the next response on it is Strict.
# Faults: a user who has logged in elsewhere and arrives as nobody; a cookie that stays Lax for ever,
# or is sent again and again. And partitioned: cookies of embedded pages.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http proxy rewrite session_guard));
$t->recorder(8081, sub {
    my ($request) = @_;
    my $say = $request->header('X-Say');
    return [ 200, { $say ? ('X-Accel-Session' => $say) : () }, "page\n" ];
});

$t->make_directory('store');
$t->write_private_file('a.key', '5e' x 32 . "\n");

sub configuration {
    my ($cookie) = @_;
    return <<"EOC";
%%TEST_GLOBALS%%
daemon off;
thread_pool default threads=2;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm a { zone 1m; key_file a.key; store lmdb store/a.mdb map_size=8m; cookie a secure=assumed $cookie; rotate 10m grace=30s; }
    server {
        listen 127.0.0.1:8080;
        location / { session a; session_control on; proxy_pass http://127.0.0.1:8081; }
        location = /login { session a optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /logout { session a; session_logout; }
        location = /quiet { session a; return 204; }
    }
}
EOC
}

$t->write_file_expand('nginx.conf', configuration('samesite=strict'))->run();

sub logged_in {
    my $client = client();
    my $answer = $client->request('POST', '/login', { body => '' }, fetched(), 'X-Say' => 'create; user="alice"');
    return ($client, $answer->header('Set-Cookie'));
}

# Of a Set-Cookie: the attribute, or "none" where there is no such header.
sub same_site {
    my ($set) = @_;
    return 'none' unless defined $set;
    my ($value) = $set =~ m/;[ ]SameSite=(\w+)/x;
    return $value;
}
sub page { my ($client, @headers) = @_; return $client->get('/', @headers ? @headers : fetched())->header('Set-Cookie') }

my ($client, $set) = logged_in();
is(same_site($set), 'Lax', 'a login: Lax');
my $token = $client->cookie('a');
is(same_site(page($client, navigation(site => 'cross-site'))), 'Strict', 'the hop that follows, from another site: Strict');
is($client->cookie('a'), $token, 'with the same value');
is(page($client), undef, 'once');

($client) = logged_in();
is($client->get('/', navigation(mode => 'no-cors', dest => 'image'))->header('Set-Cookie'), undef, 'not with an image');
is($client->head('/', fetched())->header('Set-Cookie'), undef, 'not with HEAD');
is(same_site(page($client)), 'Strict', 'with the first page or fetch');
is(page($client), undef, 'once');

# The flag is the session's, on whatever node and after a restart.
($client) = logged_in();
$t->stop();
$t->run();
is(same_site(page($client)), 'Strict', 'still owed after a restart');
$t->stop();
$t->run();
is(page($client), undef, 'and after another one not any more');

# --- what else replaces the cookie ---

($client) = logged_in();
is(same_site($client->get('/', fetched(), 'X-Say' => 'renew')->header('Set-Cookie')), 'Strict', 'renewed: Strict');
is(page($client), undef, 'and that is that');

($client) = logged_in();
$token = $client->cookie('a');
$client->get('/quiet', navigation(mode => 'no-cors', dest => 'image')) for 1 .. 3;
$t->advance(300);
$client->get('/quiet', navigation(mode => 'no-cors', dest => 'image'));
$t->advance(301);
is(same_site(page($client)), 'Strict', 'rotated before it was sent again: Strict');
isnt($client->cookie('a'), $token, 'with another value');
is(page($client), undef, 'once');

($client) = logged_in();
my $other = $client->clone();
is($client->request('POST', '/logout', { body => '' }, fetched())->status(), 204, 'logged out at once');
is(page($other), undef, 'a session that has ended is handed nothing');

($client) = logged_in();
is(same_site($client->get('/', fetched(), 'X-Say' => 'update; data.a="1"')->header('Set-Cookie')), 'Strict', 'an update of data: as any page');
is(page($client), undef, 'once');

my $logout = $client->request('POST', '/logout', { body => '' }, fetched())->header('Set-Cookie');
is(same_site($logout), 'Strict', 'the expiry has the later attributes');

# --- the others ---

for my $kind ([ 'samesite=lax', 'Lax' ], [ 'samesite=none', 'None' ], [ 'samesite=none partitioned', 'None' ]) {
    $t->write_file_expand('nginx.conf', configuration($kind->[0]));
    ok($t->try_reload(), $kind->[0]);
    ($client, $set) = logged_in();
    is(same_site($set), $kind->[1], "$kind->[0]: at a login");
    is(page($client), undef, "$kind->[0]: and not again");
    is($set =~ m/;[ ]Partitioned\z/x ? 1 : 0, $kind->[0] =~ m/partitioned/x ? 1 : 0, "$kind->[0]: a jar of its own, or not");
}
$logout = $client->request('POST', '/logout', { body => '' }, fetched())->header('Set-Cookie');
like($logout, qr/;[ ]Partitioned;[ ]Max-Age=0/x, 'partitioned: its expiry is, too');

done_testing();
