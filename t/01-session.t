#!/usr/bin/perl

# A session's life, from login to logout, as a browser and a program see it.
# Attacks: forged and tampered tokens; session fixation (a cookie set beforehand is not adopted, the
# one that came with the login is ended); logout that does not end it (replay, after a reload too);
# CSRF on logout; header spoofing; a page kept in a cache after logout; plain http.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http http_ssl http_v2 socket_ssl proxy rewrite session_guard))
    ->has_daemon('curl');

my $up = $t->recorder(8081, sub {
    my ($request) = @_;
    my ($user) = $request->uri() =~ m/[?]user=(\w+)/x;
    $user //= 'alice';
    my $create = qq(create; user="$user"; roles="editor admin"; level=aal2; data.theme="dark blue");
    return [ 200, { 'X-Accel-Session' => $create, 'X-Other' => 'kept' }, "welcome\n" ]
        if $request->path() eq '/login';
    return [ 401, { 'X-Accel-Session' => $create }, "wrong\n" ] if $request->path() eq '/login-wrong';
    return [ 200, { 'X-Accel-Session' => 'destroy' }, "bye\n" ] if $request->path() eq '/in/destroy';
    return [ 200, {}, "page\n" ];
});

$t->ssl_cert()->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app {
        zone     1m;
        identity X-User=$session_user X-Roles=$session_roles X-Session=$session_id
                 X-Theme=$session_attr_theme X-Level=$session_level;
    }
    session_realm path  { zone 1m; cookie __Secure-part path=/part samesite=strict httponly=off; }
    session_realm plain { zone 1m; cookie plain secure=off; }
    session_realm front { zone 1m; cookie __Host-front secure=assumed; origin https://app.example; }

    underscores_in_headers on;
    ignore_invalid_headers off;
    proxy_http_version 1.1;
    proxy_set_header Connection "";

    upstream app { server 127.0.0.1:8081; keepalive 4; }

    server {
        listen 127.0.0.1:8443 ssl http2;
        ssl_certificate     localhost.crt;
        ssl_certificate_key localhost.key;
        client_body_buffer_size 1k;
        session       app;
        add_header    X-Status $session_status always;
        add_header    X-Id     $session_id;
        add_header    X-None   $session_attr_none;

        location /in/         { proxy_pass http://app; }
        location = /page      { session_login /form;  proxy_pass http://app/in/page; }
        location = /optional  { session app optional; proxy_pass http://app; }
        location = /login     { session app optional; session_control create; proxy_pass http://app; }
        location = /login-wrong { session app optional; session_control create; proxy_pass http://app; }
        location = /in/destroy  { session_control destroy; proxy_pass http://app; }
        location = /form      { session off; proxy_pass http://app; }
        location = /logout    { session_logout; }
        location = /goodbye   { session_logout return=/bye?a=b clear=cache,storage,cookies; }
        location = /session   { session_info; }
        location = /part/login { session path optional; session_control create; proxy_pass http://app/login; }
        location = /part/logout { session path; session_logout; }

        location /kept/ {
            expires 1y;
            add_header Cache-Control public always;
            location = /kept/in     { proxy_pass http://app/in/kept; }
            location = /kept/login  { session app optional; session_control create; proxy_pass http://app/login; }
            location = /kept/logout { session_logout; }
            location = /kept/info   { session_info; }
        }
    }

    server {
        listen 127.0.0.1:8080;
        location = /app       { session app; proxy_pass http://app; }
        location = /app/login { session app optional; session_control create; proxy_pass http://app/login; }
        location = /plain       { session plain; proxy_pass http://app; }
        location = /plain/login { session plain optional; session_control create; proxy_pass http://app/login; }
        location = /front       { session front; proxy_pass http://app; }
        location = /front/login { session front optional; session_control create; proxy_pass http://app/login; }
    }
}
EOC

my $guarded = qr{\A/in/}x;
my $name = '__Host-id';
my $r;

sub logged_in {
    my ($user) = @_;
    my $client = client(ssl => 1);
    $client->post("/login?user=$user", '', fetched());
    return $client;
}

# --- nobody ---

my $nobody = client(ssl => 1);
$r = $nobody->get('/in/api', spoofed());
is($r->status(), 401, 'without a cookie: 401');
is($r->header('Content-Type'), 'application/problem+json', 'a problem for programs');
is($r->body(), qq({"type":"about:blank","title":"Not logged in","status":401,"reason":"none"}\n), 'with its reason');
is($r->header('Session-Status'), 'none', 'in a header as well');
is($r->header('Cache-Control'), 'no-store', 'not to be kept');
is($r->header('Set-Cookie'), undef, 'no cookie is set');
is($r->header('X-Status'), 'none', 'the status for add_header and the log');
$r = $nobody->head('/in/api');
is($r->status() . $r->body(), '401', 'HEAD: no body');
is($up->count(), 0, 'the upstream has seen nothing');

$r = $nobody->get('/page?a=b&c', navigation());
is($r->status(), 303, 'a page leads to the login');
is($r->header('Location'), '/form?return=/page%3Fa%3Db%26c&reason=none', 'with the way back');
is($r->header('Cache-Control'), 'no-store', 'not to be kept');
is($nobody->get('/page', fetched())->status(), 401, 'but a script is told');
is($nobody->post('/page', 'a=b', navigation())->status(), 401, 'and so is a form');
is($nobody->get('/page', Accept => 'text/html')->status(), 303, 'an old browser is sent to the login');
is($nobody->get('/page')->status(), 401, 'what says nothing is a program');
$r = $nobody->get('/in/page', navigation());
is($r->status() . $r->header('Content-Type'), '401text/html; charset=utf-8', 'without session_login a small page');
is($nobody->get('/form', navigation(), spoofed())->status(), 200, 'session off lets pass');
is($nobody->get('/optional', spoofed())->status(), 200, 'so does optional');
is($nobody->get('/optional')->header('X-Status'), 'none', 'which says why');

# --- login ---

my $alice = client(ssl => 1);
$r = $alice->post('/login?user=alice', 'password', fetched());
is($r->status(), 200, 'a login');
is($r->body(), "welcome\n", 'with the upstream\'s page');
my @set = $r->set_cookies();
is(scalar @set, 1, 'exactly one cookie');
is($set[0]{name}, $name, 'of its name');
like($set[0]{value}, qr/\A[\w-]{64}\z/x, 'a token');
is_deeply($set[0]{attributes}, { path => '/', secure => 1, httponly => 1, samesite => 'Lax' }, 'and no attribute but these');
is($r->header('Cache-Control'), 'no-store', 'not to be kept');
is($r->header('X-Accel-Session'), undef, 'the command stays inside');
is($r->header('X-Other'), 'kept', 'the other headers do not');
is($up->last()->body(), 'password', 'the body has come through');

my $sent = $up->count();
$r = $alice->get('/in/api?x=1', spoofed(), 'X-Plain' => 'kept');
is($r->status(), 200, 'a session is let in');
is($r->header('Set-Cookie'), undef, 'without another cookie');
is($r->header('Session-Status'), undef, 'a status is for refusals');
is($r->header('X-Status'), 'valid', 'the variable says valid');
is($r->header('X-None'), undef, 'an attribute that is not there');
is($up->count(), $sent + 1, 'the upstream has been asked once');
is($up->last()->uri(), '/in/api?x=1', 'for the same thing');
is($up->last()->header('X-User'), 'alice', 'X-User');
is($up->last()->header('X-Roles'), 'editor admin', 'X-Roles');
is($up->last()->header('X-Level'), 'aal2', 'X-Level');
is($up->last()->header('X-Theme'), 'dark blue', 'an attribute');
is($up->last()->header('X-Plain'), 'kept', 'a header of the client');
my $id = $up->last()->header('X-Session');
like($id, qr/\A[\w-]{16}\z/x, 'a public id');
is($r->header('X-Id'), $id, 'the same everywhere');
is(index($alice->cookie($name), $id), -1, 'no part of the token');
is($alice->get('/optional')->header('X-Status'), 'valid', 'optional knows a session');

my $failed = client(ssl => 1);
$r = $failed->post('/login-wrong', '', fetched());
is($r->status() . ($r->header('Set-Cookie') // ' no cookie'), '401 no cookie', 'create does not count on a refused password');
is($nobody->get('/in/api', 'X-Accel-Session' => 'create; user="mallory"')->status(), 401, 'nor in a request');

# --- tampered ---

my $token = $alice->cookie($name);
for my $at (0, 1, 10, 31, 32, 43, 44, 62, 63) {
    my $changed = $token;
    substr $changed, $at, 1, substr($token, $at, 1) eq 'A' ? 'B' : 'A';
    $t->secret($changed);
    $r = $nobody->get('/in/api', Cookie => "$name=$changed");
    is($r->status(), 401, "character $at changed: refused");
    like(reason($r), qr/\A(?:forged|unknown_key)\z/x, "character $at changed: as forged");
}
for my $bad (substr($token, 0, 63), "${token}A", '', 'x', '%00' x 21 . 'a', '"' . $token) {
    is(reason($nobody->get('/in/api', Cookie => "$name=$bad")), 'malformed', 'another length: malformed');
}
is($alice->get('/in/api')->status(), 200, 'the session itself is untouched');
is($nobody->get('/in/api', Cookie => "$name=AAAA", navigation())->set_cookie($name)->{attributes}{'max-age'},
    0, 'a page is told to drop a useless cookie');
is($nobody->get('/in/api', Cookie => "$name=AAAA", fetched())->header('Set-Cookie'), undef, 'a script is not');

# --- fixation ---

my $fixed = 'A' x 64;
my $victim = client(ssl => 1)->set_cookie($name, $fixed);
$victim->post('/login?user=bob', '', fetched());
isnt($victim->cookie($name), $fixed, 'a cookie set beforehand is not adopted');
is(client(ssl => 1)->set_cookie($name, $fixed)->get('/in/api')->status(), 401, 'and opens nothing');

my $attacker = logged_in('alice');
$victim = $attacker->clone();
$r = $victim->post('/login?user=bob', '', fetched());
isnt($victim->cookie($name), $attacker->cookie($name), 'nor is another session of the attacker');
$victim->get('/in/who');
is($up->last()->header('X-User'), 'bob', 'the victim is who has logged in');
is(reason($attacker->get('/in/api', fetched())), 'regenerated', 'the session that came with the login is ended');
is($attacker->get('/in/api', navigation())->header('Set-Cookie'), undef, 'and learns nothing');

# --- info ---

$r = $nobody->get('/session');
is($r->status() . reason($r), '401none', 'session_info: nobody');
is($r->header('Session-Status'), 'none', 'session_info: with the status');
is($r->header('Cache-Control'), 'no-store', 'session_info: not to be kept');
$t->advance(60);
$r = $alice->get('/session');
is($r->status() . $r->header('Content-Type'), '200application/json', 'session_info: a session');
is($r->header('Cache-Control'), 'no-store', 'session_info: not to be kept either');
like($r->body(), qr/"user":"alice"/x, 'session_info: user');
like($r->body(), qr/"roles":\["editor","admin"\]/x, 'session_info: roles');
like($r->body(), qr/"idle_left":8[34]\d\b/x, 'session_info: looking prolongs nothing');
like($alice->post('/session', '', fetched())->body(), qr/"idle_left":(?:900|89\d)\b/x, 'session_info: a POST does');
$r = $alice->request('DELETE', '/session', fetched());
is($r->status() . $r->header('Allow'), '405GET, HEAD, POST', 'session_info: nothing else');

# --- keep-alive and bodies ---

my $kept = client(ssl => 1, keepalive => 1)->set_cookie($name, $alice->cookie($name));
is($kept->get('/in/one')->status(), 200, 'keep-alive: with the cookie');
my $socket = $kept->{socket};
is($kept->get('/in/two', { no_cookies => 1 })->status(), 401, 'keep-alive: without it on the same connection');
is($kept->get('/in/three', Cookie => "$name=AAAA")->status(), 401, 'keep-alive: with a wrong one');
is($kept->get('/in/four')->status(), 200, 'keep-alive: with it again');
is($kept->{socket}, $socket, 'keep-alive: it was one connection');
is($kept->post('/in/five', 'x' x 5000, { no_cookies => 1 })->status(), 401, 'keep-alive: a refused POST');
is($kept->get('/in/six')->status(), 200, 'keep-alive: leaves no body behind');
$kept->disconnect();

my $body = join '', map { chr(32 + $_ * 7 % 95) } 1 .. 150_000;
is($alice->post('/in/post', $body, fetched())->status(), 200, 'a large POST');
ok($up->last()->body() eq $body, 'reaches the upstream intact');
$alice->post('/in/post', "5\r\nhello\r\n0\r\n\r\n", 'Transfer-Encoding' => 'chunked', fetched());
is($up->last()->body(), 'hello', 'so does a chunked one');
is($alice->post('/in/post', 'a', navigation(site => 'cross-site'))->status(), 403, 'another site may not post');

# --- no-store ---

for my $case ([ 'refusal', $nobody->get('/kept/in') ], [ 'login', client(ssl => 1)->post('/kept/login', '', fetched()) ],
    [ 'info', $alice->get('/kept/info') ], [ 'logout', client(ssl => 1)->post('/kept/logout', '', fetched()) ]) {
    my ($what, $response) = @{$case};
    # add_header puts its line beside ours: a cache that reads both must not store (RFC 9111, 5.2.2.5).
    like(join('|', $response->header('Cache-Control')), qr/^no-store(?:\|public)?$/, "expires and add_header do not undo no-store: $what");
    is($response->header('Expires'), undef, "nor is there a date to keep it until: $what");
}
like($alice->get('/kept/in')->header('Cache-Control'), qr/public/x, 'an admitted page is the operator\'s');

# --- logout ---

my $thief = $alice->clone();
my $site = $alice->clone();
is($alice->get('/logout')->status(), 405, 'GET does not log out');
$r = $alice->get('/logout', fetched());
is($r->status() . $r->header('Allow'), '405POST', 'nor does a script\'s or an image\'s');
is($alice->get('/logout', navigation(site => $_))->status(), 405, "nor a link of another site: $_") for qw(cross-site same-site none);
is($site->post('/logout', '', navigation(site => 'cross-site'))->status(), 403, 'nor a form of another site');
is($alice->get('/in/api')->status(), 200, 'the session lives on');

$r = $alice->post('/logout', '', fetched());
is($r->status(), 204, 'logout');
@set = $r->set_cookies();
is(scalar @set, 1, 'exactly one cookie is expired');
my $attributes = { %{ $set[0]{attributes} } };
delete $attributes->{expires};
is_deeply($attributes, { path => '/', secure => 1, httponly => 1, samesite => 'Lax', 'max-age' => 0 }, 'with the attributes it was set with');
like($set[0]{attributes}{expires}, qr/1970/x, 'and a date for old browsers');
is($set[0]{name} . $set[0]{value}, $name, 'and no value');
is($r->header('Clear-Site-Data'), '"cache"', 'the browser\'s cache is cleared');
is($r->header('Cache-Control'), 'no-store', 'not to be kept');
$sent = $up->count();
is(reason($thief->get('/in/api')), 'ended', 'a copy of the cookie is worthless');
is($thief->get('/optional')->header('X-Status'), 'ended', 'for optional too');
$t->reload();
is(reason($thief->get('/in/api')), 'ended', 'after a reload too');
is($up->count(), $sent + 1, 'the upstream was not asked');
$r = $thief->post('/logout', '', fetched());
is($r->status() . $r->set_cookie($name)->{attributes}{'max-age'}, '2040', 'logging out of a dead session is as good');
is($nobody->post('/logout', '', fetched())->status(), 204, 'and of none');

my $bob = logged_in('bob');
$thief = $bob->clone();
is($bob->get('/in/api')->status(), 200, 'a session made before the reload');
$t->reload();
is($bob->get('/in/api')->status(), 200, 'outlives it');
$r = $bob->get('/goodbye', navigation());
is($r->status() . $r->header('Location'), '303/bye?a=b', 'a link of the own site logs out');
is($r->header('Clear-Site-Data'), '"cache", "storage", "cookies"', 'clearing what it is told to');
is(reason($thief->get('/in/api')), 'ended', 'and ends the session');

$bob = logged_in('bob');
$thief = $bob->clone();
$r = $bob->post('/in/destroy', '', fetched());
is($r->status() . $r->set_cookie($name)->{attributes}{'max-age'}, '2000', 'the application ends a session');
is(reason($thief->get('/in/api')), 'ended', 'and it is ended');

# --- HTTP/2 ---

my $two = client(ssl => 1);
$r = $two->h2(GET => '/in/h2');
is($r->version() . ' ' . $r->status(), '2 401', 'HTTP/2: nobody');
is($two->h2(POST => '/login', { body => 'secret' }, fetched())->status(), 200, 'HTTP/2: login');
$r = $two->h2(POST => '/in/h2', { body => $body }, fetched());
is($r->status(), 200, 'HTTP/2: let in');
ok($up->last()->body() eq $body, 'HTTP/2: the body is intact');
$thief = $two->clone();
is($two->h2(POST => '/logout', fetched())->status(), 204, 'HTTP/2: logout');
is(reason($thief->h2(GET => '/in/h2')), 'ended', 'HTTP/2: replay');
is(reason($thief->h2(GET => '/in/h2', Cookie => [ 'a=1', "$name=" . $thief->cookie($name), 'b=2' ])), 'ended', 'HTTP/2: among split cookies');

# --- other attributes ---

my $part = client(ssl => 1);
$r = $part->post('/part/login', '', fetched());
is_deeply($r->set_cookie('__Secure-part')->{attributes}, { path => '/part', secure => 1, samesite => 'Lax' },
    'path, httponly=off, samesite=strict, at a login');
$r = $part->post('/part/logout', '', fetched());
is($r->set_cookie('__Secure-part')->{attributes}{path}, '/part', 'the expiry has the path');

my $plain = client();
$r = $plain->post('/plain/login', '', fetched());
is_deeply($r->set_cookie('plain')->{attributes}, { path => '/', httponly => 1, samesite => 'Lax' }, 'secure=off: not Secure');
is($plain->get('/plain')->status(), 200, 'secure=off: let in over plain http');

my @own = (Origin => 'https://app.example');
my $front = client();
$r = $front->post('/front/login', '', @own);
is_deeply($r->set_cookie('__Host-front')->{attributes}, { path => '/', secure => 1, httponly => 1, samesite => 'Lax' },
    'secure=assumed: Secure, though it is plain http here');
is($front->get('/front')->status(), 200, 'secure=assumed: let in');
is($front->post('/front', '', @own)->status(), 200, 'secure=assumed: the own origin is https');
is($front->post('/front', '', Origin => 'http://app.example')->status(), 403, 'secure=assumed: and not http');

# --- plain http ---

my $clear = client();
$r = $clear->post('/app/login', '', fetched());
is($r->status() . ($r->header('Set-Cookie') // ' no cookie'), '403 no cookie', 'plain http: no login');
is($r->header('Session-Status') . $r->header('Cache-Control'), 'insecureno-store', 'plain http: it says why');
like($t->read_file('error.log'), qr/\[error\].*realm[ ]"app":[ ]login[ ]refused,[ ]it[ ]came[ ]over[ ]plain[ ]http/x, 'plain http: so does the log');
$t->advance(61);    # such lines come once a minute
$bob = logged_in('bob');
$r = client()->set_cookie($name, $bob->cookie($name))->get('/app');
is($r->status() . reason($r), '403insecure', 'plain http: a good cookie is refused');
like($t->read_file('error.log'), qr/\[warn\].*realm[ ]"app":[ ]session[ ]cookie[ ]refused,[ ]it[ ]came[ ]over[ ]plain[ ]http/x, 'plain http: with a line in the log');
is(reason($clear->get('/app')), 'none', 'plain http: without a cookie as ever');
is($bob->get('/in/api')->status(), 200, 'the session is good over TLS');

nothing_foul($up, $guarded, qr{\A/form}x, 'the upstream was sent nothing foul');

done_testing();
