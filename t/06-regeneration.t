#!/usr/bin/perl

# A session under a new handle: after renew, reauth and changed roles or level; and what becomes of
# requests that were under way, with the old one or with answers that come late.
# Attacks: session fixation (whoever knows the old token is never handed the new one, and gains no role
# or level by the change); theft of a cookie (a stolen token dies with the change); resurrection by a
# slow request or late write (an answer that is late for the logout); a session kept alive for ever by
# renewing it.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http proxy empty_gif session_guard));

# Says what X-Say asks for (hexadecimal), when the file X-Wait is there; with X-To it sends the request
# on to /slow inside nginx, whose answer is the one that waits.
my $up = $t->recorder(8081, sub {
    my ($request) = @_;
    my $say = $request->header('X-Say');
    my $wait = $request->header('X-Wait');
    my $to = $request->header('X-To');
    my $slow = $request->path() eq '/slow';
    return [
        200,
        [
            ($say && !$slow ? ('X-Accel-Session' => pack 'H*', $say) : ()),
            ($to && !$slow ? ('X-Accel-Redirect' => $to) : ()),
        ],
        "said\n",
        ($wait && (!$to || $slow) ? (wait_file => $wait) : ()),
    ];
});

$t->write_private_file('app.keys', '06' x 32 . "\n");
$t->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
worker_processes 2;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app {
        zone 1m; key_file app.keys; cookie sid secure=off; idle_timeout 15m; absolute_timeout 8h;
        identity X-User=$session_user X-Roles=$session_roles X-Level=$session_level;
    }
    upstream app { server 127.0.0.1:8081; }

    server {
        listen 127.0.0.1:8080;
        session app;

        location /          { session_control on; proxy_pass http://app; }
        location = /login   { session app optional; session_control create; proxy_pass http://app; }
        location = /page    { session_login /form; proxy_pass http://app; }
        location = /slow    { proxy_pass http://app; }
        location = /form    { session off; proxy_pass http://app; }
        location = /logout  { session_logout; }
        location = /session { session_info; }
        location = /who {
            session_touch off;
            add_header X-Who "$session_user|$session_roles|$session_level|$session_attr_theme";
            add_header X-Auth-Age $session_auth_age;
            add_header X-Left "$session_idle_left $session_absolute_left";
            empty_gif;
        }
    }
}
EOC

my ($r, $c, $old, $thief, @parallel);

sub said { return ('X-Say' => unpack 'H*', shift) }

sub say_at {
    my ($client, $say, %other) = @_;
    return $client->post($other{at} // '/app', '', fetched(), said($say));
}

# A request whose answer waits for go().
my ($waits, $under_way) = (0, 0);

sub slow {
    my ($client, $say, %other) = @_;
    $under_way ||= $up->count();
    my $pending = $client->start(
        POST => $other{at} // '/app',
        { body => '', no_cookies => 0 },
        fetched(), ($say ? said($say) : ()), 'X-Wait' => "go-$waits",
        ($other{to} ? ('X-To' => $other{to}) : ()),
    );
    $under_way += $other{to} ? 2 : 1;
    $up->wait_for($under_way) or die "the upstream was not asked\n";
    return $pending;
}

sub go {
    $t->write_file("go-$waits", '');
    $waits++;
    $under_way = 0;
    return;
}

sub logged_in {
    my ($say) = @_;
    my $client = client();
    say_at($client, $say // 'create; user="alice"; roles="editor admin"; level=aal2; data.theme="dark"', at => '/login');
    return $client;
}

sub who {
    my ($client) = @_;
    my $response = $client->get('/who', fetched());
    return $response->status() == 200 ? $response->header('X-Who') : reason($response);
}

sub header_of {
    my ($client, $name) = @_;
    return $client->get('/who', fetched())->header($name) // 'none';
}

# Status of an answer, and whether it sets, expires or leaves our cookie.
sub outcome {
    my ($response) = @_;
    my @cookies = $response->set_cookies();
    my $what = !@cookies ? 'none' : Test::Nginx::Response::is_expiry($cookies[0]) ? 'expired' : 'token';
    return $response->status() . ' ' . join ' ', $what, @cookies > 1 ? 'several' : ();
}

# As an upstream is told.
sub told {
    my ($client) = @_;
    my $response = $client->get('/app/told', fetched());
    return reason($response) if $response->status() != 200;
    return join '|', map { $up->last()->header($_) // '-' } qw(X-User X-Roles X-Level);
}

my $all = 'alice|editor admin|aal2|dark';

# --- each change: a new token, and ten seconds for the old one ---

my @change = (
    # what is said, who the new and the old token are afterwards
    [ 'renew',                                    'editor admin|aal2',  'editor admin|aal2' ],
    [ 'reauth',                                   'editor admin|aal2',  'editor admin|aal2' ],
    [ 'reauth; level=aal3',                       'editor admin|aal3',  'editor admin|aal2' ],
    [ 'reauth; level=aal1',                       'editor admin|aal1',  'editor admin|aal1' ],
    [ 'update; level=aal3',                       'editor admin|aal3',  'editor admin|aal2' ],
    [ 'update; level=aal1',                       'editor admin|aal1',  'editor admin|aal1' ],
    [ 'update; roles="editor admin root"',        'editor admin root|aal2', 'editor admin|aal2' ],
    [ 'update; roles="admin"',                    'admin|aal2',         'admin|aal2' ],
    [ 'update; roles="auditor admin"; level=aal3', 'auditor admin|aal3', 'admin|aal2' ],
    [ 'update; roles="auditor"',                  'auditor|aal2',       '|aal2' ],
    [ 'update; roles=""',                         '|aal2',              '|aal2' ],
    [ 'update; roles="editor admin"',             'editor admin|aal2',  'editor admin|aal2' ],
    [ 'update; roles="edit adm admin2"',          'edit adm admin2|aal2', '|aal2' ],
);
for my $row (@change) {
    my ($say, $new_is, $old_is) = @{$row};
    $c = logged_in();
    $old = $c->clone();
    $r = say_at($c, $say);
    is(outcome($r), '200 token', "$say: a token");
    is($r->header('Cache-Control'), 'no-store', "$say: not to be kept");
    isnt($c->cookie('sid'), $old->cookie('sid'), "$say: a new one");
    is(who($c), "alice|$new_is|dark", "$say: who the new one is");
    is(who($old), "alice|$old_is|dark", "$say: the old one has what both have");
    (my $both = $old_is) =~ s/\A[|]/-|/x;
    is(told($old), "alice|$both", "$say: upstreams are told so") if $old_is !~ m/\A[|]/x;
    $r = $old->get('/app', navigation());
    is(outcome($r), '200 none', "$say: the old one is let in, and gets no cookie");
    is(index($r->raw(), $c->cookie('sid')), -1, "$say: nor the new token anywhere");
    $t->advance(8);
    is(outcome($old->get('/app', fetched())), '200 none', "$say: for eight seconds more");
    $t->advance(2);
    is(who($old), 'regenerated', "$say: not for ten");
    $r = $old->get('/app', navigation());
    is(outcome($r), '401 none', "$say: then refused, without a touch to the cookie");
    is($old->get('/page', navigation())->header('Location'), '/form?return=/page&reason=regenerated', "$say: or sent to the login");
    is(who($c), "alice|$new_is|dark", "$say: the new one goes on");
}

for my $say ('update; data.theme="light"', 'update') {
    $c = logged_in();
    $old = $c->clone();
    is(outcome(say_at($c, $say)), '200 none', "$say: no token");
    $t->advance(20);
    is(who($old), $say eq 'update' ? $all : 'alice|editor admin|aal2|light', "$say: the token stays good");
}

# --- what the old token may not ---

$c = logged_in();
$old = $c->clone();
say_at($c, 'renew');
for my $say ('update; data.theme="evil"', 'update; roles="root"', 'renew', 'reauth; level=aal3') {
    is(outcome(say_at($old, $say)), '200 none', "with the old token, $say: no cookie");
    is(who($c), $all, "with the old token, $say: nothing happens");
}
is(who($old), $all, 'the old token itself is still good');
$t->reload();
is(who($old), $all, 'after a reload too');

$c = logged_in('create; user="alice"; idle=20');
$t->advance(15);
$old = $c->clone();
say_at($c, 'renew');
$t->advance(8);
is($old->get('/app', fetched())->status() . $old->post('/session', '', fetched())->status(), '200200', 'the old token eight seconds later');
$t->advance(13);
is(who($c), 'expired_idle', 'does not count as activity');

# Only with the new one the session goes on.
$c = logged_in('create; user="alice"; idle=20');
$t->advance(15);
$old = $c->clone();
say_at($c, 'renew');
$t->advance(8);
$c->get('/app', fetched());
$t->advance(13);
is(who($c), 'alice||aal1|', 'as the new token does');

# Again and again: each old token has its own ten seconds, and never more than all of them had.
$c = logged_in();
my @before;
for my $roles ('editor admin', 'admin', 'admin root') {
    push @before, $c->clone();
    say_at($c, "update; roles=\"$roles\"");
    $t->advance(4);
}
is(join(' ', map { who($_) } @before), "regenerated alice|admin|aal2|dark alice|admin|aal2|dark", 'three changes: the tokens before them');
$t->advance(4);
is(join(' ', map { who($_) } @before), "regenerated regenerated alice|admin|aal2|dark", 'three changes: four seconds later');
$t->advance(4);
is(join(' ', map { who($_) } @before), 'regenerated regenerated regenerated', 'three changes: eight seconds later');
is(who($c), 'alice|admin root|aal2|dark', 'three changes: the last one is good');
$c = logged_in('create; user="alice"; roles="a b c"');
$old = $c->clone();
say_at($c, 'update; roles="b c"');
say_at($c, 'update; roles="a b"');
like(who($old), qr/\Aalice[|](?:a[ ])?b[|]/x, 'two changes: no role that the newest has not');
@before = ();
$c = logged_in();
$old = $c->clone();
for (1 .. 20) {
    push @before, $c->clone();
    say_at($c, 'renew');
}
is(who($c), $all, 'twenty changes in a row: the last token is good');
is(who($before[-1]), $all, 'twenty changes in a row: so is the one before');
like(who($old), qr/\A(?:regenerated|\Q$all\E)\z/x, 'twenty changes in a row: the first is good or replaced');

# --- requests under way ---

$c = logged_in();
@parallel = map { slow($c) } 1 .. 5;
$thief = $c->clone();
say_at($c, 'update; roles="editor admin root"');
my $token = $c->cookie('sid');
go();
my @answers = map { $c->clone()->finish($_) } @parallel;
is(join(' ', map { outcome($_) } @answers), join(' ', ('200 none') x 5), 'under way during a change: all are answered, without a cookie');
is(scalar(grep { index($_->raw(), $token) >= 0 } @answers), 0, 'under way during a change: none is given the new token');

$c = logged_in();
@parallel = (slow($c));
say_at($c, 'renew');
$t->advance(60);
go();
is(outcome($c->finish($parallel[0])), '200 none', 'under way until after the ten seconds: answered as well');
is(who($c), $all, 'under way until after the ten seconds: the session goes on');

for my $say ('renew', 'reauth; level=aal3', 'update; roles="editor admin root"') {
    $c = logged_in();
    @parallel = map { slow($c, $say) } 1 .. 4;
    go();
    my @jar = map { $c->clone() } @parallel;
    @answers = map { $jar[$_]->finish($parallel[$_]) } 0 .. $#parallel;
    my @token = grep { outcome($_) eq '200 token' } @answers;
    my @plain = grep { outcome($_) eq '200 none' } @answers;
    is(@token . ' ' . @plain, '1 3', "$say four times at once: one token only");
    my ($winner) = grep { outcome($answers[$_]) eq '200 token' } 0 .. $#answers;
    my ($loser) = grep { outcome($answers[$_]) eq '200 none' } 0 .. $#answers;
    like(who($jar[$winner]), qr/\Aalice[|]editor[ ]admin/x, "$say four times at once: it is good");
    like(who($jar[$loser]), qr/\Aalice[|]editor[ ]admin[|]aal2/x, "$say four times at once: so is the old one");
    $t->advance(10);
    is(who($jar[$loser]), 'regenerated', "$say four times at once: for ten seconds");
    unlike(who($jar[$winner]), qr/\Aregenerated\z/x, "$say four times at once: the new one stays");
}

# A late update, whose session is another by now.
for my $seconds (0, 5, 60) {
    $c = logged_in();
    @parallel = (slow($c, 'update; data.theme="late"'));
    my $clone = $c->clone();
    say_at($c, 'renew');
    say_at($c, 'renew');
    $t->advance($seconds);
    go();
    is(outcome($clone->finish($parallel[0])), '200 none', "an update $seconds s late: no cookie");
    is(who($c), 'alice|editor admin|aal2|late', "an update $seconds s late: reaches the successor");
}
$c = logged_in();
@parallel = (slow($c, 'update; roles="editor"'));
$old = $c->clone();
say_at($c, 'update; data.theme="light"; roles="editor admin root"');
go();
is(outcome($old->finish($parallel[0])), '200 none', 'late roles: no cookie for the old token');
is(who($c), 'alice|editor|aal2|light', 'late roles: the successor has them, and keeps the rest');
is(who($old), 'alice|editor|aal2|dark', 'late roles: the old token has no more, and its own data');
$c = logged_in();
@parallel = (slow($c, 'update; roles="root"; data.theme="evil"'));
$old = $c->clone();
say_at($c, 'create; user="bob"');
go();
is(outcome($old->finish($parallel[0])), '200 none', 'an update late for a new login: no cookie');
is(who($c), 'bob||aal1|', 'an update late for a new login: is not the new session\'s');
is(who($old), 'regenerated', 'an update late for a new login: the old session has ended');

# --- ended stays ended ---

for my $out ('/logout', 'destroy') {
    for my $say ('renew', 'reauth; level=aal3', 'update; roles="root"', 'update; data.theme="late"') {
        $c = logged_in();
        @parallel = (slow($c, $say));
        $old = $c->clone();
        my $other = $c->clone();
        $r = $out eq 'destroy' ? say_at($c, 'destroy') : $c->post('/logout', '', fetched());
        like(outcome($r), qr/expired/x, "$say while $out: logged out");
        go();
        is(outcome($old->finish($parallel[0])), '200 none', "$say while $out: the late answer sets no cookie");
        is(who($old), 'ended', "$say while $out: the session stays ended");
        is(who($other), 'ended', "$say while $out: for everybody");
    }
}

# The new token was on its way when the logout came: it waits behind an X-Accel-Redirect.
for my $say ('renew', 'reauth; level=aal3', 'update; roles="root"') {
    $c = logged_in();
    $old = $c->clone();
    @parallel = (slow($c, $say, to => '/slow'));
    is(outcome($old->post('/logout', '', fetched())), '204 expired', "$say on its way: logged out with the old token");
    go();
    is(outcome($c->finish($parallel[0])), '200 none', "$say on its way: the new token is not sent any more");
    is(who($c), 'ended', "$say on its way: the session has ended");
}
$c = logged_in();
$old = $c->clone();
@parallel = (slow($c, 'renew', to => '/slow'));
go();
is(outcome($c->finish($parallel[0])), '200 token', 'on its way: without a logout it arrives');
is(who($c), $all, 'on its way: and is good');

# A login is no change of the old session: whoever ends that does not end this.
$c = logged_in();
$old = $c->clone();
@parallel = (slow($c, 'create; user="bob"'));
$old->clone()->post('/logout', '', fetched());
go();
is(outcome($c->finish($parallel[0])), '200 token', 'a logout during a login: the login has its session');
is(who($c), 'bob||aal1|', 'a logout during a login: of its user');
is(who($old), 'ended', 'a logout during a login: the one before stays ended');
$c = logged_in();
$old = $c->clone();
@parallel = (slow($c, 'create; user="bob"', to => '/slow'));
is(who($old), 'regenerated', 'a login on its way: the old session has ended at once, without ten seconds');
$old->clone()->post('/logout', '', fetched());
go();
$c->finish($parallel[0]);
is(who($c), 'bob||aal1|', 'a login on its way: the old token cannot log it out');

# --- logging out with the old token ---

for my $out ('/logout', 'destroy', 'create; user="bob"') {
    $c = logged_in();
    $old = $c->clone();
    my $again = $c->clone();
    say_at($c, 'renew');
    my $between = $c->clone();
    say_at($c, 'renew');
    $r = $out eq '/logout' ? $again->post('/logout', '', fetched()) : say_at($again, $out);
    my $why = $out =~ m/create/x ? 'regenerated' : 'ended';
    is(join(' ', map { who($_) } $c, $between, $old), "$why $why $why", "$out with the old token: ends the session and all that were it");
}

# --- what a change does not move ---

$c = logged_in('create; user="alice"; absolute=100');
for (1 .. 6) {
    $t->advance(15);
    say_at($c, 'renew');
    say_at($c, 'reauth');
}
like(header_of($c, 'X-Left'), qr/\A\d+[ ](?:10|9|8)\z/x, 'changed six times: the absolute timeout has not moved');
$t->advance(11);
is(who($c), 'expired_absolute', 'changed six times: and ends it');

$c = logged_in();
$t->advance(50);
say_at($c, 'renew');
like(header_of($c, 'X-Auth-Age'), qr/\A5[0-2]\z/x, 'renew: authenticated when it was');
say_at($c, 'update; roles="root"; level=aal3');
like(header_of($c, 'X-Auth-Age'), qr/\A5[0-2]\z/x, 'update: authenticated when it was');
$old = $c->clone();
say_at($c, 'reauth');
like(header_of($c, 'X-Auth-Age'), qr/\A[012]\z/x, 'reauth: authenticated now');
like(header_of($old, 'X-Auth-Age'), qr/\A5[0-2]\z/x, 'reauth: but not for the old token');

nothing_foul($up, qr{\A/(?:app|page|slow)}x, qr{\A/form}x, 'the upstream was sent nothing foul');

# A stolen token that was replaced long ago throws nobody out.
for my $out ('/logout', '/login') {
    $c = logged_in();
    $old = $c->clone();
    say_at($c, 'renew');
    $t->advance(11);
    $old->post($out, '', fetched());
    like(who($c), qr/\Aalice[|]/x, "$out with a token replaced 11 s ago: the session goes on");
}

done_testing();
