#!/usr/bin/perl

# Several cookies of the session's name in one request: the only good one counts, two good ones are
# nobody.
# Attacks: cookie tossing from a sibling host or another path (a cookie planted beside the user's own,
# before or behind it, in the same header or another, a twin in other letters); logging the victim in
# as somebody else by it; locking everybody out by a change of the cookie's attributes; a logout or a
# login that leaves one of two sessions alive.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http http_ssl http_v2 socket_ssl proxy session_guard))->has_daemon('curl');

my $up = $t->recorder(8081, sub {
    my ($request) = @_;
    my ($say) = $request->uri() =~ m/[?](.*)/x;
    $say = $say ? join '; ', split m/&/x, $say : '';
    return [ 200, { ($say ? ('X-Accel-Session' => $say) : ()) }, "said\n" ];
});

$t->write_private_file("$_.keys", '70' x 32 . "\n") for qw(app host);
$t->ssl_cert()->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app {
        zone 1m; key_file app.keys;
        cookie sid secure=off formerly=/app formerly=/@example.com formerly=/old/@www.example.com;
        identity X-User=$session_user;
    }
    session_realm host { zone 1m; key_file host.keys; identity X-User=$session_user; }
    upstream app { server 127.0.0.1:8081; }

    server {
        listen 127.0.0.1:8080;
        listen 127.0.0.1:8443 ssl http2;
        ssl_certificate     localhost.crt;
        ssl_certificate_key localhost.key;
        session app;

        location /           { proxy_pass http://app; }
        location = /page     { session_login /form; proxy_pass http://app; }
        location = /optional { session app optional; add_header X-Status $session_status; proxy_pass http://app; }
        location = /form     { session off; proxy_pass http://app; }
        location = /login    { session app optional; session_control create; proxy_pass http://app; }
        location = /say      { session app optional; session_control on; proxy_pass http://app; }
        location = /logout   { session_logout; }
        location = /host/login  { session host optional; session_control create; proxy_pass http://app; }
        location = /host/logout { session host; session_logout; }
        location /host/         { session host; proxy_pass http://app; }
    }
}
EOC

my $r;

sub login {
    my ($user, $limits) = @_;
    my $client = client();
    $client->post("/login?create&user=\"$user\"" . ($limits ? "&$limits" : ''), '', fetched());
    return $client->cookie('sid') // die "no session\n";
}

# One more token of that form: with one character changed.
sub changed {
    my ($token, $at) = @_;
    substr $token, $at, 1, substr($token, $at, 1) eq 'A' ? 'B' : 'A';
    $t->secret($token);
    return $token;
}

# The same cookies sent in different ways.
my $plain = client(no_cookies => 1);
my $tls = client(no_cookies => 1, ssl => 1);
my %way = (
    'one header'             => sub { my ($uri, $cookies, @rest) = @_; $plain->get($uri, Cookie => join('; ', @{$cookies}), @rest) },
    'no space between'       => sub { my ($uri, $cookies, @rest) = @_; $plain->get($uri, Cookie => join(';', @{$cookies}), @rest) },
    'a header each'          => sub { my ($uri, $cookies, @rest) = @_; $plain->get($uri, Cookie => $cookies, @rest) },
    'others between'         => sub { my ($uri, $cookies, @rest) = @_; $plain->get($uri, Cookie => join('; a=b; ', 'c', @{$cookies}, 'd='), @rest) },
    'TLS, one header'        => sub { my ($uri, $cookies, @rest) = @_; $tls->get($uri, Cookie => join('; ', @{$cookies}), @rest) },
    'HTTP/2, one header'     => sub { my ($uri, $cookies, @rest) = @_; $tls->h2(GET => $uri, Cookie => join('; ', @{$cookies}), @rest) },
    'HTTP/2, a header each'  => sub { my ($uri, $cookies, @rest) = @_; $tls->h2(GET => $uri, Cookie => $cookies, @rest) },
);

# Who the upstream is told these are, or why nobody.
sub who {
    my ($tokens, $way, $uri) = @_;
    my $response = $way{ $way // 'one header' }->($uri // '/app', [ map { m/=/x ? $_ : "sid=$_" } @{$tokens} ], fetched());
    my $cookie = $response->header('Set-Cookie') // '';
    return reason($response) . $cookie if $response->status() != 200;
    return ($up->last()->header('X-User') // 'nobody') . $cookie;
}

# --- a good one and one that is not ---

my $alice = login('alice');
my $bob = login('bob');
my $ended = login('carol');
$plain->post('/logout', '', fetched(), Cookie => "sid=$ended");
my $expired = login('dave', 'absolute=10');
my $idle = login('erin', 'idle=10');
$t->advance(11);
my $renewing = client()->set_cookie(sid => login('frank'));
my $replaced = $renewing->cookie('sid');
$renewing->post('/say?renew', '', fetched());
my $renewed = $renewing->cookie('sid');
$t->advance(11);

my %bad = (
    'forged tag'      => changed($alice, 50),
    'forged secret'   => changed($alice, 30),
    'forged handle'   => changed($alice, 10),
    'unknown key'     => changed($alice, 0),
    'random'          => 'A' x 64,
    'expired'         => $expired,
    'idle'            => $idle,
    'ended'           => $ended,
    'replaced'        => $replaced,
    'empty'           => '',
    'short'           => substr($bob, 0, 63),
    'long'            => "${bob}A",
    'quoted'          => qq("$bob"),
    'percent-encoded' => '%41' . substr($bob, 1),
    'garbage'         => 'x' x 3000,
);
for my $kind (sort keys %bad) {
    my @wrong;
    for my $way (sort keys %way) {
        for my $order ([ "sid=$bad{$kind}", $alice ], [ $alice, "sid=$bad{$kind}" ]) {
            my $who = who($order, $way);
            push @wrong, "$way: $who" if $who ne 'alice';
        }
    }
    is(join("\n", @wrong), '', "valid and $kind, in both orders and every way: the valid one");
    isnt(who([ "sid=$bad{$kind}" ]), 'alice', "$kind alone: nobody");
}

# --- none good: the one that says most ---

my @none = (
    [ 'expired_absolute', 'expired', 'forged tag' ],
    [ 'expired_idle',     'idle',    'ended' ],
    [ 'ended',            'ended',   'random' ],
    [ 'regenerated',      'replaced', 'forged secret' ],
    [ 'forged',           'forged tag', 'empty' ],
    [ 'malformed',        'short',   'garbage' ],
);
for my $row (@none) {
    my ($reason, @kind) = @{$row};
    is(who([ map { "sid=$bad{$_}" } @kind ]), $reason, "@kind: refused as $reason");
    is(who([ map { "sid=$bad{$_}" } reverse @kind ]), $reason, "@kind, the other way round: the same");
}

# --- two good ones ---

for my $way (sort keys %way) {
    is(who([ $alice, $alice ], $way), 'alice', "twice the same, $way: fine");
    is(who([ $alice, $bob ], $way), 'ambiguous', "two sessions, $way: refused, and no cookie touched");
    is(who([ $bob, $alice ], $way), 'ambiguous', "two sessions the other way round, $way: refused");
}
is(who([ $alice, $alice, $alice, $alice ]), 'alice', 'four times the same: fine');
is(who([ $alice, "sid=$bad{ended}", $bob ]), 'ambiguous', 'two sessions and an ended one between: refused');
is(who([ $alice, $bob, $alice ]), 'ambiguous', 'two sessions, one of them twice: refused');
is($plain->get('/app', fetched(), Cookie => "sid=$alice; sid=$bob")->status(), 401, 'with 401');
$up->clear();
is($plain->post('/app', 'x', navigation(), Cookie => "sid=$alice; sid=$bob")->status(), 401, 'a form too');
is($plain->get('/session-less', fetched(), Cookie => "sid=$alice; sid=$bob")->status(), 401, 'whatever the path');
is($up->count(), 0, 'the upstream has not been asked');
$r = $plain->get('/optional', fetched(), Cookie => "sid=$alice; sid=$bob");
is($r->status() . $r->header('X-Status'), '200ambiguous', 'two sessions where one is optional: nobody');
is($up->last()->header('X-User'), undef, 'nor for the upstream');

# The user must not stay locked out: all variants of the cookie are expired, once a page is asked for.
my @variant = map { "sid=; $_; HttpOnly; SameSite=Lax; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT" }
    ('Path=/', 'Path=/app', 'Path=/; Domain=example.com', 'Path=/old/; Domain=www.example.com');
for my $cookie ([ "sid=$alice; sid=$bob" ], [ "sid=$bob", "sid=$alice" ]) {
    $r = $plain->get('/app', navigation(), Cookie => $cookie);
    is(join("\n", map { $_->{raw} } $r->set_cookies()), join("\n", @variant), 'two sessions, a page: all variants of the cookie expire');
    is($r->status() . ' ' . $r->header('Session-Status'), '401 ambiguous', 'two sessions, a page: and it is refused');
}
$r = $plain->get('/page', navigation(), Cookie => "sid=$alice; sid=$bob");
is($r->status() . ' ' . $r->header('Location'), '303 /form?return=/page&reason=ambiguous', 'two sessions, a page with a login: sent there');
is(scalar($r->set_cookies()), 4, 'two sessions, a page with a login: with all expiries');
$r = $plain->get('/app', Accept => 'text/html', Cookie => "sid=$alice; sid=$bob");
is(scalar($r->set_cookies()), 4, 'two sessions, an old browser: the same');
$r = $tls->h2(GET => '/app', navigation(), Cookie => [ "sid=$alice", "sid=$bob" ]);
is(scalar($r->set_cookies()), 4, 'two sessions, a page over HTTP/2: the same');
for my $other ([ fetched() ], [ navigation(dest => 'iframe') ], [ navigation(mode => 'no-cors', dest => 'image') ], [ Accept => '*/*' ], []) {
    $r = $plain->get('/app', @{$other}, Cookie => "sid=$alice; sid=$bob");
    is($r->status() . scalar($r->set_cookies()), '4010', 'two sessions, no page: no cookie is touched') or diag("@{$other}");
}
is(who([$alice]) . who([$bob]), 'alicebob', 'neither session has ended by that');
$r = $plain->get('/app', navigation(), Cookie => "sid=$bad{expired}; sid=$bad{idle}");
is(scalar($r->set_cookies()), 1, 'two that have expired, a page: the present variant expires');
$r = $plain->get('/app', navigation(), Cookie => "sid=$bad{expired}; sid=$alice");
is($r->status() . scalar($r->set_cookies()), '2000', 'an expired one beside a good one, a page: no cookie is touched');

# --- an old token beside its successor ---

my $both = client()->set_cookie(sid => login('gina'));
my $old = $both->cookie('sid');
$both->post('/say?update&roles="editor"', '', fetched());
my $new = $both->cookie('sid');
is(who([ $old, $new ]), 'gina', 'a replaced token beside the new one: fine');
is(who([ $new, $old ]), 'gina', 'the other way round');
is(who([ $old, $alice ]), 'ambiguous', 'a replaced token beside somebody else\'s: refused');
$r = $plain->post('/say?update&data.x="y"', '', fetched(), Cookie => "sid=$old; sid=$new");
is(scalar($r->set_cookies()), 0, 'a command with both: no cookie');
$t->advance(11);
is(who([ $old, $new ]), 'gina', 'eleven seconds later: the new one');

# --- many ---

my @forged = map { changed($alice, 44 + $_) } 0 .. 7;
is(who([ @forged[ 0 .. 2 ], $alice ]), 'alice', 'the fourth is good: it counts');
is(who([ $alice, @forged ]), 'alice', 'the first of nine is good: it counts');
is(who([ @forged[ 0 .. 3 ], $alice ]), 'forged', 'the fifth is good: too late');
is(who([ map { "sid=$_" } 'a' .. 'z' ]), 'malformed', 'twenty-six of them: refused');
is(who([ (map { "sid$_=$forged[0]" } 1 .. 9), $alice ]), 'alice', 'longer names are others');
$up->clear();
$plain->get('/form', fetched(), Cookie => [ join('; ', map { "sid=$_" } @forged, $alice), "sid=$bob; a=b" ]);
is($up->last()->header('Cookie'), 'a=b', 'none of ten reaches an upstream');

# --- logging out, logging in ---

my @two = (login('alice'), login('bob'));
$r = $plain->post('/logout', '', fetched(), Cookie => join '; ', map { "sid=$_" } @two);
is($r->status(), 204, 'logging out with two sessions');
is(join(' ', map { who([$_]) } @two), 'ended ended', 'logging out with two sessions: ends both');
is(join("\n", map { $_->{raw} } $r->set_cookies()), join("\n", @variant), 'logging out: all variants of the cookie expire');
@two = (login('alice'), login('bob'));
$plain->post('/logout', '', fetched(), Cookie => [ map { "sid=$_" } $forged[0], @two, 'x' ]);
is(join(' ', map { who([$_]) } @two), 'ended ended', 'logging out with two sessions and rubbish: ends both');
@two = (login('alice'), login('bob'));
$plain->post('/say?destroy', '', fetched(), Cookie => join '; ', map { "sid=$_" } @two);
is(join(' ', map { who([$_]) } @two), 'ended ended', 'destroy with two sessions: ends both');
for my $verb ('renew', 'update&data.x="y"', 'update&roles="root"') {
    @two = (login('alice'), login('bob'));
    $r = $plain->post("/say?$verb", '', fetched(), Cookie => join '; ', map { "sid=$_" } @two);
    is($r->status() . scalar($r->set_cookies()) . join(' ', map { who([$_]) } @two), '2000alice bob', "$verb with two sessions: nothing happens");
}
@two = (login('alice'), login('bob'));
$r = $plain->post('/login?create&user="carol"', '', fetched(), Cookie => [ map { "sid=$_" } @two ]);
my @set = $r->set_cookies();
is(scalar @set, 1, 'logging in with two sessions: one cookie');
is(who([ $set[0]{value} ]), 'carol', 'logging in with two sessions: of the new one');
is(join(' ', map { who([$_]) } @two), 'regenerated regenerated', 'logging in with two sessions: both have ended');
is(scalar(grep { $_ eq $set[0]{value} } @two), 0, 'logging in with two sessions: neither token is adopted');

# --- twins in other letters ---

my $twin = 'T' x 64;
for my $name (qw(SID Sid sId sid- xsid __Host-sid)) {
    is(who([ "$name=$twin" ]), 'none', "a cookie $name is another");
    is($up->count() && $plain->get('/form', Cookie => "$name=$twin") && $up->last()->header('Cookie'), "$name=$twin", "a cookie $name is left alone");
    is(who([ "$name=$twin", $alice ]), 'alice', "a cookie $name before the session's");
    is(who([ $alice, "$name=$twin" ]), 'alice', "a cookie $name behind the session's");
}
$tls->{no_cookies} = 0;
$tls->post('/host/login?create&user="alice"', '', fetched());
my $host = $tls->cookie('__Host-id');
ok($host, 'a session with __Host-');
for my $name (qw(__hOsT-id __HOST-ID __host-id __Host-ID __Secure-id id)) {
    for my $method (qw(get h2)) {
        my @call = $method eq 'h2' ? ('GET') : ();
        is(reason($tls->$method(@call, '/host/x', Cookie => "$name=$twin")), 'none', "$method: $name is another");
        is($tls->$method(@call, '/host/x', Cookie => "$name=$twin; __Host-id=$host")->status(), 200, "$method: $name is no hindrance");
        is($tls->$method(@call, '/host/x', Cookie => [ "__Host-id=$host", "$name=$twin" ])->status(), 200, "$method: nor behind");
    }
}
is($up->last()->header('Cookie'), "id=$twin", 'the twin goes on to the upstream, the session\'s cookie does not');
$r = $tls->get('/host/x', navigation(), Cookie => "__Host-id=" . changed($host, 50) . "; __hOsT-id=$twin");
is(join('', map { $_->{raw} } $r->set_cookies()), '__Host-id=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT', 'an expiry of the own name only');

done_testing();
