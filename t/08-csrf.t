#!/usr/bin/perl

# The cross-site rule: who may act with a session's authority.
# Attacks: CSRF by form, fetch and link; Origin: null; missing headers; login CSRF (the victim is logged
# in as the attacker); logout CSRF; cross-site WebSocket hijacking; several header lines of one name.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http proxy session_guard));

my $up = $t->recorder(8081, sub {
    my ($request) = @_;
    return [ 200, { 'X-Accel-Session' => 'create; user="alice"' }, "in\n" ] if $request->path() =~ m{login\z}x;
    return [ 200, {}, "page\n" ];
});

$t->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app   { zone 1m; cookie a secure=off; }
    session_realm front { zone 1m; cookie b secure=assumed; origin https://shop.example https://other.example:8443; }
    upstream app { server 127.0.0.1:8081; }
    proxy_http_version 1.1;

    server {
        listen 127.0.0.1:8080;
        session app;
        location /         { proxy_pass http://app; }
        location = /login  { session app optional; session_control create; proxy_pass http://app; }
        location = /open   { session app optional; proxy_pass http://app; }
        location = /off    { session_csrf off; proxy_pass http://app; }
        location = /logout { session_logout; }
        location = /session { session_info; }
        location /ws       { proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; proxy_pass http://app; }
        location /front/        { session front; proxy_pass http://app; }
        location = /front/login { session front optional; session_control create; proxy_pass http://app; }
    }
}
EOC

my $host = 'localhost';                # what the client says it asks for
my $own = "http://$host";

sub logged_in {
    my ($uri, %headers) = @_;
    my $client = client();
    is($client->post($uri // '/login', '', %headers ? %headers : fetched())->status(), 200, 'logged in');
    return $client;
}

my $alice = logged_in();

# Status of a request with these headers; whether the upstream saw it must agree.
sub answer {
    my ($client, $method, $uri, @headers) = @_;
    $up->clear();
    my $response = $client->request($method, $uri, @headers);
    my $status = $response->status();
    is($up->count(), $status == 200 ? 1 : 0, "$method $uri: the upstream saw it only if it passed");
    is(reason($response), 'csrf', "$method $uri: the reason") if $status == 403 && $method ne 'HEAD';
    return $status;
}

# --- every method, every combination ---

my @sites = ('none', 'same-origin', 'same-site', 'cross-site', 'garbage', undef);
my @origins = ($own, 'http://evil.example', 'null', undef);

for my $method (qw(GET HEAD OPTIONS POST PUT DELETE PATCH)) {
    my $safe = $method =~ m/\A(?:GET|HEAD|OPTIONS)\z/x;
    for my $site (@sites) {
        for my $origin (@origins) {
            my $trusted = defined $origin && $origin eq $own;
            my $passes = $safe ? 1
                : !defined $site ? !defined $origin || $trusted
                : $site =~ m/\A(?:none|same-origin)\z/x ? 1
                : $site =~ m/\A(?:same-site|cross-site)\z/x ? $trusted : 0;
            my @headers = ((defined $site ? ('Sec-Fetch-Site' => $site) : ()), (defined $origin ? ('Origin' => $origin) : ()));
            is(answer($alice, $method, '/page', @headers), $passes ? 200 : 403,
                join ' ', $method, $site // 'no site', $origin // 'no origin');
        }
    }
}

# --- spellings of an origin ---

for my $origin ("https://$host", 'http://localhost:1', "$own/", "$own.evil.example", "http://evil.example#$own", "$own, $own",
    'http://user@' . $host, '', 'file://', "http://evil.example?$own") {
    is(answer($alice, POST => '/page', Origin => $origin), 403, "not the own origin: '$origin'");
}
is(answer($alice, POST => '/page', Origin => [ $own, 'http://evil.example' ]), 403, 'two Origin lines');
is(answer($alice, POST => '/page', Origin => [ 'http://evil.example', $own ]), 403, 'in either order');
is(answer($alice, POST => '/page', 'Sec-Fetch-Site' => [ 'same-origin', 'cross-site' ]), 403, 'two Sec-Fetch-Site lines');

# --- login CSRF, anonymous, and off ---

is(answer(client(), POST => '/login', 'Sec-Fetch-Site' => 'cross-site', Origin => 'http://evil.example'), 403, 'nobody is logged in from another site');
is(answer(client(), POST => '/login', Origin => 'null'), 403, 'nor from a sandboxed frame');
is(answer(client(), POST => '/open', 'Sec-Fetch-Site' => 'cross-site'), 200, 'without a session there is nothing to abuse');
is(answer($alice, POST => '/off', 'Sec-Fetch-Site' => 'cross-site'), 200, 'session_csrf off');

# --- logout and session_info ---

is($alice->post('/logout', '', 'Sec-Fetch-Site' => 'cross-site')->status(), 403, 'another site logs nobody out');
my $stranger = client()->post('/logout', '', 'Sec-Fetch-Site' => 'cross-site');
is($stranger->status(), 403, 'not even by having the cookie deleted');
is(scalar $stranger->set_cookies(), 0, 'no cookie is touched');
is($alice->post('/session', '', 'Sec-Fetch-Site' => 'cross-site')->status(), 403, 'another site keeps no session alive');
is(answer($alice, GET => '/page'), 200, 'the session lives on');

# --- WebSocket handshakes ---

my @upgrade = (Connection => 'Upgrade', 'Sec-WebSocket-Version' => 13, 'Sec-WebSocket-Key' => 'dGhlIHNhbXBsZSBub25jZQ==');
for my $word ('websocket', 'WebSocket', 'WEBSOCKET', 'foo, websocket', 'websocket/13') {
    is(answer($alice, GET => '/ws', @upgrade, Upgrade => $word, Origin => $own), 200, "$word: own origin");
    is(answer($alice, GET => '/ws', @upgrade, Upgrade => $word, Origin => 'http://evil.example'), 403, "$word: another origin");
    is(answer($alice, GET => '/ws', @upgrade, Upgrade => $word), 403, "$word: no origin");
    is(answer($alice, GET => '/ws', @upgrade, Upgrade => $word, 'Sec-Fetch-Site' => 'same-origin'), 403, "$word: Fetch metadata is no origin");
}
is(answer($alice, GET => '/page', Connection => 'Upgrade', Upgrade => 'h2c'), 200, 'another upgrade is no handshake');

# --- origin: behind another proxy ---

my $shop = logged_in('/front/login', Origin => 'https://shop.example');
is(answer($shop, POST => '/front/x', Origin => 'https://shop.example'), 200, 'a configured origin');
is(answer($shop, POST => '/front/x', Origin => 'https://SHOP.example:443'), 200, 'in another spelling');
is(answer($shop, POST => '/front/x', Origin => 'https://other.example:8443'), 200, 'the other one');
is(answer($shop, POST => '/front/x', Origin => 'https://other.example'), 403, 'not without its port');
is(answer($shop, POST => '/front/x', Origin => $own), 403, 'the Host header says nothing then');

done_testing();
