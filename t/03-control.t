#!/usr/bin/perl

# X-Accel-Session: what an application may say about the session, where, and how it is misunderstood
# by nobody.
# Attacks: an upstream that must not mint sessions (no session_control, a verb that is not listed);
# header injection through user, roles and attributes (8-bit, control characters, over-long); session
# fixation (the old session ends with the login); a login in the clear; a login without random bytes;
# personal data of a refused command in the error log; a command doubled by a second, smuggled line.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http proxy empty_gif rewrite session_guard));

# The upstream says what the client's X-Say says (a line each), in hexadecimal so that any byte can be
# sent; it stands for an application, so nothing in it may reach the client or a log.
my $up = $t->recorder(8081, sub {
    my ($request) = @_;
    my @say = map { pack 'H*', $_ } $request->header('X-Say');
    my $status = $request->header('X-Want') // 200;
    my @headers = (
        (map { ('X-Accel-Session' => $_) } @say),
        'Set-Cookie' => 'app=1',
        'X-Other'    => 'kept',
        ($status =~ m/\A30[1-38]/x ? (Location => '/elsewhere') : ()),
        ($status == 304 ? (ETag => '"v1"') : ()),
        ($status == 101 ? (Connection => 'Upgrade', Upgrade => 'websocket') : ()),
    );
    my $wait = $request->header('X-Wait');
    return [ $status, \@headers, "said\n", ($wait ? (wait_file => $wait) : ()) ];
});

