#!/usr/bin/perl

# What goes out with an answer, when something else than the usual way leads to it: a condition of
# `satisfy any`, a filter that gives the header up, an answer that is late.
# Attacks: login CSRF and logout CSRF by way of `satisfy any`; token in a log; fixation by an
# upstream's own cookie; a late answer that deletes the cookie of a newer login.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http proxy map rewrite session_guard));

# Says what c= asks for, redirects to to=, sets the cookie in k= (hexadecimal), waits for w=.
my $app = $t->recorder(8081, sub {
    my ($request) = @_;
    my %argument = $request->uri() =~ m/[?&](\w+)=([^&]*)/gx;
    my $say = $argument{c} // '';
    $say = 'create; user="alice"' if $say eq 'create';
    my @header = ('Content-Type' => 'text/html');
    push @header, 'X-Accel-Session'  => $say                    if $say ne '';
    push @header, 'X-Accel-Redirect' => $argument{to}           if $argument{to};
    push @header, 'Set-Cookie'       => pack('H*', $argument{k}) if $argument{k};
    my $copy = $request->header('X-Copy') // '-';
    return [ $argument{s} || 200, \@header, "copy=$copy\n", ($argument{w} ? (wait_file => $argument{w}) : ()) ];
});
$t->write_file('static/file.txt', "0123456789\n");
$t->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app { zone 1m; cookie sid secure=off; identity X-User=$session_user; }
    map $sent_http_set_cookie $has_cookie { "" no; default yes; }
    log_format cookie '$uri $has_cookie "$sent_http_set_cookie"';
    access_log %%TESTDIR%%/cookie.log cookie;
    upstream app { server 127.0.0.1:8081; }

    server {
        listen 127.0.0.1:8080;
        location /            { session app optional; session_control on; proxy_pass http://app; }
        location /seen        { session app optional; session_control on; proxy_pass http://app; add_header X-Has $has_cookie; add_header X-Copy-Of $sent_http_set_cookie; }
        location /in/         { session app; proxy_pass http://app; }
        location /free/       { proxy_pass http://app; }
        location /static/     { }
        location /free-set    { set $who $session_user; proxy_set_header X-Copy "$who/$session_user"; proxy_pass http://app; }

        location /any/        { satisfy any; allow all; session app optional; session_control on; proxy_pass http://app; }
        location /any-in/     { satisfy any; allow all; session app; session_control create; proxy_pass http://app; }
        location = /any-logout { satisfy any; allow all; session_logout; session app; }

        location /own-page/   { session app; error_page 401 = @page; proxy_pass http://app; }
        location @page        { rewrite ^ /free/page?w=page break; proxy_pass http://app; }
    }
}
EOC

my $r;

sub logged_in {
    my $client = client();
    $client->post('/login?c=create', '', fetched());
    die "no session\n" unless $client->cookie('sid');
    return $client;
}

# The answer's cookies: "none", "token", "expiry".
sub cookies {
    my ($response) = @_;
    my @kinds = map { $_->{value} eq '' ? 'expiry' : 'token' } $response->set_cookies();
    return "@kinds" || 'none';
}

# --- satisfy any: another condition lets a request in, but not another site in or out ---

my @cross = (navigation(site => 'cross-site'), Origin => 'https://evil.example');
my $alice = logged_in();
is(cookies(client()->post('/any/login?c=create', '', fetched())), 'token', 'satisfy any: a login');
is(cookies(client()->post('/any-in/login?c=create', '', fetched())), 'token', 'satisfy any: where a session is demanded');
for my $uri (qw(/any/x?c=create /any-in/x?c=create)) {
    $r = client()->post($uri, '', @cross);
    is($r->status() . cookies($r), '200none', "$uri from another site: mints nothing");
    $r = $alice->clone()->post($uri, '', @cross);
    is($r->status() . cookies($r), '200none', "$uri from another site: nor with a session");
}
is(cookies($alice->clone()->post('/any/x?c=destroy', '', @cross)), 'none', 'destroy from another site');
$r = $alice->clone()->post('/any-logout', '', @cross);
is($r->status() . cookies($r), '403none', 'logout from another site');
is($alice->get('/in/x')->status(), 200, 'the session is still there');
like($t->read_file('error.log'), qr/\[warn\].*removed:[ ]the[ ]request[ ]came[ ]from[ ]another[ ]site/x, 'the log says so');
is($alice->clone()->post('/any-logout', '', fetched())->status(), 204, 'logout from the own site');
is(reason($alice->get('/in/x')), 'ended', 'ends it');

$r = client()->get('/any-in/x?s=401');
is($r->status() . ($r->header('Session-Status') // '') . ($r->header('Cache-Control') // ''), '401', "satisfy any: the upstream's own 401 is not ours");

# --- a header that is given up for another answer: the cookie is not lost ---

my $modified = client()->get('/static/file.txt')->header('Last-Modified');
my %odd = (416 => [ Range => 'bytes=900-' ], 412 => [ 'If-Match' => '"x"' ], 304 => [ 'If-Modified-Since' => $modified ]);
for my $status (sort keys %odd) {
    for my $case ([ create => 'token' ], [ renew => 'token' ], [ destroy => 'expiry' ]) {
        my ($say, $kind) = @{$case};
        my $c = logged_in();
        $r = $c->get("/x?c=$say&to=/static/file.txt", @{ $odd{$status} });
        is($r->status(), $status, "$say, $status: the answer");
        is(cookies($r), $kind, "$say, $status: has its cookie");
        is($r->header('Cache-Control'), 'no-store', "$say, $status: is not to be kept");
        is($c->get('/in/x')->status(), 200, "$say, $status: the session goes on") if $kind eq 'token';
    }
}

# --- $sent_http_set_cookie, when something has looked at it ---

$alice = client();
$r = $alice->post('/seen?c=create', '', fetched());
is($r->header('X-Has') . cookies($r), 'yestoken', 'a map and add_header see the cookie');
$t->wait_for(sub { $t->read_file('cookie.log') =~ m{^/seen}xm });
like($t->read_file('cookie.log'), qr{^/seen[ ]yes[ ]"-"$}xm, 'the log does not');

# --- an upstream's own cookie of our name, as browsers read it ---

for my $cookie ('sid=x', 'sid =x', "sid\t=x; Path=/", '=sid=x', '= sid =x', ' sid=x') {
    is(client()->get('/free/x?k=' . unpack 'H*', $cookie)->header('Set-Cookie'), undef, "an upstream's '$cookie' is removed");
}
for my $cookie ('sid2=x', 'xsid=x', 'SID=x', 'x=sid=x', 'sid') {
    is(client()->get('/free/x?k=' . unpack 'H*', $cookie)->header('Set-Cookie'), $cookie, "'$cookie' stays");
}

# --- late answers and newer logins ---

for my $case ([ 'destroy', '/x?c=destroy&w=late1', 0 ], [ 'a refused page', '/own-page/x', 16 * 60 ]) {
    my ($what, $uri, $wait) = @{$case};
    $alice = logged_in();
    my $old = $alice->clone();
    $t->advance($wait) if $wait;
    my $count = $app->count();
    my $pending = $old->start(GET => $uri, navigation());
    $t->wait_for(sub { $app->count() > $count });
    $alice->post('/login?c=create', '', fetched());
    $t->write_file($wait ? 'page' : 'late1', '');
    is(cookies($old->finish($pending)), 'none', "$what, late for a newer login: does not delete its cookie");
    is($alice->get('/in/x')->status(), 200, "$what: the newer login is in");
}
is(cookies(logged_in()->get('/x?c=destroy')), 'expiry', 'destroy in time');
$alice = logged_in();
$t->advance(16 * 60);
is(cookies($alice->get('/own-page/x', navigation())), 'expiry', 'a refused page in time');
$alice = logged_in();
my $old = $alice->clone();
$alice->get('/x?c=renew');
$t->advance(11);
is(cookies($old->get('/x?c=destroy')), 'none', 'destroy by a token that was replaced');
is($alice->get('/in/x')->status(), 200, 'ends nothing');

# --- variables in the rewrite phase after a redirect ---

$alice = logged_in();
is($alice->get('/in/x?to=/free-set')->body(), "copy=/\n", 'the rewrite phase after a redirect knows nobody');
is($alice->get('/x?c=destroy&to=/free-set')->body(), "copy=/\n", 'nor after a logout');

# --- Referer, where there is neither Sec-Fetch-Site nor Origin ---

$alice = logged_in();
my %referer = (
    'http://localhost/'      => 200, 'http://localhost'  => 200, 'http://localhost:80/a?b' => 200, 'http://localhost?a' => 200,
    'https://evil.example/'  => 403, 'http://localhost.evil.example/' => 403, 'http://localhost@evil.example/' => 403,
    'https://localhost/'     => 403, 'about:blank' => 403, '' => 403, '/path' => 403, 'http://evil.example/http://localhost/' => 403,
);
for my $url (sort keys %referer) {
    is($alice->post('/in/x', '', Referer => $url)->status(), $referer{$url}, "Referer '$url'");
}
is($alice->post('/in/x', '', Referer => [ 'http://localhost/', 'http://evil.example/' ])->status(), 403, 'two of them');
is($alice->post('/in/x', '', Referer => 'http://evil.example/', Origin => 'http://localhost')->status(), 200, 'Origin goes first');
is($alice->get('/in/x', Referer => 'http://evil.example/')->status(), 200, 'a safe method');

done_testing();
