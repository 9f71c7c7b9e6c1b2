#!/usr/bin/perl

# Ways through nginx that are not straight: the location that answers decides, and what an upstream
# may say is decided by the location that asked it.
# Attacks: an untrusted upstream reaching a trusted location's policy (X-Accel-Redirect, error_page,
# @named); a guarded location reached by rewrite, try_files, error_page, index; an upstream that must
# not mint sessions; `optional` opening what `deny` closes; header spoofing.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http proxy rewrite access auth_request limit_req session_guard));

# Both upstreams do as the request says: s=status, c=who is logged in ("destroy": out), to=X-Accel-Redirect.
my $answer = sub {
    my ($request) = @_;
    my %argument = $request->uri() =~ m/[?&](\w+)=([^&]*)/gx;
    s/%([[:xdigit:]]{2})/chr hex $1/xge for values %argument;
    my $command = $argument{c} // '';
    my %header = (
        ($argument{to} ? ('X-Accel-Redirect' => $argument{to}) : ()),
        ($command ? ('X-Accel-Session' => $command eq 'destroy' ? 'destroy' : qq(create; user="$command")) : ()),
        ($argument{s} // 200) == 302 ? (Location => '/elsewhere') : (),
    );
    return [ $argument{s} // 200, \%header, $request->path() . "\n" ];
};
my $app = $t->recorder(8081, $answer, name => 'app');
my $evil = $t->recorder(8082, $answer, name => 'evil');

$t->write_file("$_/file.txt", "$_\n") for qw(static trusted-static in-static);
$t->write_file('in-static/index.html', "index\n");
$t->write_file('401.html', "please log in\n");
$t->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app   { zone 1m; cookie sid secure=off; identity X-User=$session_user X-Roles=$session_roles; }
    session_realm other { zone 1m; cookie oid secure=off; }
    limit_req_zone $session_user zone=by_user:1m rate=1r/m;

    log_format who '$uri $status user=$session_user reason=$session_reason status=$session_status';
    access_log %%TESTDIR%%/who.log who;

    upstream app  { server 127.0.0.1:8081; }
    upstream evil { server 127.0.0.1:8082; }

    server {
        listen 127.0.0.1:8080;
        add_header X-Status $session_status always;

        # trusted and guarded, free, untrusted
        location /in/      { session app; proxy_pass http://app; }
        location /free/    { proxy_pass http://app; }
        location /trusted/ { session app optional; session_control on; proxy_pass http://app; }
        location /trusted-static/ { session app optional; session_control on; }
        location = /trusted-return { session app optional; session_control on; return 200 "returned\n"; }
        location @trusted  { session app optional; session_control on; rewrite ^ /trusted/named? break; proxy_pass http://app; }
        location /evil/    { proxy_pass http://evil; }
        location /evil-in/ { session app; proxy_pass http://evil; }
        location /evil-optional/ { session app optional; proxy_pass http://evil; }
        location /evil-other/ { session other optional; session_control on; proxy_pass http://evil; }
        location /static/  { }
        location /in-static/ { session app; }
        location @free     { rewrite ^ /free/named? break; proxy_pass http://app; }

        # untrusted answers that are replaced
        location /evil-302-static/ { proxy_pass http://evil/evil/; proxy_intercept_errors on; error_page 302 = /trusted-static/file.txt; }
        location /evil-302-proxy/  { proxy_pass http://evil/evil/; proxy_intercept_errors on; error_page 302 = /trusted/replaced; }
        location /evil-302-named/  { proxy_pass http://evil/evil/; proxy_intercept_errors on; error_page 302 = @trusted; }

        # trusted ones that are
        location /login-302/       { session app optional; session_control create; proxy_pass http://app/trusted/; proxy_intercept_errors on; error_page 302 =200 /static/file.txt; }
        location /login-302-named/ { session app optional; session_control create; proxy_pass http://app/trusted/; proxy_intercept_errors on; error_page 302 = @free; }
        location /login-404/       { session app optional; session_control create; proxy_pass http://app/trusted/; proxy_intercept_errors on; error_page 404 = /static/file.txt; }

        # a guarded location by other ways
        location /rewrite   { rewrite ^ /in/rewritten last; }
        location /break     { session app; rewrite ^ /in/broken break; proxy_pass http://app; }
        location /except    { session app; limit_except GET { allow all; } proxy_pass http://app; rewrite ^ /in/except break; }
        location /out       { session app; rewrite ^ /free/out last; }
        location /if        { if ($request_method = GET) { rewrite ^ /in/if last; } }
        location /try-in/   { try_files $uri /in/tried; }
        location /try/      { session app; try_files $uri @free; }
        location /try-uri/  { session app; try_files $uri /free/tried; }
        location /missing/  { error_page 404 /in/missing; }
        location /missing2/ { error_page 404 = /in/missing; }
        location /index/    { alias %%TESTDIR%%/in-static/; index nothing.html /in-static/index.html; }
        location /error-in/ { session app; proxy_pass http://app/in/; proxy_intercept_errors on; error_page 404 /free/error; }
        location /error-in-named/ { session app; proxy_pass http://app/in/; proxy_intercept_errors on; error_page 404 @free; }
        location /error-in-static/ { session app; proxy_pass http://app/in/; proxy_intercept_errors on; error_page 404 /static/file.txt; }

        # the operator's own pages for refusals
        location /own-static { session app; error_page 401 /401.html;  proxy_pass http://app; }
        location /own-proxy  { session app; error_page 401 /free/own;  proxy_pass http://app; }
        location /own-named  { session app; error_page 401 @free;      proxy_pass http://app; }
        location /own-200    { session app; error_page 401 =200 /401.html; proxy_pass http://app; }
        location /own-in     { session app; error_page 401 /in/own;    proxy_pass http://app; }
        location /own-login  { session app; session_login /free/form; error_page 401 /401.html; proxy_pass http://app; }
        location = /401.html { }

        # satisfy
        location /any-allow/          { satisfy any; allow all; session app;          proxy_pass http://app; }
        location /any-deny/           { satisfy any; deny all;  session app;          proxy_pass http://app; session_login /free/form; }
        location /any-allow-optional/ { satisfy any; allow all; session app optional; proxy_pass http://app; }
        location /any-deny-optional/  { satisfy any; deny all;  session app optional; proxy_pass http://app; }
        location /any-alone/          { satisfy any;            session app;          proxy_pass http://app; }
        location /any-free/           { satisfy any; deny all;                        proxy_pass http://app; }
        location /any-auth/           { satisfy any; session app; auth_request /auth-no; proxy_pass http://app; }
        location /all-allow/          { allow all; session app;          proxy_pass http://app; }
        location /all-deny/           { deny all;  session app;          proxy_pass http://app; }
        location /all-deny-optional/  { deny all;  session app optional; proxy_pass http://app; }

        # auth_request
        location = /auth      { internal; proxy_pass http://app/free/auth; }
        location = /auth-no   { internal; proxy_pass http://app/free/auth?s=403; }
        location = /auth-in   { internal; session app; proxy_pass http://app/in/auth; }
        location = /auth-mint { internal; session app optional; session_control on; proxy_pass http://app/free/auth?c=bob; }
        location = /auth-mint-redirect { internal; session app optional; session_control on; proxy_pass http://app/trusted/auth?c=bob&to=/free/auth; }
        location /ar-mint-redirect/ { session app optional; session_control on; auth_request /auth-mint-redirect; proxy_pass http://app/trusted/; }
        location /ar-in/      { session app; auth_request /auth;    proxy_pass http://app/in/; }
        location /ar-both/    { session app; auth_request /auth-in; proxy_pass http://app/in/; }
        location /ar-free/    { auth_request /auth-in;   proxy_pass http://app/free/; }
        location /ar-mint/    { auth_request /auth-mint; proxy_pass http://app/free/; }
        location /ar-mint-control/ { session app optional; session_control on; auth_request /auth-mint; proxy_pass http://app/trusted/; }

        location /limited/ { session app; limit_req zone=by_user; limit_req_status 429; proxy_pass http://app; }
        location /early  { session app; return 200 "early\n"; }
        location /early2 { session app; rewrite ^ http://localhost/x redirect; }
        location /early3 { session app; return 403; }
    }
}
EOC

my $nobody = client();
my $alice = client();
my $r;

sub session_of {
    my ($response) = @_;
    my $cookie = $response->set_cookie('sid') or return '';
    client()->get('/in/who', Cookie => "sid=$cookie->{value}");
    return $app->last()->header('X-User') // '';
}

is(session_of($alice->get('/trusted/login?c=alice')), 'alice', 'a login');

# --- an untrusted upstream mints nothing, whatever comes after it ---

for my $to ('/trusted/x', '/trusted-static/file.txt', '/trusted-return', '@trusted', '/static/file.txt', '/free/x') {
    for my $from (qw(evil evil-optional)) {
        $r = $nobody->get("/$from/x?c=bob&to=$to");
        is($r->status(), 200, "$from -> $to is followed");
        is($r->header('Set-Cookie'), undef, "$from -> $to mints nothing");
    }
    $r = $alice->clone()->get("/evil-in/x?c=destroy&to=$to");
    is($r->status() . ($r->header('Set-Cookie') // ''), 200, "evil-in -> $to ends nothing");
}
is($nobody->get('/evil/x?c=bob')->header('Set-Cookie'), undef, 'nor without a redirect');
is($alice->get('/evil-in/x?c=bob')->header('X-Accel-Session'), undef, 'its command is taken out');
for my $how (qw(static proxy named)) {
    $r = $nobody->get("/evil-302-$how/x?s=302&c=bob");
    is($r->status() . ($r->header('Set-Cookie') // ''), '200', "error_page 302, $how: mints nothing");
}
like($t->read_file('error.log'), qr/\[warn\].*X-Accel-Session[ ]from[ ]upstream[ ]removed/x, 'the log says so');
$r = $nobody->get('/evil-other/x?c=bob&to=/trusted/x');
is(join('|', map { $_->{name} } $r->set_cookies()), 'oid', 'what may mint in another realm, mints there alone');
is($alice->get('/in/x')->status(), 200, 'alice is still in');
is($nobody->get('/evil/x?to=/in/x')->status(), 401, 'an untrusted upstream does not lead into a guarded location');
is($nobody->get('/evil/x?to=/in-static/file.txt')->status(), 401, 'nor to a guarded file');
is($alice->get('/evil/x?to=/in/x')->status(), 200, 'but who may go there anyway');

# --- a trusted one mints under its own policy, whatever comes after it ---

for my $to ('/static/file.txt', '/free/x', '/evil/x', '@free', '/trusted/x', '/trusted-return', '/evil/x?c=bob', '/evil-other/x') {
    (my $escaped = $to) =~ s/([?=])/sprintf '%%%02x', ord $1/xge;
    $r = client()->get("/trusted/login?c=alice&to=$escaped");
    is($r->status(), 200, "login -> $to is followed");
    is(scalar($r->set_cookies()), 1, "login -> $to sets one cookie");
    is($r->header('Cache-Control'), 'no-store', "login -> $to is not to be kept");
    is(session_of($r), 'alice', "login -> $to is a session");
}
$r = client()->get('/trusted/login?c=alice&to=/in/after-login');
is($r->status() . $r->body(), "200/in/after-login\n", 'login -> guarded: the new session opens it');
$r = client()->set_cookie(sid => 'A' x 64)->get('/trusted/login?c=alice&to=/in/after-login');
is($r->status(), 200, 'login -> guarded: whatever cookie came');
my $before = $alice->clone();
$r = $alice->get('/trusted/login?c=bob&to=/in/after-login');
is($app->last()->header('X-User'), 'bob', 'login -> guarded: and not as who one was before');
is(reason($before->get('/in/x')), 'regenerated', 'login -> guarded: who is no more');
$r = $alice->get('/trusted/logout?c=destroy&to=/in/after-logout');
is($r->status(), 401, 'logout -> guarded: closed');
is($r->set_cookie('sid')->{attributes}{'max-age'}, 0, 'logout -> guarded: the cookie goes');
$r = client()->get('/login-302/x?s=302&c=alice');
is($r->status() . $r->body() . session_of($r), "200static\nalice", 'login answered by error_page, static');
$r = client()->get('/login-302-named/x?s=302&c=alice');
is($r->status() . session_of($r), '200alice', 'login answered by error_page, named');
$r = client()->get('/login-404/x?s=404&c=alice');
is($r->status() . session_of($r), '200', 'a failed login answered by error_page is none');

$r = client()->get('/trusted/login?c=alice&to=/evil-other/x%3Fc%3Dbob');
is(join('|', sort map { $_->{name} } $r->set_cookies()), 'oid|sid', 'two realms mint each their own');
is(session_of($r), 'alice', 'and neither the other\'s');
$r = client()->get('/trusted/login?c=alice&to=/trusted/login%3Fc%3Dbob');
is(scalar($r->set_cookies()) . session_of($r), '1bob', 'of two logins in one realm the last counts');

$alice = client();
is(session_of($alice->get('/trusted/login?c=alice')), 'alice', 'in again');

# --- the guarded location, by other ways ---

my $seen = $app->count();
for my $uri (qw(/rewrite /break /if /try-in/x /missing2/x /index/ /try/x /try-uri/x /error-in/x /error-in-named/x?s=404)) {
    $r = $nobody->get($uri, spoofed());
    is($r->status() . reason($r), '401none', "$uri without a session");
}
is($nobody->post('/except', '')->status(), 401, '/except: in limit_except too');
$r = $nobody->get('/missing/x');
is($r->status() . ($r->header('Session-Status') // ''), '404none', '/missing/x keeps its status, and says why');
is($r->header('Cache-Control'), 'no-store', '/missing/x is not to be kept');
unlike($r->body(), qr{/in/}x, '/missing/x shows nothing');
is($nobody->get('/out')->status(), 200, '/out: the location that answers decides');
is($app->count(), $seen + 1, 'none of them has reached the upstream');
for my $uri (qw(/rewrite /break /if /try-in/x /missing2/x)) {
    $r = $alice->get($uri, spoofed());
    is($r->status(), 200, "$uri with a session");
    is($app->last()->header('X-User'), 'alice', "$uri: known to the upstream");
}
is($alice->get('/index/')->body(), "index\n", '/index/ with a session');
for my $uri (qw(/out /try/x /try-uri/x /error-in/x?s=404 /error-in-named/x?s=404)) {
    $alice->get($uri, spoofed());
    like($app->last()->uri(), qr{\A/free/}x, "$uri comes to a free location");
    is($app->last()->header('X-User'), undef, "$uri: where nobody is told who it is");
}
is($alice->get('/error-in-static/x?s=404')->status(), 404, 'error_page after a guarded location');
like($t->read_file('who.log'), qr{^/in/rewritten[ ]200[ ]user=alice[ ]reason=-[ ]status=valid$}xm, 'the log: let in');
like($t->read_file('who.log'), qr{^/in/rewritten[ ]401[ ]user=-[ ]reason=none[ ]status=none$}xm, 'the log: refused');

# --- the operator's pages ---

$seen = $app->count();
$r = $nobody->get('/own-static', spoofed());
is($r->status() . $r->body(), "401please log in\n", 'error_page 401 wins');
is($r->header('Session-Status') . $r->header('Cache-Control'), 'noneno-store', 'with status and no-store');
$r = $nobody->get('/own-200');
is($r->status() . $r->body(), "200please log in\n", 'error_page 401 =200');
is($r->header('Cache-Control'), 'no-store', 'error_page 401 =200: not to be kept');
is($app->count(), $seen, 'nothing has reached the upstream');
for my $uri (qw(/own-proxy /own-named)) {
    $r = $nobody->get($uri, spoofed());
    is($r->status(), 401, "$uri: the status stays");
    like($r->body(), qr{\A/free/}x, "$uri: the page is the upstream's");
    is($r->header('Session-Status'), 'none', "$uri: with the reason");
}
$r = $nobody->get('/own-in');
is($r->status(), 401, 'a page that is guarded itself');
unlike($r->body(), qr{/in/}x, 'is not shown');
is($nobody->get('/own-login', navigation())->status(), 303, 'session_login still leads pages to the login');
is($nobody->get('/own-login', fetched())->body(), "please log in\n", 'and error_page answers the others');

# --- satisfy ---

my @bad = (Cookie => 'sid=' . 'A' x 64);
my %satisfy = (    # no session, bad session, good session; "+": known to the upstream
    'any-allow'          => [ '200',  '200',  '200+' ],
    'any-deny'           => [ '401',  '401',  '200+' ],
    'any-allow-optional' => [ '200',  '200',  '200+' ],
    'any-deny-optional'  => [ '403',  '403',  '200+' ],
    'any-alone'          => [ '401',  '401',  '200+' ],
    'any-free'           => [ '403',  '403',  '403' ],
    'any-auth'           => [ '401',  '401',  '200+' ],
    'all-allow'          => [ '401',  '401',  '200+' ],
    'all-deny'           => [ '401',  '401',  '403' ],
    'all-deny-optional'  => [ '403',  '403',  '403' ],
);
for my $where (sort keys %satisfy) {
    my @how = ([ 'no session' ], [ 'a bad session', @bad ], [ 'a good session', Cookie => 'sid=' . $alice->cookie('sid') ]);
    for my $i (0 .. 2) {
        my ($what, @headers) = @{ $how[$i] };
        my $count = () = map { $_->path() =~ m{/$where/}x ? 1 : () } $app->requests();
        $r = $nobody->get("/$where/x", @headers, spoofed());
        my @came = grep { $_->path() =~ m{/$where/}x } $app->requests();
        my $result = $r->status() . (@came > $count && $came[-1]->header('X-User') ? '+' : '');
        is($result, $satisfy{$where}[$i], "$where: $what");
        is(@came - $count, $r->status() == 200 ? 1 : 0, "$where: $what: " . ($r->status() == 200 ? 'asked' : 'not asked'));
    }
}
$r = $nobody->get('/any-deny/x', navigation());
is($r->status(), 401, 'satisfy any: no redirect');
is($r->header('Session-Status') . $r->header('Cache-Control'), 'noneno-store', 'satisfy any: but the reason');
is($alice->post('/any-deny/x', '', navigation(site => 'cross-site'))->status(), 403, 'satisfy any: another site is refused');
is($alice->post('/any-allow/x', '', navigation(site => 'cross-site'))->status(), 200, 'satisfy any: unless allowed otherwise');
is($app->last()->header('X-User'), undef, 'satisfy any: then it acts as nobody');

# --- auth_request ---

$seen = $app->count();
is($nobody->get($_)->status(), 401, "$_ without a session") for qw(/ar-in/x /ar-both/x /ar-free/x);
is($app->count(), $seen, 'nobody was asked');
is($alice->get('/ar-in/x', spoofed())->status(), 200, 'a session, and a service that says yes');
is_deeply([ map { $_->path() . ' ' . ($_->header('X-User') // '-') } ($app->requests())[ -2, -1 ] ],
    [ '/free/auth -', '/in/x alice' ], 'which is not told who it is, if it is not guarded');
is($alice->get('/ar-both/x', spoofed())->status(), 200, 'a guarded service');
is_deeply([ map { $_->path() . ' ' . ($_->header('X-User') // '-') } ($app->requests())[ -2, -1 ] ],
    [ '/in/auth alice', '/in/x alice' ], 'is');
is($alice->get('/ar-free/x', spoofed())->status(), 200, 'a session asked for by auth_request alone');
is($app->last()->header('X-User'), undef, 'lets in, as nobody');
is($nobody->get($_)->header('Set-Cookie'), undef, "$_: its answer mints nothing") for qw(/ar-mint/x /ar-mint-control/x /ar-mint-redirect/x);
is($app->last()->path(), '/trusted/x', 'and lets in');
is(session_of($nobody->clone()->get('/ar-mint-control/x?c=alice')), 'alice', 'the main answer does');

# --- limit_req by user ---

my $bob = client();
$bob->get('/trusted/login?c=bob');
is($alice->get('/limited/in')->status(), 200, 'limit_req: the first of alice');
is($alice->get('/limited/in')->status(), 429, 'limit_req: the second');
is($bob->get('/limited/in')->status(), 200, 'limit_req: the first of bob');
is($nobody->get('/limited/in')->status(), 401, 'limit_req: nobody is not counted') for 1 .. 3;

# --- answers before any check ---

is($nobody->get('/early')->status(), 200, 'return answers before the session is checked') for 1 .. 3;
is($nobody->get('/early2')->status(), 302, 'so does a redirect') for 1 .. 2;
is($nobody->get('/early3')->status(), 403, 'a refusal may');
my @warned = $t->read_file('error.log') =~ m/\[warn\].*location[ ]"([^"]+)"[ ]answered[ ]before[ ]the[ ]session[ ]was[ ]checked/gx;
is(join(' ', sort @warned), '/early /early2', 'which is said once for each location');

nothing_foul($app, qr{\A/in/}x, qr{\A/free/}x, 'the upstream was sent nothing foul');
nothing_foul($evil, qr{\A/evil-in/}x, qr{\A/evil/}x, 'nor was the untrusted one');

done_testing();
