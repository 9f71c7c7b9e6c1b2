#!/usr/bin/perl

# Subrequests and caches: each location answers for itself, nothing is inherited, and what was made
# for one is not shown to another.
# Attacks: a guarded fragment included from a public page (SSI, addition, mirror); one user's cached
# page served to another; an upstream that must not mint sessions, by a fragment or from the cache;
# header spoofing; a token shown by a page.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http http_ssl proxy cache ssi addition mirror auth_request slice rewrite session_guard));

# Does as the request says: c=who is logged in, b=a fragment to include; says who it was asked for.
my $asked = 0;
my $app = $t->recorder(8081, sub {
    my ($request) = @_;
    my %argument = $request->uri() =~ m/[?&](\w+)=([^&]*)/gx;
    my @header = ('Content-Type' => 'text/html');
    push @header, 'X-Accel-Session' => qq(create; user="$argument{c}") if $argument{c};
    push @header, 'X-Accel-Expires' => '@1' if $argument{stale};    # kept, and stale from the start
    my $body = sprintf "[%s %s %d]", $request->path(), $request->header('X-User') // '-', ++$asked;
    $body .= qq(<!--#include virtual="$argument{b}" -->) if $argument{b};
    if (my ($first, $last) = ($request->header('Range') // '') =~ m/bytes=(\d+)-(\d+)/x) {
        my $whole = '0123456789';
        $last = 9 if $last > 9;
        push @header, 'Content-Range' => "bytes $first-$last/10";
        return [ 206, \@header, substr $whole, $first, $last - $first + 1 ];
    }
    return [ 200, \@header, $body ];
});

sub include { return qq(<!--#include virtual="$_[0]" -->) }

$t->write_file('free-page/in.html', 'page ' . include('/in/fragment') . ' end');
$t->write_file('free-page/both.html', 'page ' . include('/in/one') . include('/free/two') . include('/in/three') . ' end');
$t->write_file('free-page/optional.html', 'page ' . include('/optional/fragment') . ' end');
$t->write_file('free-page/mint.html', 'page ' . include('/trusted/fragment?c=bob') . ' end');
$t->write_file('free-page/redirect.html', 'page ' . include('/to-in') . ' end');
$t->write_file('free-page/error.html', 'page ' . include('/missing/x') . ' end');
$t->write_file('free-page/static.html', 'page ' . include('/in-static/secret.html') . ' end');
$t->write_file('free-page/nested.html', 'page ' . include('/free-page/in.html') . ' end');
$t->write_file('free-page/echo.html', join ' ', map { qq(<!--#echo var="$_" -->) } qw(HTTP_COOKIE cookie_sid http_cookie HTTP_X_USER session_user));
$t->write_file('free-page/cached.html', 'page ' . include('/cached-login/shared?c=bob') . ' end');
$t->write_file('in-page/echo.html', '<!--#echo var="session_user" --> ' . include('/free-page/echo.html'));
$t->write_file('in-static/secret.html', 'secret');
$t->write_file('added/page.html', 'page');
$t->make_directory('cache');
$t->make_directory('stored');
my $conf = <<'EOC';
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app { zone 1m; cookie sid secure=off; identity X-User=$session_user X-Roles=$session_roles; }

    types { text/html html; }
    default_type text/html;
    proxy_cache_path %%TESTDIR%%/cache keys_zone=cache:1m;
    proxy_cache_key  $uri$is_args$args;
    proxy_http_version 1.1;

    upstream app { server 127.0.0.1:8081; }

    server {
        listen 127.0.0.1:8080;
        add_header X-Cache $upstream_cache_status;

        location /in/      { session app; proxy_pass http://app; }
        location /free/    { proxy_pass http://app; }
        location /optional/ { session app optional; proxy_pass http://app; }
        location /trusted/ { session app optional; session_control on; proxy_pass http://app; }
        location /in-static/ { session app; }
        location /to-in    { rewrite ^ /in/redirected last; }
        location /missing/ { error_page 404 = /in/missing; }

        location /free-page/ { ssi on; ssi_silent_errors off; }
        location /in-page/   { ssi on; session app; }
        location /in-ssi/    { ssi on; session app; proxy_pass http://app/in/; }
        location /free-ssi/  { ssi on; proxy_pass http://app/free/; }

        location /added/     { add_before_body /free/before; add_after_body /in/after; addition_types *; }
        location /in-added/  { session app; alias %%TESTDIR%%/added/; add_before_body /free/before; add_after_body /in/after; addition_types *; }

        location /mirrored/    { mirror /mirror-free; mirror /mirror-in; mirror /mirror-mint; proxy_pass http://app/free/; }
        location /in-mirrored/ { session app; mirror /mirror-free; mirror /mirror-in; mirror /mirror-mint; proxy_pass http://app/in/; }
        location = /mirror-free { internal; proxy_pass http://app/free/mirror; }
        location = /mirror-in   { internal; session app; proxy_pass http://app/in/mirror; }
        location = /mirror-mint { internal; session app optional; session_control on; proxy_pass http://app/free-or-not/mirror?c=bob; }

        location /free-after/ { proxy_pass http://app/free/; post_action /post-in; }
        location /in-after/   { session app; proxy_pass http://app/in/; post_action /post-free; }
        location = /post-in   { internal; session app; proxy_pass http://app/in/post; }
        location = /post-free { internal; proxy_pass http://app/free/post; }

        # caches
        proxy_cache_valid 200 206 1h;
        location /in-cache/       { session app; proxy_cache cache; proxy_pass http://app/in/; }
        location /in-shared/      { session app; session_cache on; proxy_cache cache; proxy_pass http://app/in/; }
        location /optional-cache/ { session app optional; proxy_cache cache; proxy_pass http://app/optional/; }
        location /free-cache/     { proxy_cache cache; proxy_pass http://app/free/; }
        location /cached-login/   { session app optional; session_control create; proxy_cache cache; proxy_pass http://app/optional/; }
        location /hidden-login/   { session app optional; session_control create; proxy_hide_header X-Accel-Session; proxy_pass http://app/optional/; }
        location /in-stored/      { session app; alias %%TESTDIR%%/stored/; proxy_store on; proxy_pass http://app/in/; }

        location /in-stale/       { session app; session_cache on; proxy_cache cache; proxy_cache_use_stale updating;
                                    proxy_cache_background_update on; proxy_pass http://app/in/; }
        location /trusted-stale/  { session app optional; session_cache on; session_control on; proxy_cache cache; proxy_cache_use_stale updating;
                                    proxy_cache_background_update on; proxy_pass http://app/trusted/; }

        proxy_set_header Range $slice_range;
        location /in-slice/        { session app; slice 4; proxy_cache cache; proxy_cache_key $uri$slice_range; proxy_pass http://app/in/; }
        location /in-slice-shared/ { session app; session_cache on; slice 4; proxy_cache cache; proxy_cache_key $uri$slice_range; proxy_pass http://app/in/; }
    }
}
EOC

# A cache filled before there was a session_realm: nothing kept the command out of it then.
my $before = $conf;
$before =~ s/^\s*session_realm[^\n]*\n//xmg;
$before =~ s/session(?:_\w+)?[ ][^;]*;//xg;
$before =~ s/\$session_\w+/-/xg;
$t->write_file_expand('nginx.conf', $before)->run();
client()->get($_) for '/cached-login/long-ago?c=bob', '/trusted-stale/x?stale=1&c=bob';
$t->stop();
$t->write_file_expand('nginx.conf', $conf)->run();

my $nobody = client();
my $alice = client();
my $bob = client();
$alice->get('/trusted/login?c=alice');
$bob->get('/trusted/login?c=bob');
ok($alice->cookie('sid') && $bob->cookie('sid'), 'two sessions');
my $r;

# Who was asked for, since the last time: "path user".
my $last = 0;

sub news {
    my (%option) = @_;
    $t->wait_for(sub { $app->count() >= $last + $option{wait} }) if $option{wait};
    my @requests = $app->requests();
    my @news = map { $_->path() . ' ' . ($_->header('X-User') // '-') } @requests[ $last .. $#requests ];
    $last = @requests;
    @news = sort @news;
    return join ', ', @news;
}
news();

# --- SSI ---

for my $page (qw(in nested redirect error static)) {
    $r = $nobody->get("/free-page/$page.html", spoofed());
    is($r->status(), 200, "SSI, $page: a public page is shown");
    like($r->body(), qr/page[ ].*end/xs, "SSI, $page: as a whole");
    unlike($r->body(), qr/secret|\[/x, "SSI, $page: without the guarded fragment");
    is($r->header('Set-Cookie') // $r->header('Location'), undef, "SSI, $page: the fragment's refusal is not the page's");
    is(news(), '', "SSI, $page: the upstream was not asked");
}
is(($alice->get('/free-page/in.html', spoofed()), news())[1], '/in/fragment alice', 'SSI: with a session it is');
like($alice->get('/free-page/static.html')->body(), qr/secret/x, 'SSI: a guarded file too');
is(($nobody->get('/free-page/both.html', spoofed()), news())[1], '/free/two -', 'SSI: fragment by fragment');
is(($alice->get('/free-page/both.html', spoofed()), news())[1], '/free/two -, /in/one alice, /in/three alice', 'SSI: identity to the guarded ones only');
is(($nobody->get('/free-page/optional.html', spoofed()), news())[1], '/optional/fragment -', 'SSI: optional, nobody');
is(($alice->get('/free-page/optional.html', spoofed()), news())[1], '/optional/fragment alice', 'SSI: optional, a session');
is(($alice->get('/in-ssi/main?b=/free/two', spoofed()), news())[1], '/free/two -, /in/main alice', 'SSI: nothing goes from page to fragment');
is(($alice->get('/free-ssi/main?b=/in/two', spoofed()), news())[1], '/free/main -, /in/two alice', 'SSI: nor back');
is(($nobody->get('/in-ssi/main?b=/free/two', spoofed()), news())[1], '', 'SSI: a refused page has no fragments');
$r = $nobody->get('/free-page/mint.html');
is($r->header('Set-Cookie') // $r->header('X-Accel-Session'), undef, 'SSI: a fragment mints nothing');
is(news(), '/trusted/fragment -', 'SSI: though it was asked');
like($t->read_file('error.log'), qr/\[warn\].*X-Accel-Session[ ]of[ ]a[ ]subrequest[ ]removed/x, 'SSI: the log says so');
$alice->get('/free-page/mint.html');
is(($alice->get('/in/x'), news())[1], '/in/x alice, /trusted/fragment alice', 'SSI: and nobody becomes another');
$r = $alice->get('/free-page/echo.html', spoofed());
unlike($r->body(), qr/sid|[\w-]{64}|mallory|alice/x, 'SSI: a page cannot show the cookie');
$r = $alice->get('/in-page/echo.html', spoofed());
like($r->body(), qr/\Aalice[ ]/x, 'SSI: but who it is, in a guarded page');
unlike($r->body(), qr/sid|[\w-]{64}|mallory|alice.*alice/x, 'SSI: and there alone');

# --- addition ---

is(($r = $nobody->get('/added/page.html', spoofed()), news())[1], '/free/before -', 'addition: the free part only');
like($r->body(), qr/\A\[\/free\/before[ ]-[ ]\d+\]page/x, 'addition: the page is shown');
is(($alice->get('/added/page.html', spoofed()), news())[1], '/free/before -, /in/after alice', 'addition: with a session');
is(($nobody->get('/in-added/page.html', spoofed()), news())[1], '', 'addition: a refused page has none');
is(($alice->get('/in-added/page.html', spoofed()), news())[1], '/free/before -, /in/after alice', 'addition: a guarded page');

# --- mirror ---

$r = $nobody->post('/mirrored/x', 'body', spoofed());
is($r->status() . ($r->header('Set-Cookie') // ''), 200, 'mirror: a public page');
is(news(wait => 3), '/free-or-not/mirror -, /free/mirror -, /free/x -', 'mirror: not to the guarded one');
$r = $alice->post('/mirrored/x', 'body', spoofed(), fetched());
is(news(wait => 4), '/free-or-not/mirror alice, /free/mirror -, /free/x -, /in/mirror alice', 'mirror: with a session');
is(join(' ', map { $_->body() } ($app->requests())[ -4 .. -1 ]), 'body body body body', 'mirror: all have the body');
$r = $alice->post('/in-mirrored/x', 'body', spoofed(), fetched());
is(news(wait => 4), '/free-or-not/mirror alice, /free/mirror -, /in/mirror alice, /in/x alice', 'mirror: of a guarded page');
is($r->header('Set-Cookie'), undef, 'mirror: mints nothing');
$nobody->post('/in-mirrored/x', 'body', spoofed());
$nobody->get('/free/after-mirror');
is(news(), '/free/after-mirror -', 'mirror: nothing of a refused page');

# --- after the answer ---

$nobody->get('/free-after/x', spoofed());
$nobody->get('/free/after-post-action');
is(news(), '/free/after-post-action -, /free/x -', 'post_action: not without a session');
$alice->get('/free-after/x', spoofed());
is(news(wait => 2), '/free/x -, /in/post alice', 'post_action: with one');
$alice->get('/in-after/x', spoofed());
is(news(wait => 2), '/free/post -, /in/x alice', 'post_action: nothing goes from page to action');

# --- caches: one user's page ---

$alice->get('/in-cache/page') for 1, 2;
is($alice->get('/in-cache/page')->header('X-Cache'), 'MISS', 'cache: a page made for one user is not kept');
like($bob->get('/in-cache/page')->body(), qr/bob/x, 'cache: another gets their own');
is(news(), '/in/page alice, /in/page alice, /in/page alice, /in/page bob', 'cache: all were asked for');
is($nobody->get('/in-cache/page')->status(), 401, 'cache: nobody gets none');
is($alice->get('/in-shared/page')->header('X-Cache'), 'MISS', 'session_cache on: asked once');
is($bob->get('/in-shared/page')->header('X-Cache'), 'HIT', 'session_cache on: kept for all who are let in');
is($nobody->get('/in-shared/page')->status(), 401, 'session_cache on: and for nobody else');
is(news(), '/in/page alice', 'session_cache on: the upstream was asked once');
$alice->get('/optional-cache/page');
like($nobody->get('/optional-cache/page')->body(), qr/optional\/page[ ]-/x, 'optional: what a session was shown is not kept');
is($nobody->get('/optional-cache/page')->header('X-Cache'), 'HIT', 'optional: what nobody was shown is');
news();
$alice->get('/in-stored/page');
is(join(' ', glob $t->testdir() . '/stored/*'), '', 'proxy_store: neither');
news();

# --- caches: logins ---

my @minted = map { my $c = client(); $c->get('/cached-login/x?c=alice'); $c->cookie('sid') // '' } 1, 2;
ok($minted[0] && $minted[1] && $minted[0] ne $minted[1], 'a login is not kept: each mints its own');
is(news(), '/optional/x -, /optional/x -', 'a login is not kept: each is asked for');
$nobody->get('/free-cache/x?c=bob') for 1, 2;
is(news(), '/free/x -, /free/x -', 'nor is one without session_control');
$nobody->get('/free-page/cached.html') for 1, 2;
is(news(), '/optional/shared -, /optional/shared -', 'a fragment with a command is not kept: it names a user');
$r = $nobody->get('/cached-login/long-ago?c=bob');
is($r->header('X-Cache'), 'HIT', 'a command that was kept before there was a realm');
is($r->header('Set-Cookie') // $r->header('X-Accel-Session'), undef, 'mints nothing from the cache');
is(news(), '', 'the upstream was not asked');
my $hidden = client();
$hidden->get('/hidden-login/x?c=alice');
ok($hidden->cookie('sid'), 'proxy_hide_header does not hide the command from the proxy');
news();

# --- update in the background ---

$alice->get('/in-stale/page?stale=1');
is(news(), '/in/page alice', 'background update: a first answer, stale from the start');
$r = $bob->get('/in-stale/page?stale=1', spoofed());
is($r->header('X-Cache'), 'STALE', 'background update: shown');
is(news(wait => 1), '/in/page bob', 'background update: and asked for again, by who came');
is($nobody->get('/in-stale/page?stale=1')->status(), 401, 'background update: not by nobody');
$nobody->get('/free/after-update');
is(news(), '/free/after-update -', 'background update: the upstream was not asked');
# Kept with its command before there was a realm.
$r = $nobody->get('/trusted-stale/x?stale=1&c=bob');
is($r->header('X-Cache') . ($r->header('Set-Cookie') // ''), 'STALE', 'background update: a kept command mints nothing');
is(news(wait => 1), '/trusted/x -', 'background update: asked for again');

# --- slices ---

for my $where (qw(in-slice in-slice-shared)) {
    $r = $alice->get("/$where/file", spoofed());
    is($r->body(), '0123456789', "$where: a file in slices");
    is(news(), '/in/file alice, /in/file alice, /in/file alice', "$where: each asked for by the session");
}
is($bob->get('/in-slice/file')->body(), '0123456789', 'in-slice: another user');
is(news(), '/in/file bob, /in/file bob, /in/file bob', 'in-slice: asks again, slice by slice');
is($bob->get('/in-slice-shared/file')->body(), '0123456789', 'in-slice-shared: another user');
is(news(), '', 'in-slice-shared: does not');
$r = $bob->get('/in-slice/file', Range => 'bytes=5-6');
is($r->status() . $r->body(), '20656', 'a range of it');
is(news(), '/in/file bob', 'is one slice');
is($nobody->get("/$_/file")->status(), 401, "$_: nobody gets none") for qw(in-slice in-slice-shared);
is(news(), '', 'and the upstream was not asked');

nothing_foul($app, qr{\A/in/}x, qr{\A/free/}x, 'the upstream was sent nothing foul');

done_testing();
