#!/usr/bin/perl

# Rotation: a cookie is replaced while the session goes on; whoever comes with one that was replaced
# long ago ends it.
# Attacks: a cookie that was copied and used beside its owner, before and after them. Faults: users
# thrown out because a response was lost, or because two requests came at once; a cookie handed to
# a prefetch, a socket, an image.

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
    my $say = $request->header('X-Say');
    return [ 200, { $say ? ('X-Accel-Session' => $say) : () }, "page\n" ];
});

$t->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm a { zone 1m; cookie a secure=off; idle_timeout 1h; rotate 10m grace=30s; }
    session_realm b { zone 1m; cookie b secure=off; idle_timeout 1h; rotate off; }
    session_realm c { zone 1m; cookie c secure=off; idle_timeout 1h; }
    server {
        listen 127.0.0.1:8080;
        add_header X-User "$session_user";
        add_header X-Status "$session_status";
        location / { session a; session_control on; proxy_pass http://127.0.0.1:8081; }
        location = /login  { session a optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /open   { session a optional; empty_gif; }
        location = /logout { session a; session_logout; }
        location = /info   { session a; session_info; }
        location = /moved  { session a; return 302 /; }
        location = /inner  { session a; try_files /no @up; }
        location @up       { session a; proxy_pass http://127.0.0.1:8081; }
        location = /b/login { session b optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /b       { session b; proxy_pass http://127.0.0.1:8081; }
        location = /c/login { session c optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /c       { session c; proxy_pass http://127.0.0.1:8081; }
        location = /status  { session_status; }
    }
}
EOC

sub logged_in {
    my ($uri) = @_;
    my $client = client();
    $client->request('POST', $uri // '/login', body => '', fetched(), 'X-Say' => 'create; user="alice"');
    return $client;
}

# What a request with exactly this cookie is answered; the jar stays as it is.
sub with {
    my ($token, $uri, @headers) = @_;
    return client(no_cookies => 1)->get($uri // '/', @headers ? @headers : fetched(), Cookie => "a=$token");
}

sub page {
    my ($response) = @_;
    return $response->status() == 200 ? '200 ' . ($response->header('X-User') // '') : $response->status() . ' ' . reason($response);
}

sub handed {
    my ($response) = @_;
    my ($token) = ($response->header('Set-Cookie') // '') =~ m/\Aa=([\w-]{64});/x;
    return $token;
}

# --- the owner alone ---

my $client = logged_in();
my $first = $client->cookie('a');
is($client->get('/', fetched())->header('Set-Cookie'), undef, 'a young token stays');
$t->advance(599);
is($client->get('/', fetched())->header('Set-Cookie'), undef, 'up to its time');
$t->advance(1);

my @same = map { handed(with($first)) } 1 .. 3;
ok($same[0] && $same[0] ne $first, 'then there is a new one');
is("@same[1, 2]", "@same[0, 0]", 'the same for all who come with the old one');
is(substr($same[0], 0, 20), substr($first, 0, 20), 'of the same session');
my $response = with($first);
like($response->header('Set-Cookie'), qr/\Aa=[\w-]{64};[ ]Path=\/;[ ]HttpOnly;[ ]SameSite=Lax\z/x, 'with the attributes of the first');
like($response->header('Cache-Control'), qr/no-store/x, 'and is not to be stored');
$t->advance(120);
is(page(with($first)), '200 alice', 'until it is used the old one stays good: a response may get lost');

my $second = $same[0];
is(page(with($second)), '200 alice', 'the new one is good');
is(handed(with($second)), undef, 'and young');
is(page(with($first)), '200 alice', 'so is the old one, for the grace');
is(handed(with($first)), $second, 'and who comes with it is told again');
$t->advance(29);
is(page(with($first)), '200 alice', 'to its end');

# --- where no new token goes ---

$client->set_cookie(a => $second);
$t->advance(600);
for my $case (
    [ 'a prefetch', 'Sec-Purpose' => 'prefetch;prerender', 'Sec-Fetch-Dest' => 'document', 'Sec-Fetch-Mode' => 'navigate', 'Sec-Fetch-Site' => 'none' ],
    [ 'a prefetch of old', Purpose => 'prefetch' ],
    [ 'an image', 'Sec-Fetch-Dest' => 'image', 'Sec-Fetch-Mode' => 'no-cors', 'Sec-Fetch-Site' => 'same-origin' ],
    [ 'a socket', Upgrade => 'websocket', Connection => 'upgrade', 'Sec-Fetch-Site' => 'same-origin', Origin => 'http://localhost' ],
) {
    my ($name, @headers) = @{$case};
    is(with($second, '/', @headers)->header('Set-Cookie'), undef, "not with $name");
}
is(client(no_cookies => 1)->request('HEAD', '/', fetched(), Cookie => "a=$second")->header('Set-Cookie'), undef, 'nor with HEAD');
ok(handed(with($second, $_)), "but with $_") for qw(/ /info /inner /open);
ok(handed(with($second, '/', navigation())), 'and with a page');
is(handed(with($second, '/moved')), undef, '(return answers before any session is looked at)');

# --- a copy ---

my $third = handed(with($second));
is(page(with($third)), '200 alice', 'the owner goes on');
$t->advance(30);
is(page(with($second)), '401 ended', 'somebody comes with the token of before, after the grace');
is(page(with($third)), '401 ended', 'the session has ended, for both');
is(page(with($first)), '401 ended', 'with whatever token');
ok($t->wait_for(sub { $t->read_file('error.log') =~ m/session[ ][\w-]{16}[ ]ended:[ ].*reuse[ ]detected/x }), 'the log says so');
like(client()->get('/status')->body(), qr/"reuse_detected":1\b/x, 'and it is counted');

# The thief is first.
$client = logged_in();
my $owner = $client->cookie('a');
$t->advance(600);
my $stolen = handed(with($owner));
is(page(with($stolen)), '200 alice', 'a thief has taken the new token, and uses it');
$t->advance(30);
is(page(with($owner)), '401 ended', 'the owner comes with the old one');
is(page(with($stolen)), '401 ended', 'and the thief is out');

# --- what is no theft ---

$client = logged_in();
$owner = $client->cookie('a');
$t->advance(600);
my $new = handed(with($owner));
with($new);
$t->advance(31);
my $bad = $owner;
substr $bad, 60, 1, substr($bad, 60, 1) eq 'A' ? 'B' : 'A';
is(page(with($bad)), '401 forged', 'a forged token of that session');
is(page(with($new)), '200 alice', 'does nothing to it');
is(client(no_cookies => 1)->get('/', fetched(), Cookie => "a=$owner; a=$new")->status(), 200, 'nor an old cookie beside the new one');
is(client(no_cookies => 1)->get('/', fetched(), Cookie => "a=$new; a=$owner")->status(), 200, 'in either order');
is(page(with($new)), '200 alice', 'it goes on');

# --- logout, renewal ---

$client = logged_in();
$t->advance(600);
$owner = $client->cookie('a');
$new = handed(with($owner));
with($new);
$response = client(no_cookies => 1)->request('POST', '/logout', body => '', fetched(), Cookie => "a=$owner");
is($response->status(), 204, 'a logout with the token of before, within the grace');
is(page(with($new)), '401 ended', 'ends the session');

$client = logged_in();
$t->advance(600);
$owner = $client->cookie('a');
$response = with($owner, '/', fetched(), 'X-Say' => 'renew');
my $renewed = handed($response);
isnt(substr($renewed, 0, 20), substr($owner, 0, 20), 'renewed when a rotation was due: one new cookie, of the new handle');
is(() = $response->raw() =~ m/^Set-Cookie:/gmix, 1, 'and no other') if $response->can('raw');
is(handed(with($owner)), undef, 'the old handle is not rotated any more');
is(page(with($renewed)), '200 alice', 'the new one is good');

$client = logged_in();
$t->advance(600);
$response = $client->request('POST', '/logout', body => '', fetched());
like($response->header('Set-Cookie'), qr/Max-Age=0/x, 'a logout when a rotation is due: the cookie goes');

# --- off, and by default ---

$client = logged_in('/b/login');
$t->advance(3500);
is($client->get('/b', fetched())->header('Set-Cookie'), undef, 'rotate off: never');
$client = logged_in('/c/login');
$t->advance(899);
is($client->get('/c', fetched())->header('Set-Cookie'), undef, 'by default');
$t->advance(1);
like($client->get('/c', fetched())->header('Set-Cookie'), qr/\Ac=/x, 'after 15 minutes');

done_testing();