$t->write_file('502.html', "the operator's 502\n");
$t->write_private_file("$_.keys", 'c3' x 32 . "\n") for qw(app safe small);
$t->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app   { zone 1m; key_file app.keys; cookie sid secure=off; idle_timeout 15m; absolute_timeout 8h;
                          identity X-User=$session_user X-Theme=$session_attr_theme; }
    session_realm safe  { zone 1m; key_file safe.keys; cookie __Host-safe; }
    session_realm small { zone 1m; key_file small.keys; cookie small secure=off; max_data 32; }
    upstream app { server 127.0.0.1:8081; }
    large_client_header_buffers 4 16k;
    proxy_buffer_size 16k;
    proxy_buffers 4 16k;

    server {
        listen 127.0.0.1:8080;
        session app optional;
        proxy_http_version 1.1;

        location /any         { session_control on; proxy_pass http://app; }
        location /create      { session_control create; proxy_pass http://app; }
        location /update      { session app; session_control update; proxy_pass http://app; }
        location /renew       { session app; session_control renew; proxy_pass http://app; }
        location /reauth      { session app; session_control reauth; proxy_pass http://app; }
        location /destroy     { session_control destroy; proxy_pass http://app; }
        location /two         { session_control update renew; proxy_pass http://app; }
        location /none        { proxy_pass http://app; }
        location /off         { session_control off; proxy_pass http://app; }
        location /away        { session off; session_control on; proxy_pass http://app; }
        location /hidden      { session_control on; proxy_hide_header X-Accel-Session; proxy_pass http://app; }
        location /unbuffered  { session_control on; proxy_buffering off; proxy_pass http://app; }
        location /lonely      { session_control on; proxy_ignore_client_abort on; proxy_pass http://app; }
        location /upgrade     { session_control on; proxy_pass http://app;
                                proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }
        location /page-502    { session_control on; error_page 502 /502.html; proxy_pass http://app; }
        location /other-502   { session_control on; error_page 502 = @other; proxy_pass http://app; }
        location @other       { session off; rewrite ^ /other break; proxy_pass http://app; }
        location /502.html    { session off; internal; }

        location = /who {
            session app;
            session_touch off;
            add_header X-Who "$session_user|$session_roles|$session_level|$session_attr_theme|$session_attr_size";
            add_header X-Left "$session_idle_left $session_absolute_left";
            add_header X-Auth-Age $session_auth_age;
            add_header X-Id $session_id;
            empty_gif;
        }

        location /safe/       { session safe optional; session_control on; proxy_pass http://app; }
        location /safe-page/  { session safe optional; session_control on; error_page 403 /502.html; proxy_pass http://app; }
        location /small/      { session small optional; session_control on; proxy_pass http://app; }
        location = /small-who {
            session small;
            add_header X-Who "$session_user|$session_attr_a|$session_attr_b";
            empty_gif;
        }
    }
}
EOC

my ($r, $c);

# Has the upstream behind that place say so.  Options of the request go through.
sub say_at {
    my ($client, $place, $say, @headers) = @_;
    my @lines = map { unpack 'H*', $_ } ref $say ? @{$say} : $say;
    return $client->post($place, '', fetched(), 'X-Say' => \@lines, @headers);
}

my $mint = 'create; user="alice"; roles="editor admin"; level=aal2; data.theme="dark"';

sub logged_in {
    my ($say) = @_;
    my $client = client();
    say_at($client, '/create', $say // $mint);
    return $client;
}

# Who the client is, or the reason why nobody.
sub who {
    my ($client, $uri) = @_;
    my $response = $client->get($uri // '/who', fetched());
    return $response->status() == 200 ? $response->header('X-Who') : reason($response);
}

sub header_of {
    my ($client, $name) = @_;
    return $client->get('/who', fetched())->header($name);
}

# What an answer has of all that it must not have.
sub traces {
    my ($response) = @_;
    my @found = grep { defined $response->header($_) } qw(X-Accel-Session Set-Cookie X-Other);
    return join ' ', $response->status(), @found;
}

my $seen = 0;

# The news of the error log.
sub news {
    my $log = $t->read_file('error.log');
    my $new = substr $log, $seen;
    $seen = length $log;
    return $new;
}

# --- the verbs, where they are listed ---

$c = client();
$r = say_at($c, '/create', $mint);
is(traces($r), '200 Set-Cookie X-Other', 'create: the upstream\'s answer, without the command');
is(join(' ', map { $_->{name} } $r->set_cookies()), 'app sid', 'create: its cookie and ours');
is(who($c), 'alice|editor admin|aal2|dark|', 'create: all of it counts');
my $first = $c->clone();

$r = say_at($c, '/update', 'update; data.theme="light"; data.size="9"');
is(traces($r), '200 Set-Cookie X-Other', 'update of attributes: goes through');
is($r->set_cookie('sid'), undef, 'update of attributes: keeps the token');
is(who($c), 'alice|editor admin|aal2|light|9', 'update of attributes: counts');
say_at($c, '/update', 'update; data.theme=""');
is(who($c), 'alice|editor admin|aal2||9', 'update: an empty attribute is removed');
say_at($c, '/update', 'update');
is(who($c), 'alice|editor admin|aal2||9', 'update: of nothing changes nothing');

$r = say_at($c, '/update', 'update; roles="editor"');
isnt($r->set_cookie('sid')->{value}, $first->cookie('sid'), 'update of roles: another token');
is(who($c), 'alice|editor|aal2||9', 'update of roles: counts');
$r = say_at($c, '/update', 'update; roles=""; level=aal1');
ok($r->set_cookie('sid'), 'update of roles and level: another token');
is(who($c), 'alice||aal1||9', 'update: no roles left');

my $id = header_of($c, 'X-Id');
$r = say_at($c, '/renew', 'renew');
ok($r->set_cookie('sid'), 'renew: another token');
is(who($c), 'alice||aal1||9', 'renew: the same session');
isnt(header_of($c, 'X-Id'), $id, 'renew: under another id');

$t->advance(100);
like(header_of($c, 'X-Auth-Age'), qr/\A10[0-2]\z/x, 'a hundred seconds later');
$r = say_at($c, '/reauth', 'reauth; level=aal3');
ok($r->set_cookie('sid'), 'reauth: another token');
is(who($c), 'alice||aal3||9', 'reauth: its level counts');
like(header_of($c, 'X-Auth-Age'), qr/\A[012]\z/x, 'reauth: authenticated now');

my $copy = $c->clone();
$r = say_at($c, '/destroy', 'destroy');
is($r->set_cookie('sid')->{attributes}{'max-age'}, 0, 'destroy: the cookie expires');
is($c->cookie('sid'), undef, 'destroy: and is gone');
is(who($copy), 'ended', 'destroy: so is the session');
$r = say_at(client(), '/destroy', 'destroy');
is(traces($r) . ' ' . scalar($r->set_cookies()), '200 Set-Cookie X-Other 1', 'destroy: without a session, nothing');

for my $verb ('update; data.theme="x"', 'renew', 'reauth; level=aal3') {
    $r = say_at(client(), '/any', $verb);
    is($r->status() . (defined $r->set_cookie('sid') ? ' cookie' : ''), '200', "$verb: without a session, nothing");
}

# --- where it is not listed ---

news();
$c = logged_in();
my %listed = (
    '/create' => 'create', '/update' => 'update', '/renew' => 'renew', '/reauth' => 'reauth',
    '/destroy' => 'destroy', '/two' => 'update renew', '/none' => '', '/off' => '', '/away' => '',
);
my %said = (
    create  => 'create; user="mallory"',
    update  => 'update; roles="root"; data.theme="evil"',
    renew   => 'renew',
    reauth  => 'reauth; level=aal3',
    destroy => 'destroy',
);
for my $place (sort keys %listed) {
    for my $verb (sort keys %said) {
        next if $listed{$place} =~ m/\b$verb\b/x;
        $r = say_at($c, $place, $said{$verb});
        is(traces($r) . (defined $r->set_cookie('sid') ? ' sid' : ''), '200 Set-Cookie X-Other', "$verb at $place: removed");
    }
}
is(who($c), 'alice|editor admin|aal2|dark|', 'nothing of that has happened');
my $warnings = () = news() =~ m/\[warn\].*X-Accel-Session[ ]from[ ]upstream[ ]removed/xg;
ok($warnings >= 1 && $warnings <= 3, 'removed with a warning, but not with one each');
$t->advance(61);
say_at($c, '/none', $said{create});
like(news(), qr/\[warn\].*X-Accel-Session[ ]from[ ]upstream[ ]removed:[ ]this[ ]location[ ]has[ ]no[ ]session_control/x, 'a minute later again: no session_control');
$t->advance(61);
say_at($c, '/two', $said{create});
like(news(), qr/\[warn\].*session_control[ ]of[ ]this[ ]location[ ]does[ ]not[ ]list[ ]the[ ]verb/x, 'a minute later again: a verb that is not listed');
is(client()->post('/any', '', fetched(), 'X-Accel-Session' => $mint)->set_cookie('sid'), undef, 'said by a client: nothing');
$r = say_at($c, '/none', 'cre;ate;;"');
is(traces($r), '200 Set-Cookie X-Other', 'malformed where nothing is listed: only removed');

# --- not quite the name or not quite one line ---

$r = say_at(client(), '/any', [ $mint, $mint ]);
is(traces($r), '502', 'the header twice: 502');
like(news(), qr/invalid[ ]X-Accel-Session[ ]\(\d+[ ]bytes\):[ ]the[ ]header[ ]came[ ]more[ ]than[ ]once/x, 'the header twice: said why');
is(traces(say_at(client(), '/any', [ 'renew', '' ])), '502', 'the header twice, once empty: 502');
is(traces(say_at(client(), '/any', [ 'destroy', 'nonsense', 'destroy' ])), '502', 'the header three times: 502');
is(traces(say_at($c, '/none', [ $mint, $mint ])), '200 Set-Cookie X-Other', 'the header twice where nothing is listed: removed');

# --- malformed ---

my $private = 'hunter2';    # must not be found in the error log
my $longest = 'u' x 255;
my @malformed = (
    [ '',                                              'empty at byte 0' ],
    [ '  ',                                            'empty at byte' ],
    [ "create user=\"$private\"",                      'unexpected text at byte 7' ],
    [ "create, create; user=\"$private\"",             'a list is not allowed at byte 6' ],
    [ "Create; user=\"$private\"",                     'unknown verb at byte 0, near "Create"' ],
    [ "login; user=\"$private\"",                      'unknown verb at byte 0, near "login"' ],
    [ "fail; user=\"$private\"",                       'unknown verb at byte 0, near "fail"' ],
    [ "\"create\"; user=\"$private\"",                 'a token is expected at byte 0' ],
    [ 'create',                                        'create needs the parameter user at byte 0' ],
    [ 'create; roles="admin"',                         'create needs the parameter user at byte 0' ],
    [ "create; user=\"$private\"; remember",           'unknown parameter at byte 24, near "remember"' ],
    [ "create; user=\"$private\"; remember=?1",        'unknown parameter at byte 24, near "remember"' ],
    [ "create; user=\"$private\"; scope=all",          'unknown parameter at byte 24, near "scope"' ],
    [ "create; user=\"$private\"; admin=?1",           'unknown parameter at byte 24, near "admin"' ],
    [ "create; user=\"$private\"; data.Theme=\"x\"",   'a parameter name has no upper-case letters at byte 29' ],
    [ "create; user=\"$private\"; data.=\"x\"",        'unknown parameter at byte 24' ],
    [ "create; user=\"$private\"; User=\"root\"",      'a parameter name is expected at byte 24' ],
    [ 'destroy; scope=user',                           'unknown parameter at byte 9, near "scope"' ],
    [ "destroy; user=\"$private\"",                    'unknown parameter for this verb at byte 9, near "user"' ],
    [ "update; user=\"$private\"",                     'unknown parameter for this verb at byte 8, near "user"' ],
    [ 'renew; level=aal3',                             'unknown parameter for this verb at byte 7, near "level"' ],
    [ 'reauth; roles="admin"',                         'unknown parameter for this verb at byte 8, near "roles"' ],
    [ "create; user=\"$private\"; user=\"root\"",      'repeated parameter at byte 24, near "user"' ],
    [ "create; user=\"$private\"; data.a=\"1\"; data.a=\"2\"", 'repeated parameter at byte 36, near "data.a"' ],
    [ "create; user=$private",                         'user must be a string at byte 13' ],
    [ 'create; user',                                  'user must be a string at byte 8' ],
    [ 'create; user=""',                               'user is empty at byte 13' ],
    [ "create; user=\" $private\"",                    'user starts or ends with a space at byte 13' ],
    [ "create; user=\"$private$longest\"",             'user is longer than 255 bytes at byte 13' ],
    [ "create; user=\"$private",                       'the string does not end at byte 13' ],
    [ "create; user=\"$private\"x",                    'unexpected text at byte 22' ],
    [ "create; user=\"$private\\n\"",                  'only \" and \\\\ may be escaped at byte 21' ],
    [ "create; user=\"$private\xc3\xbc\"",             'not printable ASCII in a string at byte 21' ],
    [ "create; user=\"$private\x01\"",                 'not printable ASCII in a string at byte 21' ],
    [ "create; user=\"$private\x1b[2J\"",              'not printable ASCII in a string at byte 21' ],
    [ "create; user=\"$private\x7f\"",                 'not printable ASCII in a string at byte 21' ],
    [ "create; user=\"$private\t\"",                   'not printable ASCII in a string at byte 21' ],
    [ "create; user=%\"$private%00\"",                 'user contains a control character at byte 13' ],
    [ "create; user=%\"$private%0a\"",                 'user contains a control character at byte 13' ],
    [ "create; user=%\"$private%0d%0aSet-Cookie: a=b\"", 'user contains a control character at byte 13' ],
    [ "create; user=%\"$private%e2%80%a8\"",           'user contains a control character at byte 13' ],
    [ "create; user=%\"$private%C3%BC\"",              '% is followed by two lower-case hex digits at byte 22' ],
    [ "create; user=%\"$private%c3\"",                 'the display string is not UTF-8 at byte 13' ],
    [ "create; user=%\"$private%ff\"",                 'the display string is not UTF-8 at byte 13' ],
    [ "create; user=%\"$private%c0%80\"",              'the display string is not UTF-8 at byte 13' ],
    [ "create; user=\"$private\"; roles=\"a,$private\"", 'a role contains a character that is not allowed at byte 30' ],
    [ "create; user=\"$private\"; roles=\"$private $private\"", 'repeated role at byte 30' ],
    [ "create; user=\"$private\"; roles=\"$private" . 'r' x 60 . '"', 'a role is longer than 64 characters at byte 30' ],
    [ "create; user=\"$private\"; roles=\"" . join(' ', 1 .. 33) . '"', 'more than 32 roles at byte 30' ],
    [ "create; user=\"$private\"; roles=admin",        'roles must be a string at byte 30' ],
    [ "create; user=\"$private\"; level=aal4",         'level must be aal1, aal2 or aal3 at byte 30' ],
    [ "create; user=\"$private\"; level=\"aal3\"",     'level must be aal1, aal2 or aal3 at byte 30' ],
    [ "create; user=\"$private\"; idle=\"60\"",        'a number of seconds is expected at byte 29' ],
    [ "create; user=\"$private\"; idle=0",             'seconds must be between 1 and 34560000 (400 days) at byte 29' ],
    [ "create; user=\"$private\"; absolute=-1",        'seconds must be between 1 and 34560000 (400 days) at byte 33' ],
    [ "create; user=\"$private\"; absolute=1.5",       'a decimal is not allowed at byte 33' ],
    [ "create; user=\"$private\"; data.card=1234567890123456", 'an integer has at most 15 digits at byte 34' ],
    [ "create; user=\"$private\"; data.a=$private",    'an attribute must be a string at byte 31' ],
    [ "create; user=\"$private\"; data.a=%\"$private%0a\"", 'an attribute contains a control character at byte 31' ],
    [ "create; user=\"$private\"; data.a=(\"$private\")", 'an inner list is not allowed at byte 31' ],
    [ "create; user=\"$private\"; data.a=:$private:",  'a byte sequence is not allowed at byte 31' ],
    [ "create; user=\"$private\"; data.a=\"" . 'v' x 4096 . '"', 'the attributes are larger than max_data at byte 31' ],
    [ "create; user=\"$private\";",                    'a parameter name is expected at byte' ],
);
$c = logged_in();
my $said_all = news();
for my $row (@malformed) {
    my ($say, $why) = @{$row};
    (my $shown = substr $say, 0, 60) =~ s/([^\x20-\x7e])/sprintf '\\x%02x', ord $1/gex;
    my $someone = client();
    is(traces(say_at($someone, '/any', $say)) . ($someone->cookies() ? ' cookie' : ''), '502', "$shown: 502 and nothing else");
    my $new = news();
    $said_all .= $new;
    like($new, qr/invalid[ ]X-Accel-Session[ ]\(\d+[ ]bytes\):[ ]\Q$why\E/x, "$shown: said why and where");
}
unlike($said_all, qr/$private|1234567890/x, 'the error log has none of the data');
unlike($said_all, qr/[^\x20-\x7e\n]/x, 'nor a byte that a terminal would obey');
is(traces(say_at($c, '/any', 'destroy; scope=all')), '502', 'with a session: 502');
is(who($c), 'alice|editor admin|aal2|dark|', 'which goes on');
is(traces(say_at($c, '/any', "create; user=\"$private\"; remember")), '502', 'a malformed login: 502');
is(who($c), 'alice|editor admin|aal2|dark|', 'does not end the session it came with');

# --- what is allowed though it looks odd ---

my %odd = (
    'create;user="u"'                            => 'u||aal1||',
    'create;   user="u";roles="  b   a "'        => 'u|b a|aal1||',
    'create; user="a\"b\\\\c"'                   => 'a"b\\c||aal1||',
    'create; user=%"f%c3%bc%c3%9f"'              => "f\xc3\xbc\xc3\x9f||aal1||",
    'create; user=%"%25%22"'                     => '%"||aal1||',
    'create; user="u"; data.theme=%"%e2%82%ac"'  => "u||aal1|\xe2\x82\xac|",
    'create; user="u"; data.theme=""'            => 'u||aal1||',
    "create; user=\"$longest\""                  => "$longest||aal1||",
    'create; user="u"; roles="' . join(' ', 1 .. 32) . '"' => 'u|' . join(' ', 1 .. 32) . '|aal1||',
    'create; user="u"; roles="' . 'r' x 64 . '"' => 'u|' . 'r' x 64 . '|aal1||',
    'create; user="../../etc/passwd"'            => '../../etc/passwd||aal1||',
    'create; user="u; Path=/"; roles="<b>"'      => 'u; Path=/|<b>|aal1||',
);
is(who(logged_in($_)), $odd{$_}, substr($_, 0, 60) . ': as said') for sort keys %odd;
$c = logged_in('create; user=%"f%c3%bc"; data.theme=%"%e2%82%ac"');
$c->get('/none');
is($up->last()->header('X-User') . $up->last()->header('X-Theme'), "f\xc3\xbc\xe2\x82\xac", 'in identity headers byte for byte');

# --- which answers count ---

for my $status (200, 201, 204, 206, 301, 302, 303, 304, 307, 308, 399) {
    $c = client();
    $r = say_at($c, '/create', $mint, 'X-Want' => $status);
    is($r->status() . ' ' . who($c), "$status alice|editor admin|aal2|dark|", "create on $status: counts");
}
for my $status (400, 401, 403, 404, 409, 422, 429, 500, 503) {
    $c = logged_in('create; user="before"');
    $r = say_at($c, '/create', $mint, 'X-Want' => $status);
    is($r->status() . ' ' . (defined $r->set_cookie('sid') ? 'cookie' : 'none'), "$status none", "create on $status: does not count");
    is($r->header('X-Accel-Session'), undef, "create on $status: is removed");
    is(who($c), 'before||aal1||', "create on $status: the session goes on");
}
$c = logged_in();
my ($upgraded, $socket) = $c->upgrade('/upgrade', 'X-Say' => unpack('H*', 'create; user="mallory"'), 'X-Want' => 101,
    Origin => 'http://localhost', Host => 'localhost');
is($upgraded->status() . ($upgraded->set_cookie('sid') ? ' cookie' : ''), '101', 'create on 101: does not count');
is($upgraded->header('X-Accel-Session'), undef, 'create on 101: is removed');
$socket->close_now() if $socket;
is(who($c), 'alice|editor admin|aal2|dark|', 'create on 101: the session goes on');
$c = logged_in();
say_at($c, '/destroy', 'destroy', 'X-Want' => 500);
is(who($c), 'none', 'destroy on 500: counts');

$c = client();
$r = $c->head('/create', fetched(), 'X-Say' => unpack 'H*', $mint);
is($r->status() . $r->body() . ' ' . who($c), '200 alice|editor admin|aal2|dark|', 'HEAD: the command counts');
is($r->header('Cache-Control'), 'no-store', 'HEAD: not to be kept');
for my $place (qw(/hidden /unbuffered)) {
    $c = client();
    $r = say_at($c, $place, $mint);
    is(who($c) . ($r->header('X-Accel-Session') // ''), 'alice|editor admin|aal2|dark|', "$place: the command counts and is not shown");
}

# --- the old session ---

$c = logged_in('create; user="before"; data.theme="old"');
my $before = $c->clone();
$r = say_at($c, '/create', 'create; user="after"');
isnt($c->cookie('sid'), $before->cookie('sid'), 'a second login: another token');
is(who($c), 'after||aal1||', 'a second login: nothing of the first');
is(who($before), 'regenerated', 'a second login: the first has ended');
is($before->get('/who', navigation())->header('Set-Cookie'), undef, 'its cookie is not touched');
my $planted = client()->set_cookie(sid => 'A' x 64);
say_at($planted, '/create', $mint);
isnt($planted->cookie('sid'), 'A' x 64, 'a planted cookie: is not adopted');
is(who($planted), 'alice|editor admin|aal2|dark|', 'a planted cookie: the login is good');

# --- idle and absolute ---

$c = logged_in('create; user="u"; idle=60; absolute=600');
like(header_of($c, 'X-Left'), qr/\A(?:60|59)[ ](?:600|599)\z/x, 'idle= and absolute= shorten');
$c = logged_in('create; user="u"; idle=34560000; absolute=34560000');
like(header_of($c, 'X-Left'), qr/\A(?:900|899)[ ](?:28800|28799)\z/x, 'and never lengthen');
$c = logged_in('create; user="u"; idle=60');
$t->advance(61);
is(who($c), 'expired_idle', 'idle=60: over after 61 seconds');
$c = logged_in('create; user="u"; absolute=90');
$t->advance(50);
$c->get('/none');
$t->advance(41);
is(who($c), 'expired_absolute', 'absolute=90: over after 91 seconds');

# --- attributes that are too many ---

$c = client();
is(traces(say_at($c, '/small/', 'create; user="u"; data.a="' . 'x' x 40 . '"')), '502', 'create beyond max_data: 502');
is($c->cookie('small'), undef, 'create beyond max_data: no session');
say_at($c, '/small/', 'create; user="u"; data.a="' . 'x' x 20 . '"');
is(who($c, '/small-who'), 'u|' . 'x' x 20 . '|', 'create within max_data');
news();
is(traces(say_at($c, '/small/', 'update; data.b="' . 'y' x 20 . '"')), '502', 'update beyond max_data: 502');
like(news(), qr/does[ ]not[ ]fit[ ]max_data/x, 'update beyond max_data: said why');
is(who($c, '/small-who'), 'u|' . 'x' x 20 . '|', 'update beyond max_data: nothing has changed');
say_at($c, '/small/', 'update; data.a=""; data.b="' . 'y' x 20 . '"');
is(who($c, '/small-who'), 'u||' . 'y' x 20, 'update that makes room first');

# --- in the clear ---

$c = client();
$r = say_at($c, '/safe/', $mint);
is(traces($r), '403', 'a login over plain http: 403, without the upstream\'s answer');
is($r->header('Session-Status'), 'insecure', 'a login over plain http: says so');
is($r->header('Cache-Control'), 'no-store', 'a login over plain http: not to be kept');
like(news(), qr/realm[ ]"safe":[ ]login[ ]refused,[ ]it[ ]came[ ]over[ ]plain[ ]http/x, 'a login over plain http: logged');
$r = say_at($c, '/safe-page/', $mint);
is($r->status() . ' ' . $r->body(), "403 the operator's 502\n", 'a login over plain http: error_page works');
is(scalar($c->cookies()), 0, 'a login over plain http: no cookie');

# --- error_page ---

$r = say_at(client(), '/page-502', 'nonsense');
is($r->status() . ' ' . $r->body(), "502 the operator's 502\n", 'error_page 502: a page');
is(traces($r), '502', 'error_page 502: nothing of the upstream\'s answer');
$c = client();
$up->clear();
$r = say_at($c, '/other-502', 'create; user="alice"; oops');
is($r->status() . ' ' . $r->body(), "200 said\n", 'error_page 502: a named location');
is(join(' ', map { $_->uri() } $up->requests()), '/other-502 /other', 'error_page 502: another upstream');
is(defined $c->cookie('sid') ? 'cookie' : 'none', 'none', 'error_page 502: whose command is removed');

# --- a client that has gone ---

$c = logged_in();
$copy = $c->clone();
$up->clear();
my $pending = $c->start(POST => '/lonely', { body => '' }, fetched(), 'X-Say' => unpack('H*', $mint), 'X-Wait' => 'go-lonely');
$up->wait_for(1);
$pending->{socket}->close_now();
$t->write_file('go-lonely', '');
$t->wait_for(sub { who($copy) ne 'alice|editor admin|aal2|dark|' });
is(who($copy), 'regenerated', 'a client that has gone: what the upstream says counts');
$c = logged_in();
$up->clear();
$pending = $c->start(POST => '/any', { body => '' }, fetched(), 'X-Say' => unpack('H*', 'destroy'), 'X-Wait' => 'go-any');
$up->wait_for(1);
$pending->{socket}->close_now();
$t->wait_for(sub { $up->closed() });
$t->write_file('go-any', '');
is(who($c), 'alice|editor admin|aal2|dark|', 'a client that has gone, and with it the upstream: nothing happens');

# --- no random bytes ---

$c = logged_in();
$copy = $c->clone();
$t->expect_alert(qr/realm[ ]"app":[ ]no[ ]random[ ]bytes/x);
$t->fail_random(1);
my ($out, $left) = (client(), 300);    # what the worker has in stock runs out
do { $r = say_at($out, '/create', $mint) } while $r->status() == 200 && --$left;
is(traces($r), '503', 'no random bytes: 503, and nothing else');
$r = say_at($c, '/renew', 'renew');
is(traces($r), '503', 'no random bytes: renew too');
is(who($copy), 'alice|editor admin|aal2|dark|', 'no random bytes: the session goes on');
$r = say_at($c, '/create', $mint);
is(traces($r) . ' ' . who($copy), '503 alice|editor admin|aal2|dark|', 'no random bytes: a refused login ends nothing');
$r = say_at($c, '/destroy', 'destroy');
is($r->status() . ' ' . who($copy), '200 ended', 'no random bytes: ending needs none');
$t->fail_random(0);
is(who(logged_in()), 'alice|editor admin|aal2|dark|', 'random bytes again: logins work');

done_testing();
