#!/usr/bin/perl

# conf.example as a whole: what a newcomer sees after `make run`, and an operator copies.  It would
# show an example that has fallen behind the module, or a demo whose pages do not work together.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;

my $top = "$FindBin::Bin/..";
my $t = Test::Nginx->new()->has(qw(http http_ssl socket_ssl proxy ssi map rewrite session_guard))->plan(38);

sub content {
    my ($file) = @_;
    open(my $fh, '<:raw', "$top/$file") or die "$file: $!\n";
    my $text = do { local $/ = undef; <$fh> };
    close $fh or die "$file: $!\n";
    return $text;
}

# The example itself; only where this test wants its own files and ports.
my $conf = content('conf.example');
$conf =~ s/^load_module[ ].*$/%%TEST_GLOBALS%%/xm;
$conf =~ s/^(?:pid|error_log)[ ].*$//xmg;
$conf =~ s{keys/localhost[.]}{localhost.}xg;
$conf =~ s/\$host:8443/\$host:%%PORT_8443%%/x;

$t->ssl_cert();
$t->make_directory($_) for qw(logs tmp);
$t->write_private_file('keys/app.keys', '5e' x 32 . "\n");
for my $page (qw(home.html login.html bye.html assets/demo.css assets/demo.js assets/icon.svg)) {
    $t->write_file("demo/$page", content("docs/demo/$page"));
}
$t->write_file_expand('nginx.conf', $conf)->run();

# As a browser sends it.
my @page = (
    'Accept'         => 'text/html',
    'Sec-Fetch-Site' => 'same-origin',
    'Sec-Fetch-Mode' => 'navigate',
    'Sec-Fetch-Dest' => 'document',
);
my @form = (@page, 'Content-Type' => 'application/x-www-form-urlencoded');
my $browser = client(ssl => 1);
my $r;

# Not logged in.

$r = $browser->get('/api/hello');
is($r->status(), 401, 'the API wants a session');
is($r->header('Content-Type'), 'application/problem+json', 'and says so to a program');
like($r->body(), qr/"reason":"none"/x, 'with the reason');
is($r->header('Session-Status'), 'none', 'in a header too');

$r = $browser->get('/reports/2025?page=2', @page);
is($r->status(), 303, 'a page leads to the login');
my $login = $r->header('Location');
is($login, '/login?return=/reports/2025%3Fpage%3D2&reason=none', 'which is told the way back');

$r = $browser->get($login, @page);
is($r->status(), 200, 'the login page is open');
like($r->body(), qr/Please[ ]log[ ]in[ ]to[ ]see[ ]that[ ]page/x, 'it gives the reason');
like($r->body(), qr/<form[ ]method="post">/x, 'it has the form');
like($r->header('Content-Security-Policy'), qr/default-src[ ]'none'/x, 'its content is restricted');
is($browser->get('/assets/demo.css', @page)->header('Content-Type'), 'text/css; charset=utf-8', 'the style sheet is open');

# Logging in.

$r = $browser->post($login, 'user=alice&password=guess', @form);
is($r->status(), 403, 'a wrong password is refused');
like($r->body(), qr/not[ ]the[ ]password/x, 'on the login page');
$r = $browser->post($login, 'user=%22%3E%3Cb%3E&password=demo', @form);
like($r->body(), qr/A[ ]name[ ]is[ ]1[ ]to[ ]32[ ]letters/x, 'a strange name is explained');
is($browser->cookie('__Host-id'), undef, 'neither opens a session');

$r = $browser->post($login, 'user=alice&password=demo', 'Sec-Fetch-Site' => 'cross-site', Origin => 'https://evil.example');
is($r->status(), 403, 'another site cannot log the user in');

$r = $browser->post($login, 'user=admin.jo&password=demo', @form);
is($r->status(), 303, 'the right password leads on');
is($r->header('Location'), '/reports/2025?page=2', 'to the page that was asked for');
is($r->header('X-Accel-Session'), undef, 'the command is kept from the browser');
my $cookie = $r->set_cookie('__Host-id');
ok($cookie->{attributes}{secure} && $cookie->{attributes}{httponly}, 'the cookie is Secure and HttpOnly');

$r = client(ssl => 1)->post('/login?return=//evil.example/', 'user=alice&password=demo', @form);
is($r->header('Location'), '/', 'never to another site');

# Logged in.

$r = $browser->get('/reports/2025?page=2', @page);
is($r->status(), 200, 'the page is shown');
like($r->body(), qr/Hello,[ ]admin[.]jo[.]/x, 'it greets the user');
like($r->body(), qr/<dd[ ]id="roles">admin[ ]editor</x, 'knows the roles');
like($r->body(), qr/<code>[\w-]{16}</x, 'and names the session');

$r = $browser->get('/api/hello', 'X-User' => 'root', 'X-User' => 'root');
is($r->body(), qq({"message":"Hello, admin.jo.","roles":"admin editor"}\n), 'the API knows the user, whatever the client says');

$t->advance(60);
$r = $browser->get('/api/news');
is($r->status(), 200, 'news come');
like($browser->get('/session')->body(), qr/"idle_left":(?:840|83\d)\b/x, 'without prolonging the session');
like($browser->post('/session', '')->body(), qr/"idle_left":(?:900|89\d)\b/x, 'which a POST does');

# Logged out.

my $thief = $browser->clone();
$r = $browser->post('/logout', '', @form);
is($r->header('Location'), '/bye', 'logout leads to a page');
is($browser->cookie('__Host-id'), undef, 'the cookie is gone');
like($browser->get('/bye', @page)->body(), qr/You[ ]are[ ]logged[ ]out/x, 'the page says so');
$r = $thief->get('/api/hello');
like($r->body(), qr/"reason":"ended"/x, 'a copy of the cookie is worthless');

# Timed out.

$browser->post('/login', 'user=bob&password=demo', @form);
$t->advance(901);
$r = $browser->get('/', @page);
is($r->header('Location'), '/login?return=/&reason=expired_idle', 'too long away leads to the login');
like($browser->get('/login?reason=expired_idle', @page)->body(), qr/You[ ]were[ ]away/x, 'which says why');

# Plain http.

$r = client(port => 8444)->get('/x?y');
is($r->status(), 308, 'plain http is sent away');
is($r->header('Location'), 'https://localhost:' . port(8443) . '/x?y', 'to https');

like($t->read_file('logs/access.log'), qr/user=admin[.]jo[ ]session=[\w-]{16}[ ]refused=-/x, 'the log tells who');
