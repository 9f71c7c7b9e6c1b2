#!/usr/bin/perl

# Requests that another site has the browser send.
# Attacks: CSRF (each unsafe method, missing headers, Origin: null, headers that come twice or nearly
# right); cross-site WebSocket hijack; login CSRF (the victim logged in as the attacker); logout CSRF.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http http_ssl http_v2 socket_ssl proxy rewrite session_guard))->has_daemon('curl');

my $up = $t->recorder(8081, sub {
    my ($request) = @_;
    return [ 101, [ Connection => 'Upgrade', Upgrade => 'websocket' ] ] if $request->header('Upgrade');
    return [ 200, { 'X-Accel-Session' => 'create; user="mallory"' }, "in\n" ] if $request->path() =~ m{/evil-login\z}x;
    return [ 200, { 'X-Accel-Session' => 'create; user="alice"' }, "in\n" ] if $request->path() =~ m{/login\z}x;
    return [ 200, {}, "done\n" ];
});

$t->ssl_cert()->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app     { zone 1m; cookie sid secure=off; identity X-User=$session_user; }
    session_realm front   { zone 1m; cookie front secure=off; origin https://app.example https://www.app.example:8443; }
    session_realm assumed { zone 1m; cookie assumed secure=assumed; }
    upstream app { server 127.0.0.1:8081; }
    underscores_in_headers on;
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_header;
    map $http_upgrade $connection_header { default upgrade; "" ""; }

    server {
        listen 127.0.0.1:8080;
        listen 127.0.0.1:8443 ssl http2;
        ssl_certificate     localhost.crt;
        ssl_certificate_key localhost.key;
        session app;

        location /             { proxy_pass http://app; }
        location /in/          { proxy_pass http://app; }
        location /login        { session app optional; session_control create; proxy_pass http://app; }
        location /evil-login   { session app optional; session_control create; proxy_pass http://app; }
        location /free-login   { session app optional; session_control create; session_csrf off; proxy_pass http://app; }
        location /destroying   { session app optional; session_control update renew destroy; proxy_pass http://app; }
        location /optional/    { session app optional; proxy_pass http://app; }
        location /unchecked/   { session_csrf off; proxy_pass http://app; }
        location /no-session/  { session off; proxy_pass http://app; }
        location /rewritten/   { session off; rewrite ^ /in/rewritten last; }
        location = /session    { session_info; }
        location = /logout     { session_logout; }
        location = /free-logout { session_logout; session_csrf off; }

        location /front/       { session front; proxy_pass http://app; }
        location = /front/login { session front optional; session_control create; proxy_pass http://app; }
        location /assumed/     { session assumed; proxy_pass http://app; }
        location = /assumed/login { session assumed optional; session_control create; proxy_pass http://app; }
    }
}
EOC

my ($r, $seen);
my $nobody = client();

sub logged_in {
    my ($uri, %option) = @_;
    my $client = client(%option);
    $client->post($uri // '/login', '', 'Sec-Fetch-Site' => 'same-origin');
    die "no session\n" unless $client->cookies();
    return $client;
}

# What becomes of a request, and whether that fits with what the upstream has seen.
sub outcome {
    my ($response, $silent) = @_;
    my $now = $up->count();
    my $asked = $now - $seen;
    $seen = $now;
    my $status = $response->status();
    return "$status, asked $asked times" if $asked != ($status < 300 && !$silent ? 1 : 0);
    return 'pass' if $status < 300;
    return "$status" if $status != 403;
    return 'a cookie' if $response->set_cookies();
    return 'may be kept' if $response->header('Cache-Control') ne 'no-store';
    return 'Session-Status' if $response->header('Session-Status') ne 'csrf';
    return $response->header('Content-Type') eq 'application/problem+json' && reason($response) eq 'csrf' ? 'csrf' : 'another 403';
}

my $alice = logged_in();
$seen = $up->count();

# --- methods, Sec-Fetch-Site, Origin ---

my %origin = (own => 'http://localhost', other => 'http://evil.example', null => 'null', absent => undef);
my @origin = qw(own other null absent);
my %unsafe = (
    'same-origin' => 'pass pass pass pass',
    'none'        => 'pass pass pass pass',
    'same-site'   => 'pass csrf csrf csrf',
    'cross-site'  => 'pass csrf csrf csrf',
    'garbage'     => 'csrf csrf csrf csrf',
    ''            => 'csrf csrf csrf csrf',
    'absent'      => 'pass csrf csrf pass',
);
my $passes = 'pass pass pass pass';

# One client's requests to a place: what becomes of them for each Origin.
sub row {
    my ($client, $method, $uri, $site) = @_;
    my @outcome;
    for my $origin (@origin) {
        my @headers = ('Sec-Fetch-Site' => $site eq 'absent' ? undef : $site, Origin => $origin{$origin});
        my $option = $method =~ m/\A(?:POST|PUT|PATCH)\z/x ? { body => 'a=b' } : {};
        push @outcome, outcome($client->clone()->request($method, $uri, $option, @headers));
    }
    return join ' ', @outcome;
}

for my $site (sort keys %unsafe) {
    is(row($alice, $_, '/in/page', $site), $passes, "$_, Sec-Fetch-Site '$site': @origin") for qw(GET HEAD OPTIONS);
    is(row($alice, $_, '/in/page', $site), $unsafe{$site}, "$_, Sec-Fetch-Site '$site': @origin") for qw(POST PUT DELETE PATCH PROPFIND UNHEARDOF);
    is(row($alice, 'POST', '/optional/x', $site), $unsafe{$site}, "with a session where it is optional, '$site': @origin");
    is(row($nobody, 'POST', '/optional/x', $site), $passes, "without one where it is optional, '$site': @origin");
    is(row($nobody, 'POST', '/destroying', $site), $passes, "without one where all but create is allowed, '$site': @origin");
    is(row($nobody, 'POST', '/login', $site), $unsafe{$site}, "without one at a login, '$site': @origin");
    my $again = logged_in();
    $seen = $up->count();
    is(row($again, 'POST', '/login', $site), $unsafe{$site}, "with one at a login, '$site': @origin");
    is(row($nobody, 'GET', '/login', $site), $passes, "GET without one at a login, '$site': @origin");
    is(row($alice, 'POST', '/unchecked/x', $site), $passes, "session_csrf off, '$site': @origin");
    is(row($nobody, 'POST', '/free-login', $site), $passes, "session_csrf off at a login, '$site': @origin");
    is(row($alice, 'POST', '/no-session/x', $site), $passes, "session off, '$site': @origin");
    is(row($alice, 'POST', '/rewritten/x', $site), $unsafe{$site}, "rewritten to a guarded place, '$site': @origin");
}
is(outcome($alice->get('/in/page')), 'pass', 'the session has gone through all that');

# A form of another site is a navigation; so is what it is answered with.
$r = $alice->post('/in/page', 'a=b', navigation(site => 'cross-site'), Origin => 'http://evil.example');
is(outcome($r), 'csrf', 'a form on another site: refused');
is($r->body(), qq({"type":"about:blank","title":"Cross-site request refused","status":403,"reason":"csrf"}\n), 'a form on another site: said why');
is(outcome($alice->post('/in/page', 'a=b', navigation(site => 'same-origin'))), 'pass', 'a form of our own');
is(outcome($alice->get('/in/page', navigation(site => 'cross-site'))), 'pass', 'a link on another site');
my $kept = logged_in('/login', keepalive => 1);
$seen = $up->count();
is(outcome($kept->post('/in/page', 'x' x 20_000, 'Sec-Fetch-Site' => 'cross-site')), 'csrf', 'a long body: refused');
is(outcome($kept->get('/in/page')), 'pass', 'a long body: does not disturb the next request');

# --- nearly right ---

my $own = 'http://localhost';
my @nearly = (
    [ 'csrf', 'Sec-Fetch-Site twice',              'Sec-Fetch-Site' => [ 'same-origin', 'same-origin' ], Origin => $own ],
    [ 'csrf', 'Sec-Fetch-Site twice, good first',  'Sec-Fetch-Site' => [ 'same-origin', 'cross-site' ] ],
    [ 'csrf', 'Sec-Fetch-Site twice, good last',   'Sec-Fetch-Site' => [ 'cross-site', 'same-origin' ] ],
    [ 'csrf', 'Sec-Fetch-Site twice, one in capitals', 'Sec-Fetch-Site' => 'same-origin', 'SEC-FETCH-SITE' => 'cross-site' ],
    [ 'csrf', 'Sec-Fetch-Site as a list',          'Sec-Fetch-Site' => 'same-origin, cross-site', Origin => $own ],
    [ 'csrf', 'Sec-Fetch-Site in capitals',        'Sec-Fetch-Site' => 'Same-Origin', Origin => $own ],
    [ 'csrf', 'Sec-Fetch-Site with more behind it', 'Sec-Fetch-Site' => 'same-origin;x' ],
    [ 'pass', 'Sec-Fetch-Site, its name in capitals', 'SEC-FETCH-SITE' => 'same-origin' ],
    [ 'csrf', 'Sec-Fetch-Site, its name in capitals', 'sec-fetch-site' => 'cross-site' ],
    [ 'csrf', 'an underscore does not count',      'Sec_Fetch_Site' => 'same-origin', Origin => 'http://evil.example' ],
    [ 'csrf', 'Origin twice',                      Origin => [ $own, $own ] ],
    [ 'csrf', 'Origin twice, own first',           Origin => [ $own, 'http://evil.example' ] ],
    [ 'csrf', 'Origin twice, own last',            Origin => [ 'http://evil.example', $own ] ],
    [ 'csrf', 'Origin twice, of another site',     'Sec-Fetch-Site' => 'cross-site', Origin => [ $own, $own ] ],
    [ 'csrf', 'Origin as a list',                  Origin => "$own $own" ],
    [ 'csrf', 'Origin as a list with a comma',     Origin => "$own, http://evil.example" ],
    [ 'csrf', 'an empty Origin',                   Origin => '' ],
    [ 'csrf', 'Origin in capitals',                Origin => 'HTTP://localhost' ],
    [ 'csrf', 'Origin: NULL',                      Origin => 'NULL' ],
    [ 'csrf', 'Origin with a path',                Origin => "$own/" ],
    [ 'csrf', 'Origin: another scheme',            Origin => 'https://localhost' ],
    [ 'csrf', 'Origin: another port',              Origin => "$own:8080" ],
    [ 'csrf', 'Origin: no port behind the colon',  Origin => "$own:" ],
    [ 'csrf', 'Origin: a longer host',             Origin => "$own.evil.example" ],
    [ 'csrf', 'Origin: a host that ends so',       Origin => 'http://evillocalhost' ],
    [ 'csrf', 'Origin: own as a user\'s name',     Origin => 'http://localhost@evil.example' ],
    [ 'csrf', 'Origin: a user\'s name',            Origin => 'http://evil@localhost' ],
    [ 'csrf', 'Origin: own in a path',             Origin => 'http://evil.example/localhost' ],
    [ 'csrf', 'Origin: a dot at the end',          Origin => "$own." ],
    [ 'csrf', 'Origin: a file',                    Origin => 'file://' ],
    [ 'pass', 'Origin: the host in capitals',      Origin => 'http://LOCALHOST' ],
    [ 'pass', 'Origin: the port that goes without saying', Origin => "$own:80" ],
    [ 'csrf', 'another Referer does not help Origin', Origin => 'http://evil.example', Referer => "$own/page" ],
    [ 'csrf', 'what an application may believe is not asked', Origin => 'null', 'X-Requested-With' => 'XMLHttpRequest' ],
    [ 'csrf', 'X-Forwarded-Host is not asked',     Origin => 'http://evil.example', 'X-Forwarded-Host' => 'evil.example' ],
    [ 'csrf', 'X-Forwarded-Proto is not asked',    Origin => 'https://localhost', 'X-Forwarded-Proto' => 'https' ],
);
for my $row (@nearly) {
    my ($expected, $what, @headers) = @{$row};
    is(outcome($alice->clone()->post('/in/page', 'a=b', @headers)), $expected, $what);
}

# --- Host ---

my @host = (
    [ 'pass', 'localhost:8080',   'http://localhost:8080' ],
    [ 'csrf', 'localhost:8080',   'http://localhost' ],
    [ 'csrf', 'localhost:8080',   'http://localhost:8081' ],
    [ 'pass', 'localhost:80',     'http://localhost' ],
    [ 'pass', 'LocalHost',        'http://localhost' ],
    [ 'csrf', 'localhost.',       'http://localhost' ],
    [ 'pass', 'app.example',      'http://app.example' ],
    [ 'pass', '127.0.0.1:8080',   'http://127.0.0.1:8080' ],
    [ 'pass', '[::1]:8080',       'http://[::1]:8080' ],
    [ 'csrf', '[::1]:8080',       'http://[::1]' ],
    [ 'csrf', 'localhost:',       'http://localhost:' ],
    [ 'csrf', 'localhost:080',    'http://localhost:080' ],
    [ 'csrf', 'null',             'null' ],
    [ '400',  '',                 'http://' ],
    [ '400',  [ 'localhost', 'evil.example' ], 'http://evil.example' ],
);
for my $row (@host) {
    my ($expected, $host, $origin) = @{$row};
    $r = $alice->clone()->post('/in/page', 'a=b', Host => $host, Origin => $origin);
    is(outcome($r), $expected, "Host '" . (ref $host ? "@{$host}" : $host) . "', Origin '$origin'");
}
$r = $alice->clone()->post('/in/page', 'a=b', { version => '1.0' }, Host => undef, Origin => 'http://localhost');
is(outcome($r), 'pass', 'the client always sends a Host') if $r->status() == 200;
my $token = $alice->cookie('sid');
$r = http("POST /in/page HTTP/1.0\r\nCookie: sid=$token\r\nOrigin: http://localhost\r\nContent-Length: 0\r\n\r\n");
like($r, qr/\A\S+[ ]403[ ]/x, 'without Host no Origin is the own');
$seen = $up->count();

# --- origins that are configured ---

my $front = logged_in('/front/login');
my $assumed = logged_in('/assumed/login');
$seen = $up->count();
for my $row (
    [ $front,   '/front/x',   'https://app.example',          'pass' ],
    [ $front,   '/front/x',   'https://app.example:443',      'pass' ],
    [ $front,   '/front/x',   'https://www.app.example:8443', 'pass' ],
    [ $front,   '/front/x',   'https://www.app.example',      'csrf' ],
    [ $front,   '/front/x',   'http://app.example',           'csrf' ],
    [ $front,   '/front/x',   'https://sub.app.example',      'csrf' ],
    [ $front,   '/front/x',   'http://localhost',             'csrf' ],
    [ $assumed, '/assumed/x', 'https://localhost',            'pass' ],
    [ $assumed, '/assumed/x', 'http://localhost',             'csrf' ],
) {
    my ($client, $uri, $origin, $expected) = @{$row};
    is(outcome($client->clone()->post($uri, 'a=b', Origin => $origin)), $expected, "$uri, Origin '$origin'");
    is(outcome($client->clone()->post($uri, 'a=b', 'Sec-Fetch-Site' => 'cross-site', Origin => $origin)), $expected, "$uri, Origin '$origin', cross-site");
}

# --- TLS, HTTP/2 ---

my $tls = logged_in('/login', ssl => 1);
my $port = port(8443);
$seen = $up->count();
is(outcome($tls->clone()->post('/in/x', 'a', Origin => 'https://localhost')), 'pass', 'TLS: https is own');
is(outcome($tls->clone()->post('/in/x', 'a', Origin => 'http://localhost')), 'csrf', 'TLS: http is not');
for my $row (
    [ 'pass', 'own',                    Origin => "https://localhost:$port" ],
    [ 'csrf', 'own without its port',   Origin => 'https://localhost' ],
    [ 'csrf', 'other',                  Origin => 'https://evil.example' ],
    [ 'csrf', 'null',                   Origin => 'null' ],
    [ 'pass', 'neither header' ],
    [ 'csrf', 'cross-site',             'Sec-Fetch-Site' => 'cross-site' ],
    [ 'csrf', 'same-site',              'Sec-Fetch-Site' => 'same-site' ],
    [ 'pass', 'same-origin',            'Sec-Fetch-Site' => 'same-origin' ],
    [ 'csrf', 'Sec-Fetch-Site twice',   'Sec-Fetch-Site' => [ 'same-origin', 'cross-site' ] ],
) {
    my ($expected, $what, @headers) = @{$row};
    is(outcome($tls->clone()->h2(POST => '/in/x', { body => 'a' }, @headers)), $expected, "HTTP/2: $what");
}
is(outcome($tls->clone()->h2(DELETE => '/in/x', 'Sec-Fetch-Site' => 'cross-site')), 'csrf', 'HTTP/2: DELETE');
is(outcome($tls->clone()->h2(GET => '/in/x', 'Sec-Fetch-Site' => 'cross-site')), 'pass', 'HTTP/2: GET');

# --- WebSockets ---

sub handshake {
    my ($client, $uri, $upgrade, @headers) = @_;
    my $response = $client->clone()->get($uri, Connection => 'Upgrade', ($upgrade ? (Upgrade => $upgrade) : ()),
        'Sec-WebSocket-Version' => 13, 'Sec-WebSocket-Key' => 'dGhlIHNhbXBsZSBub25jZQ==', @headers);
    my $asked = $up->count() - $seen;
    return outcome($response) if $response->status() != 101;
    $seen = $up->count();
    return $asked == 1 ? 'open' : "open, asked $asked times";
}

for my $spelling ('websocket', 'WebSocket', 'WEBSOCKET', 'wEbSoCkEt', 'foo, websocket', 'websocket, foo', 'foo,WebSocket', ' websocket ', 'websocket/13', "h2c,\twebsocket") {
    is(handshake($alice, '/in/ws', $spelling, Origin => $own), 'open', "Upgrade: $spelling: own Origin");
    is(handshake($alice, '/in/ws', $spelling, Origin => $_ // undef), 'csrf', "Upgrade: $spelling: Origin " . ($_ // 'absent'))
        for 'http://evil.example', 'null', undef;
}
is(handshake($alice, '/in/ws', undef, $_ => 'websocket', Origin => 'http://evil.example'), 'csrf', "$_: refused") for qw(UPGRADE upgrade uPGRADE);
is(handshake($alice, '/in/ws', [ 'foo', 'websocket' ], Origin => 'http://evil.example'), 'csrf', 'Upgrade twice, websocket last: refused');
is(handshake($alice, '/in/ws', [ 'websocket', 'foo' ], Origin => 'http://evil.example'), 'csrf', 'Upgrade twice, websocket first: refused');
is(handshake($alice, '/in/ws', [ '', 'websocket' ], Origin => 'http://evil.example'), 'csrf', 'Upgrade twice, first empty: refused');
is(handshake($alice, '/in/ws', 'websocket', Origin => [ $own, 'http://evil.example' ]), 'csrf', 'Origin twice: refused');
is(handshake($alice, '/in/ws', 'websocket', 'Sec-Fetch-Site' => 'same-origin'), 'csrf', 'Sec-Fetch-Site does not stand for Origin');
is(handshake($alice, '/in/ws', 'websocket', 'Sec-Fetch-Site' => 'same-origin', Origin => 'http://evil.example'), 'csrf', 'nor does it excuse one');
is(handshake($alice, '/in/ws', 'websocket', 'Sec-Fetch-Site' => 'cross-site', Origin => $own), 'open', 'own Origin, whatever Sec-Fetch-Site says');
is(handshake($alice, '/optional/ws', 'websocket', Origin => 'http://evil.example'), 'csrf', 'with a session where it is optional: refused');
is(handshake($nobody, '/optional/ws', 'websocket', Origin => 'http://evil.example'), 'open', 'without one: nothing to hijack');
is(handshake($nobody, '/in/ws', 'websocket', Origin => $own), '401', 'without one where it is needed: 401');
is(handshake($alice, '/unchecked/ws', 'websocket', Origin => 'http://evil.example'), 'open', 'session_csrf off: open');
is(handshake($front, '/front/ws', 'websocket', Origin => 'https://app.example'), 'open', 'a configured origin: open');
is(handshake($front, '/front/ws', 'websocket', Origin => 'http://localhost'), 'csrf', 'a configured origin: no other');
is(handshake($tls, '/in/ws', 'websocket', Origin => 'https://localhost'), 'open', 'TLS: open');
is(handshake($tls, '/in/ws', 'websocket', Origin => 'http://localhost'), 'csrf', 'TLS: not for http');
is(outcome($alice->clone()->post('/in/ws', '', Connection => 'Upgrade', Upgrade => 'websocket', 'Sec-Fetch-Site' => 'same-origin')), 'csrf', 'POST with Upgrade: the Origin is asked too');

# --- logging the victim in ---

my $victim = client();
$r = $victim->post('/evil-login', 'user=mallory', navigation(site => 'cross-site'), Origin => 'http://evil.example');
is(outcome($r), 'csrf', 'login CSRF: refused');
is(scalar($victim->cookies()), 0, 'login CSRF: no session');
$r = $alice->post('/evil-login', 'user=mallory', navigation(site => 'cross-site'), Origin => 'null');
is(outcome($r), 'csrf', 'login CSRF from a sandbox: refused');
is($alice->get('/in/page')->status() . $up->last()->header('X-User'), '200alice', 'login CSRF: the victim stays who she is');
$seen = $up->count();

# --- logging the victim out ---

for my $row ([ 'with a session', $alice ], [ 'without one', $nobody ], [ 'with a dead one', client()->set_cookie(sid => 'A' x 64) ]) {
    my ($what, $client) = @{$row};
    for my $headers ([ 'Sec-Fetch-Site' => 'cross-site' ], [ 'Sec-Fetch-Site' => 'same-site' ], [ Origin => 'http://evil.example' ], [ Origin => 'null' ]) {
        $r = $client->clone()->post('/logout', '', @{$headers});
        is(outcome($r, 1) . ($r->header('Clear-Site-Data') // ''), 'csrf', "logout CSRF $what, @{$headers}: refused");
    }
    $r = $client->clone()->get('/logout', navigation(site => 'cross-site'));
    is(outcome($r, 1) . ($r->header('Clear-Site-Data') // ''), '405', "logout CSRF $what by a link: 405");
    is($client->clone()->request($_ => '/logout', 'Sec-Fetch-Site' => 'cross-site')->status(), 403, "logout CSRF $what by $_: 403") for qw(PUT DELETE);
}
is($alice->get('/in/page')->status(), 200, 'logout CSRF: the victim stays logged in');
is($alice->clone()->post('/session', '', 'Sec-Fetch-Site' => 'cross-site')->status(), 403, 'a session is not kept alive from elsewhere');
is($alice->clone()->get('/session', 'Sec-Fetch-Site' => 'cross-site')->status(), 200, 'asking for it is no act');
is($nobody->post('/logout', '', 'Sec-Fetch-Site' => 'same-origin')->status(), 204, 'logging out without a session');
is(logged_in()->post('/logout', '')->status(), 204, 'logging out by a program');
my $out = logged_in();
is($out->clone()->post('/free-logout', '', 'Sec-Fetch-Site' => 'cross-site')->status(), 204, 'session_csrf off: logged out from elsewhere');
is($out->get('/in/page')->status(), 401, 'session_csrf off: really');

# --- no session, nothing to forge ---

$seen = $up->count();
my $dead = client()->set_cookie(sid => 'A' x 64);
is(outcome($nobody->post('/in/page', 'a', 'Sec-Fetch-Site' => 'cross-site')), '401', 'from elsewhere without a session: 401');
is(outcome($dead->clone()->post('/in/page', 'a', 'Sec-Fetch-Site' => 'cross-site')), '401', 'from elsewhere with a dead one: 401');
is(outcome($dead->clone()->post('/optional/page', 'a', 'Sec-Fetch-Site' => 'cross-site')), 'pass', 'where it is optional: anonymous');
is($up->last()->header('X-User'), undef, 'which the upstream is told');

done_testing();
