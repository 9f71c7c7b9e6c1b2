#!/usr/bin/perl

# What a refused request is answered with: a way to the login for pages, a problem for programs, or
# the operator's own page.
# Attacks: open redirect through return= (protocol-relative, backslash, encoded, absolute-form, over-
# long); header injection through return=; logout forced by a late answer (a refused script's request
# takes no cookie away); refusals kept in a cache; cookies in the clear; two good cookies at once.

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
    return [ 200, { 'X-Accel-Session' => 'create; user="alice"' }, "in\n" ] if $request->path() =~ m{/login\z}x;
    return [ 200, { 'X-Accel-Session' => 'create; user="mallory"' }, "sorry\n" ] if $request->path() eq '/err/page';
    return [ 402, { 'Cache-Control' => 'max-age=60' }, "pay\n" ] if $request->path() eq '/err/pay';
    return [ 200, {}, "page\n" ];
});

$t->write_file($_, "the operator's $_\n") for qw(401.html 403.html 303.html);
$t->write_private_file('app.keys', 'a7' x 32 . "\n");
$t->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app  { zone 1m; key_file app.keys; cookie id secure=off formerly=/app formerly=/@example.com; }
    session_realm safe { zone 1m; cookie __Host-safe; }
    log_format guard '$request_uri $status $session_status $session_reason';
    access_log guard.log guard;
    upstream app { server 127.0.0.1:8081; }
    large_client_header_buffers 4 16k;

    server {
        listen 127.0.0.1:8080;
        session app;
        session_login /form;

        location /            { proxy_pass http://app; }
        location = /form      { session off; proxy_pass http://app; }
        location /query       { session_login /form?lang=en; proxy_pass http://app; }
        location /absolute    { session_login https://login.example/in; proxy_pass http://app; }
        location = /login     { session app optional; session_control create; proxy_pass http://app; }
        location = /logout    { session_logout; }
        location = /optional  { session app optional; proxy_pass http://app; }
        location = /safe      { session safe; error_page 404 /401.html; proxy_pass http://app; }
        location = /safe403   { session safe; error_page 403 /403.html; proxy_pass http://app; }
        location = /return    { session off; return 200 "<$session_return>"; }

        location = /e/303     { error_page 303 /303.html; proxy_pass http://app; }
        location = /e/other   { error_page 403 404 503 /403.html; proxy_pass http://app; }
        location = /e/csrf    { error_page 403 /403.html; proxy_pass http://app; }
        location ~ \.html$    { session off; internal; }
    }

    server {
        listen 127.0.0.1:8082;
        session app;

        location /             { proxy_pass http://app; }
        location = /e/static   { error_page 401 /401.html; proxy_pass http://app; }
        location = /e/ok       { error_page 401 =200 /401.html; proxy_pass http://app; }
        location = /e/uri      { error_page 401 = /err/page; proxy_pass http://app; }
        location = /e/pay      { error_page 401 = /err/pay; proxy_pass http://app; }
        location = /e/named    { error_page 401 @named; proxy_pass http://app; }
        location = /e/away     { error_page 401 https://login.example/; proxy_pass http://app; }
        location = /e/wants    { error_page 401 /wants.html; proxy_pass http://app; }
        location = /e/maybe    { error_page 401 /maybe.html; proxy_pass http://app; }
        location = /401.html   { session off; internal; }
        location = /wants.html { internal; }
        location = /maybe.html { session app optional; internal; try_files /401.html =404; }
        location @named        { session off; rewrite ^ /named break; proxy_pass http://app; }
        location /err/         { session off; proxy_pass http://app; }
    }
}
EOC

my $r;
my $nobody = client();
my $pages = client(port => 8082);

sub login {
    my $client = client();
    $client->post('/login', '', fetched());
    return $client->cookie('id');
}

sub with { return (Cookie => join '; ', map { "id=$_" } @_) }

# --- who is a browser that wants a page ---

my @case = (
    [ 'Sec-Fetch-Mode: navigate',                   303, navigation() ],
    [ 'the same without Accept',                    303, 'Sec-Fetch-Mode' => 'navigate' ],
    [ 'a frame',                                    303, navigation(dest => 'iframe') ],
    [ 'fetch()',                                    401, fetched() ],
    [ 'an image',                                   401, navigation(mode => 'no-cors', dest => 'image') ],
    [ 'an XHR that accepts HTML',                   401, navigation(mode => 'same-origin', dest => 'empty') ],
    [ 'a WebSocket',                                401, navigation(mode => 'websocket', dest => 'websocket') ],
    [ 'Accept: text/html of an old browser',        303, Accept => 'text/html,application/xhtml+xml,*/*;q=0.8' ],
    [ 'Accept: */*',                                401, Accept => '*/*' ],
    [ 'Accept: application/json',                   401, Accept => 'application/json' ],
    [ 'neither header',                             401 ],
    [ 'Sec-Fetch-Mode twice',                       401, 'Sec-Fetch-Mode' => [ 'navigate', 'cors' ], Accept => 'text/html' ],
    [ 'an empty Sec-Fetch-Mode',                    401, 'Sec-Fetch-Mode' => '', Accept => 'text/html' ],
);
for my $case (@case) {
    my ($what, $status, @headers) = @{$case};
    $r = $nobody->get('/page', @headers);
    is($r->status(), $status, "asked by $what");
    is($r->header('Session-Status') . ' ' . $r->header('Cache-Control'), 'none no-store', "asked by $what: the status, not to be kept");
}
is($nobody->request($_ => '/page', navigation())->status(), 401, "$_: no way back exists") for qw(POST PUT DELETE PATCH);
is($nobody->request(OPTIONS => '/page', navigation())->status(), 401, 'OPTIONS: refused as well');

$r = $nobody->get('/page', fetched());
is($r->header('Content-Type'), 'application/problem+json', 'a problem');
is($r->body(), qq({"type":"about:blank","title":"Not logged in","status":401,"reason":"none"}\n), 'of the right kind');
is($r->header('Location'), undef, 'without a way to go');
$r = $nobody->get('/page?a=b&c=/d', navigation());
is($r->header('Location'), '/form?return=/page%3Fa%3Db%26c%3D/d&reason=none', 'session_login: return= and reason=');
$r = $nobody->head('/page', navigation());
is($r->status() . ' ' . $r->header('Location') . $r->body(), '303 /form?return=/&reason=none', 'HEAD: a way, no body');
$r = $nobody->head('/page');
is($r->status() . $r->body(), '401', 'HEAD of a program: no body');
is($r->header('Content-Type'), 'application/problem+json', 'but the same headers');
is($nobody->get('/query', navigation())->header('Location'), '/form?lang=en&return=/query&reason=none', 'session_login with a query');
is($nobody->get('/absolute', navigation())->header('Location'), 'https://login.example/in?return=/absolute&reason=none', 'session_login elsewhere');

$r = $pages->get('/page', navigation());
is($r->status() . ' ' . $r->header('Content-Type'), '401 text/html; charset=utf-8', 'without session_login a page');
like($r->body(), qr{<title>Not[ ]logged[ ]in</title>}x, 'which says what is the matter');
is($r->header('Session-Status') . ' ' . $r->header('Cache-Control'), 'none no-store', 'with the status, not to be kept');
is($pages->head('/page', navigation())->body(), '', 'HEAD: without it');
is($up->count(), 0, 'none of these has reached the upstream');

# --- the way back ---

my %back = (
    '/'                                  => '/',
    '/a/b?c=d%20e'                       => '/a/b%3Fc%3Dd%2520e',
    '/a?to=//evil.example/'              => '/a%3Fto%3D//evil.example/',
    '//evil.example/'                    => '/',
    '///evil.example/'                   => '/',
    '/\\evil.example/'                   => '/',
    '/a/..//evil.example/'               => '/',
    '/.//evil.example/'                  => '/',
    '/%2f%2fevil.example/'               => '/',
    '/%2Fevil.example/'                  => '/',
    '/%5cevil.example/'                  => '/',
    '/%252f%252fevil.example/'           => '/',
    '/%25252f%25252fevil.example/'       => '/',
    '/a%0d%0aSet-Cookie:%20id=x'         => '/',
    '/a?b=%0d%0aSet-Cookie:%20id=x'      => '/',
    '/a%250d%250aSet-Cookie:x'           => '/',
    '/a%09b'                             => '/',
    '/a%7f'                              => '/',
    '/%c0%af%c0%afevil.example/'         => '/',
    '/%e2%80%a8'                         => '/',
    'http://evil.example/x'              => '/x',
    'http://evil.example//evil.example/' => '/',
    'http://evil.example'                => '/',
    '/' . 'x' x 2047                     => '/' . 'x' x 2047,
    '/' . 'x' x 2048                     => '/',
    '/' . '%2f' x 3000                   => '/',
);
for my $uri (sort keys %back) {
    my $shown = length $uri > 60 ? substr($uri, 0, 20) . '... of ' . length $uri : $uri;
    $r = $nobody->get($uri, navigation());
    is($r->header('Location'), "/form?return=$back{$uri}&reason=none", "the way back from $shown");
    is($r->header('Set-Cookie'), undef, "no header of a client's making: $shown");
}

my %return = (
    'return=/a'                           => '/a',
    'return=/a%3Fb%3Dc'                   => '/a?b=c',
    'x=y&return=/a'                       => '/a',
    ''                                    => '/',
    'return='                             => '/',
    'return'                              => '/',
    'xreturn=/a'                          => '/',
    'return=a'                            => '/',
    'return=//evil.example'               => '/',
    'return=/%2fevil.example'             => '/',
    'return=%2f%2fevil.example'           => '/',
    'return=%2f%252fevil.example'         => '/',
    'return=/\\evil.example'              => '/',
    'return=/%5cevil.example'             => '/',
    'return=\\\\evil.example'             => '/',
    'return=https://evil.example'         => '/',
    'return=https:evil.example'           => '/',
    'return=javascript:alert(1)'          => '/',
    'return=%20/a'                        => '/',
    'return=/%09/evil.example'            => '/',
    'return=%09//evil.example'            => '/',
    'return=/a%0d%0aX:%20y'               => '/',
    'return=/a%00'                        => '/',
    'return=/%00/evil.example'            => '/',
    'return=/a%'                          => '/',
    'return=/a%zz'                        => '/',
    'return=/..//evil.example'            => '/',
    'return=/.%2f/evil.example'           => '/',
    'return=@evil.example'                => '/',
    'return=/@evil.example'               => '/@evil.example',
    'return=/a%23b'                       => '/a#b',
    'return=/ok&return=//evil.example'    => '/ok',
    'return=//evil.example&return=/ok'    => '/',
    'RETURN=//evil.example'               => '/',
    'return=/' . 'y' x 2047               => '/' . 'y' x 2047,
    'return=/' . 'y' x 2048               => '/',
);
for my $query (sort keys %return) {
    my $shown = length $query > 60 ? substr($query, 0, 20) . '... of ' . length $query : $query;
    is($nobody->get("/return?$query")->body(), "<$return{$query}>", "\$session_return of ?$shown");
}

# --- each reason; which of them take the cookie away ---

my $gone = login();    # genuine, but the zone will be new
$t->secret($gone);
$t->stop();
$t->run();

my $good = login();
my $other = login();
my $ended = login();
client()->post('/logout', '', with($ended), fetched());
my $before = client()->set_cookie(id => login());
my $replaced = $before->cookie('id');
$before->post('/login', '', fetched());

sub changed {
    my ($token, $at) = @_;
    substr $token, $at, 1, substr($token, $at, 1) eq 'A' ? 'B' : 'A';
    $t->secret($token);
    return $token;
}
my $forged = changed($good, 50);
my $foreign = changed($good, 0);

sub expiries {
    my ($response) = @_;
    return scalar grep { ($_->{attributes}{'max-age'} // '') eq '0' } $response->set_cookies();
}

# reason, its title, cookies taken away on a document navigation, the request's cookies
sub reasons {
    return (
        [ none        => 'Not logged in',          0 ],
        [ malformed   => 'Not logged in',          1, 'AAAA' ],
        [ forged      => 'Not logged in',          1, $forged ],
        [ unknown_key => 'Session not recognised', 0, $foreign ],
        [ absent      => 'Session not found',      1, $gone ],
        [ ended       => 'Session ended',          1, $ended ],
        [ regenerated => 'Session replaced',       0, $replaced ],
        [ ambiguous   => 'Ambiguous session',      3, $good, $other ],
    );
}

sub check_reason {
    my ($reason, $title, $taken, @tokens) = @_;
    my @cookies = @tokens ? with(@tokens) : ();

    my $refused = $nobody->get("/why/$reason", @cookies, fetched());
    is($refused->body(), qq({"type":"about:blank","title":"$title","status":401,"reason":"$reason"}\n), "$reason: a problem");
    is($refused->header('Session-Status') . ' ' . $refused->header('Cache-Control'), "$reason no-store", "$reason: its headers");
    is(expiries($refused), 0, "$reason: a script's answer takes no cookie away");

    my $page = $nobody->get("/why/$reason", @cookies, navigation());
    is($page->status() . ' ' . $page->header('Location'), "303 /form?return=/why/$reason&reason=$reason", "$reason: the login is told");
    is($page->header('Session-Status') . ' ' . $page->header('Cache-Control'), "$reason no-store", "$reason: its headers on the way");
    is(expiries($page), $taken, "$reason: $taken cookies are taken away from a page");
    is(expiries($nobody->get("/why/$reason", @cookies, navigation(dest => 'iframe'))), 0, "$reason: none from a frame");
    is(expiries($nobody->get("/why/$reason", @cookies, navigation(mode => 'no-cors', dest => 'image'))), 0, "$reason: none from an image");

    is($nobody->get('/optional', @cookies, navigation())->status(), 200, "$reason: optional lets pass");
    is(expiries($nobody->get('/optional', @cookies, navigation())), 0, "$reason: optional takes no cookie away");
    is(expiries($pages->get('/e/static', @cookies, navigation())), $taken, "$reason: the operator's page takes as many");
    is(expiries($pages->get('/e/static', @cookies, fetched())), 0, "$reason: but none from a script");
    return;
}
check_reason(@{$_}) for reasons();
is($nobody->get('/page', with($good))->status(), 200, 'a good session has outlived all this');

$r = $nobody->get('/page', with($good, $other), navigation());
my @paths = map { ($_->{attributes}{path} // '') . ' ' . ($_->{attributes}{domain} // '-') } $r->set_cookies();
is_deeply(\@paths, [ '/ -', '/app -', '/ example.com' ], 'ambiguous: under every path and domain it was ever set with');
is($nobody->get('/page', with($good, $ended))->status(), 200, 'a good one beside a dead one counts');
is($nobody->get('/page', with($ended, $good))->status(), 200, 'in either order');

# --- 403 ---

$r = $nobody->post('/page', 'x', with($good), navigation(site => 'cross-site'));
is($r->status() . reason($r) . $r->header('Session-Status'), '403csrfcsrf', 'another site\'s form');
is($r->header('Content-Type') . ' ' . $r->header('Cache-Control'), 'application/problem+json no-store', 'another site\'s form: a problem, not to be kept');
is(expiries($r), 0, 'another site\'s form: the cookie stays');
$r = $nobody->post('/e/csrf', 'x', with($good), navigation(site => 'cross-site'));
is($r->status() . ' ' . $r->body(), "403 the operator's 403.html\n", 'another site\'s form: the operator\'s page');
is($r->header('Session-Status') . ' ' . $r->header('Cache-Control'), 'csrf no-store', 'another site\'s form: with the status');

my @insecure = (Cookie => '__Host-safe=' . $good);
for my $how ([ 'page', navigation() ], [ 'script', fetched() ]) {
    my ($what, @headers) = @{$how};
    $r = $nobody->get('/safe', @insecure, @headers);
    is($r->status() . reason($r) . $r->header('Session-Status'), '403insecureinsecure', "in the clear: no way to the login for a $what");
    is($r->header('Location') // '-' . expiries($r), '-0', "in the clear: nothing is sent back to a $what");
}
is($nobody->get('/safe403', @insecure, navigation())->body(), "the operator's 403.html\n", 'in the clear: the operator\'s page');

# --- error_page ---

my @answer = (
    [ '/e/static', 401, "the operator's 401.html\n", 'none no-store' ],
    [ '/e/ok',     200, "the operator's 401.html\n", '- no-store' ],
    [ '/e/uri',    200, "sorry\n",                   '- no-store' ],
    [ '/e/pay',    402, "pay\n",                     '- no-store' ],
    [ '/e/named',  401, "page\n",                    'none no-store' ],
    [ '/e/maybe',  401, "the operator's 401.html\n", 'none no-store' ],
);
for my $case (@answer) {
    my ($uri, $status, $body, $headers) = @{$case};
    for my $how ([ 'page', navigation() ], [ 'script', fetched() ]) {
        my ($what, @headers) = @{$how};
        $r = $pages->get($uri, @headers);
        is($r->status() . ' ' . $r->body(), "$status $body", "$uri: the operator's answer to a $what");
        is(($r->header('Session-Status') // '-') . ' ' . ($r->header('Cache-Control') // '-'), $headers, "$uri: headers to a $what");
        is($r->header('Set-Cookie'), undef, "$uri: its upstream opens no session for a $what");
    }
}
$r = $pages->get('/e/away', navigation());
is($r->status() . ' ' . $r->header('Location'), '302 https://login.example/', 'error_page elsewhere');
$r = $pages->get('/e/wants', navigation());
is($r->status() . ' ' . $r->header('Session-Status'), '401 none', 'an error page that wants a session itself goes round no circle');
$r = $nobody->get('/e/303', navigation());
is($r->status() . ' ' . $r->body(), "303 the operator's 303.html\n", 'error_page 303: for pages with session_login');
is($nobody->get('/e/303', fetched())->status(), 401, 'error_page 303: not for scripts');
is(reason($nobody->get('/e/other', fetched())), 'none', 'error_page of another status: our own problem');
is($nobody->get('/e/other', navigation())->status(), 303, 'error_page of another status: our own way');
is($nobody->get('/form', navigation())->status(), 200, 'the login itself is open');
is($pages->head('/e/static', navigation())->body(), '', 'HEAD: no body');
is($pages->post('/e/static', 'body', navigation())->body(), "the operator's 401.html\n", 'POST: the operator\'s page');

# --- expired ---

$t->advance(901);
check_reason(expired_idle => 'Session expired', 1, $good);
$t->advance(8 * 3600);
check_reason(expired_absolute => 'Session expired', 1, $other);

# --- the log ---

sub logged {
    my ($line) = @_;
    return $t->wait_for(sub { $t->read_file('guard.log') =~ m/^\Q$line\E$/xm });
}
ok(logged($_), "log: $_") for (
    '/page 401 none none', '/page 303 none none', '/page 200 valid -', '/page 403 csrf csrf',
    '/safe 403 insecure insecure', '/form 200 - -', '/optional 200 ended -', '/why/ended 401 ended ended',
    '/why/expired_idle 303 expired_idle expired_idle', '/e/static 401 none none', '/e/ok 200 none none',
    '/e/uri 200 none none', '/e/named 401 none none', '/e/static 401 ended ended', '/e/maybe 401 none none',
    '/e/303 303 none none', '/e/csrf 403 csrf csrf',
);

done_testing();
