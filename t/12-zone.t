#!/usr/bin/perl

# The shared memory of a realm: over a reload, in another size, full, and beside another realm's.
# Attacks and faults: memory exhaustion (zone full: the logins that are live stay, nobody else's are
# thrown out); a reload or resize that loses sessions or revives ended ones; a size that is too small;
# no random bytes; a slot reused under an old token; a token of one realm shown to another.

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
    my ($data, $user) = $request->uri() =~ m/[?]data=(\d+)(?:&user=(\w+))?/x;
    $user //= 'alice';
    my $attributes = '';
    for my $i (1 .. int(($data // 0) / 1000)) {
        $attributes .= sprintf '; data.a%d="%s"', $i, chr(96 + $i % 26) x (1000 - 3 - length "a$i");
    }
    return [ 200, { 'X-Accel-Session' => qq(create; user="$user"$attributes) }, "in\n" ] if $request->path() =~ m{/login\z}x;
    return [ 200, { 'X-Accel-Session' => 'update; data.a1="new"' }, "done\n" ] if $request->path() eq '/update';
    return [ 200, { 'X-Accel-Session' => 'renew' }, "done\n" ] if $request->path() eq '/renew';
    return [ 200, {}, "page\n" ];
});

my %size = (app => '1m', b => '1m', small => '48k');

sub configuration {
    my (%change) = @_;
    %size = (%size, %change);
    return <<"EOC";
%%TEST_GLOBALS%%
daemon off;
worker_processes 2;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app   { zone $size{app};   cookie a secure=off; max_data 32k; }
    session_realm b     { zone $size{b};     cookie b secure=off; key_file same.key; }
    session_realm c     { zone 128k;         cookie c secure=off; key_file same.key; }
    session_realm small { zone $size{small}; cookie s secure=off; idle_timeout 1m; }
    proxy_buffer_size 64k;
    proxy_buffers 4 64k;
    proxy_busy_buffers_size 64k;
    upstream app { server 127.0.0.1:8081; }

    server {
        listen 127.0.0.1:8080;
        session app;
        add_header X-User \$session_user always;
        add_header X-Length \$session_attr_a31;
        add_header X-First \$session_attr_a1;
        add_header X-Id \$session_id;
        location /              { proxy_pass http://app; }
        location = /static      { empty_gif; }
        location = /login       { session app optional; session_control create; proxy_pass http://app; }
        location = /update      { session_control update; proxy_pass http://app; }
        location = /renew       { session_control renew; proxy_pass http://app; }
        location = /logout      { session_logout; }
        location = /b/static    { session b; empty_gif; }
        location = /b/login     { session b optional; session_control create; proxy_pass http://app/login; }
        location = /c/static    { session c; empty_gif; }
        location = /c/login     { session c optional; session_control create; proxy_pass http://app/login; }
        location = /small/static { session small; empty_gif; }
        location = /small/login { session small optional; session_control create; proxy_pass http://app/login; }
        location = /small/logout { session small; session_logout; }
    }
}
EOC
}

$t->write_private_file('same.key', 'd4' x 32 . "\n");
$t->write_file_expand('nginx.conf', configuration())->run();

my $r;

sub logged_in {
    my ($where, $query) = @_;
    my $client = client();
    $client->{answer} = $client->post(($where // '') . '/login' . ($query ? "?$query" : ''), '', fetched());
    return $client;
}

sub page {
    my ($client, $uri) = @_;
    my $response = $client->get($uri // '/static', fetched());
    return $response->status() == 200 ? 200 : reason($response);
}

# How many of the clients are let in.
sub live {
    my ($uri, @clients) = @_;
    return scalar grep { page($_, $uri) eq '200' } @clients;
}

sub resize {
    my (%change) = @_;
    $t->write_file_expand('nginx.conf', configuration(%change));
    return $t->try_reload();
}

# What has been written to the error log since the last call.
my $read = 0;

sub news {
    my $text = $t->read_file('error.log');
    my $new = substr $text, $read;
    $read = length $text;
    return $new;
}

# --- reload ---

my @all = map { logged_in() } 1 .. 50;
my $ended = logged_in();
my $thief = $ended->clone();
$ended->post('/logout', '', fetched());
my $renewed = logged_in();
my $stale = $renewed->clone();
$renewed->post('/renew', '', fetched());
is(live('/static', @all), 50, 'fifty sessions');
$t->reload();
is(live('/static', @all), 50, 'live on after a reload');
is(page($thief), 'ended', 'what was ended is ended');
is(page($renewed), 200, 'what was renewed is good');
$t->reload() for 1 .. 3;
is(live('/static', @all, $renewed), 51, 'and after three more');

# --- attributes ---

my $large = logged_in('', 'data=31000');
is($large->{answer}->status(), 200, 'attributes of nearly 32k: a login');
is(length $large->get('/static')->header('X-Length'), 994, 'attributes of nearly 32k: read back');
is($large->post('/update', '', fetched())->status(), 200, 'attributes of nearly 32k: changed');
$r = $large->get('/static');
is($r->header('X-First') . length $r->header('X-Length'), 'new994', 'attributes of nearly 32k: the one, not the others');
news();
$r = logged_in('', 'data=33000')->{answer};
is($r->status() . ($r->header('Set-Cookie') // ' no cookie'), '502 no cookie', 'attributes over max_data: no session');
like(news(), qr/\[error\].*realm[ ]"app".*X-Accel-Session.*/x, 'attributes over max_data: with a line in the log');

# --- two realms ---

my $b = logged_in('/b');
my $c = logged_in('/c');
is(page($b, '/b/static') . page($c, '/c/static'), '200200', 'two realms on one key file');
is(page($b, '/c/static'), 'none', 'a cookie of one is none of the other');
for my $case ([ 'b', $b, 'c' ], [ 'c', $c, 'b' ], [ 'a', $all[0], 'b' ]) {
    my ($from, $client, $to) = @{$case};
    my $token = $client->cookie($from);
    like(reason(client()->get("/$to/static", Cookie => "$to=$token")), qr/\A(?:forged|unknown_key)\z/x,
        "a token of $from under the name of $to is nothing");
}
isnt($b->get('/b/static')->header('X-Id'), $c->get('/c/static')->header('X-Id'), 'nor do they share an ID');

# --- another size ---

my $token_of = $all[0]->cookie('a');
news();
ok(resize(app => '3m'), 'a larger zone');
like(news(), qr/\[notice\].*zone[ ]"session_guard:app":[ ]\d+[ ]sessions[ ]are[ ]handed[ ]over[ ]from[ ]1048576[ ]to[ ]3145728[ ]bytes/x, 'says how many sessions');
is(live('/static', @all), 50, 'all sessions are there');
is(page($thief), 'ended', 'ended ones are ended');
is(page($renewed), 200, 'the renewed one is good');
like(page($stale), qr/\A(?:regenerated|200)\z/x, 'its old ID is known');
is(length $large->get('/static')->header('X-Length'), 994, 'attributes are whole');
is($all[0]->cookie('a'), $token_of, 'nobody was given another cookie');
is(page(logged_in()), 200, 'logins work, the generated key is the same one');
ok(resize(app => '512k'), 'a smaller zone');
is(live('/static', @all), 50, 'all sessions are there again');
is(page($thief), 'ended', 'ended ones are ended again');
is(reason(client()->get('/static', Cookie => 'a=' . forge($token_of))), 'forged', 'a forged one is forged under the same key');

sub forge {
    my ($token) = @_;
    substr $token, 50, 1, substr($token, 50, 1) eq 'A' ? 'B' : 'A';
    $t->secret($token);
    return $token;
}

news();
$t->expect_alert(qr/zone[ ]"session_guard:app"[ ]of[ ]65536[ ]bytes[ ]is[ ]too[ ]small/x);
my @many = map { logged_in() } 1 .. 20;    # beside the large one
ok(!resize(app => '64k'), 'a size too small is refused');
like(news(), qr/zone[ ]"session_guard:app"[ ]of[ ]65536[ ]bytes[ ]is[ ]too[ ]small[ ].*:[ ]\d+[ ]cells[ ]needed,[ ]\d+[ ]there[ ]\(the[ ]running[ ]zone[ ]has[ ]524288[ ]bytes\);[ ]the[ ]running[ ]configuration[ ]goes[ ]on/x,
    'with numbers');
is(live('/static', @all, @many), 70, 'the running configuration goes on with all sessions');
is(page(logged_in()), 200, 'and with logins');
ok(resize(app => '1m'), 'the next good reload is accepted');
is(live('/static', @all, @many), 70, 'with all sessions');
$_->post('/logout', '', fetched()) for @many;
is(live('/static', @many), 0, 'which can be ended');

# --- ten sizes under load ---

# Clients of their own process: every session in turn, as fast as it goes; what was not 200 is told.
sub load {
    my ($name, @clients) = @_;
    return $t->start_daemon(sub {
        my ($rounds, @wrong) = (0);
        until (-e $t->testdir() . '/load.end') {
            for my $client (@clients) {
                my $response = eval { $client->get('/static') };
                push @wrong, $response ? $response->status() . ' ' . ($response->reason() // '') : "no answer: $@"
                    if !$response || $response->status() != 200;
            }
            told("round.$name", ++$rounds);
        }
        told("load.$name", join "\n", $rounds, @wrong);
    });
}

# The file is there when it is whole.
sub told {
    my ($name, $text) = @_;
    $t->write_file("$name.part", $text);
    rename $t->testdir() . "/$name.part", $t->testdir() . "/$name" or die "rename: $!\n";
    return;
}

sub rounds { return map { -e $t->testdir() . "/round.$_" ? $t->read_file("round.$_") : 0 } 1, 2 }

# All sessions have been asked for, by both, between one size and the next.
sub wait_a_round {
    my @before = rounds();
    return $t->wait_for(sub { my @now = rounds(); $now[0] > $before[0] && $now[1] > $before[1] }, 30);
}
my @pids = map { load($_, @all, $large, $renewed) } 1, 2;
my $sizes = 0;
my $accepted = 0;
my @late;
for my $size (qw(2m 768k 4m 640k 1m 8m 900k 3m 700k 1m)) {
    $accepted++ if resize(app => $size);
    push @late, logged_in();
    wait_a_round();
}
$t->write_file('load.end', '');
ok($t->wait_for(sub { -e $t->testdir() . "/load.$_" }, 20), "load: client $_ has ended") for 1, 2;
is($accepted, 10, 'ten resizes up and down under load');
for my $i (1, 2) {
    my ($rounds, @wrong) = split m/\n/x, $t->read_file("load.$i");
    cmp_ok($rounds, '>=', 10, "load: client $i has asked for every session between any two sizes");
    is(join("\n", @wrong), '', "load: client $i was always let in");
}
is(live('/static', @all, @late), 60, 'all sessions are there, those made in between as well');
like(page($thief), qr/\A(?:ended|absent)\z/x, 'what was ended ten sizes ago still is');    # the memory of it is small

# --- full ---

my @first;
for (1 .. 2000) {
    my $client = logged_in('/small');
    last if $client->{answer}->status() != 200;
    push @first, $client;
}
my $fits = @first;
cmp_ok($fits, '>', 50, "a zone of 48k holds sessions: $fits");
cmp_ok($fits, '<', 300, 'and is full then');
$t->expect_alert(qr/realm[ ]"small":[ ]zone[ ]is[ ]full,[ ]logins[ ]are[ ]refused/x);
for (1 .. 20) {
    $r = logged_in('/small')->{answer};
    last if $r->status() . ($r->header('Set-Cookie') // '') ne '503';
}
is($r->status() . ($r->header('Set-Cookie') // ''), '503', 'full: a login is refused, every time');
is($r->header('X-Accel-Session'), undef, 'full: the command stays inside');
is(live('/small/static', @first), $fits, 'full: who is logged in stays');
my $alerts = () = $t->read_file('error.log') =~ m/zone[ ]is[ ]full/xg;
is($alerts, 1, 'full: one alert, not one for each');
$t->advance(30);
is(live('/small/static', @first), $fits, 'full: half a minute later too');
$t->advance(31);
is(logged_in('/small')->{answer}->status(), 503, 'full: a minute later still');
$alerts = () = $t->read_file('error.log') =~ m/zone[ ]is[ ]full/xg;
is($alerts, 2, 'full: another alert after a minute');
like($t->read_file('error.log'), qr/zone[ ]is[ ]full.*\((?:2[2-9]|3\d)[ ]so[ ]far\)/x, 'full: with the number of refused logins');
is(live('/small/static', @first), $fits, 'full: who is active stays');

my $gone = pop @first;
my $old = $gone->clone();
$gone->post('/small/logout', '', fetched());
my $next = logged_in('/small', 'data=0&user=bob');
is($next->{answer}->status(), 200, 'a logout makes room');
is(page($old, '/small/static'), 'ended', 'a slot used again: not for the old token');
is($next->get('/small/static')->header('X-User'), 'bob', 'a slot used again: by the new user');
is(logged_in('/small')->{answer}->status(), 503, 'for one');
my $keeper = $first[0];
$t->advance(59);
is(page($keeper, '/small/static'), 200, 'one is active');
$t->advance(2);
my @second;
for (1 .. $fits - 1) {
    my $client = logged_in('/small', 'data=0&user=bob');
    push @second, $client if $client->{answer}->status() == 200;
}
is(scalar @second, $fits - 1, 'expired sessions make room at once');
is(page($keeper, '/small/static'), 200, 'the active one stays');
is(live('/small/static', @second), $fits - 1, 'the new ones are good');
is(scalar(grep { page($_, '/small/static') =~ m/\A(?:expired_idle|absent)\z/x } @first[ 1 .. 20 ]), 20, 'the expired ones are not');
is($next->get('/small/static')->status(), 401, 'whoever has their slots now');
ok(resize(small => '256k'), 'a full zone is enlarged');
is(live('/small/static', $keeper, @second), $fits, 'with everybody');
is(logged_in('/small')->{answer}->status(), 200, 'and has room');

# A slot's many users, one after the other.
my @wrong;
my $last;
for my $i (1 .. 60) {
    my $client = logged_in('/b', "data=0&user=u$i");
    my $seen = $client->get('/b/static')->header('X-User') // 'nobody';
    push @wrong, "$i: $seen" if $seen ne "u$i";
    push @wrong, "$i: the one before is let in" if $last && page($last, '/b/static') eq '200';
    $last = $client->clone();
    $t->advance(901);
}
is(join("\n", @wrong), '', 'sixty users of one slot: each is who he is');

# --- no random bytes ---

$t->fail_random(1);
my @refused = map { logged_in() } 1 .. 300;    # what the workers have in stock runs out
my @served = grep { $_->{answer}->status() == 200 } @refused;
is($refused[-1]{answer}->status(), 503, 'no random bytes: a login is refused');
is($refused[-1]{answer}->header('Set-Cookie'), undef, 'no random bytes: no cookie');
my %cookies = map { $_->cookie('a') => 1 } @served;
is(scalar keys %cookies, scalar @served, 'no random bytes: none was used twice');
$t->expect_alert(qr/realm[ ]"app":[ ]no[ ]random[ ]bytes/x);
$alerts = () = $t->read_file('error.log') =~ m/no[ ]random[ ]bytes/xg;
is($alerts, 1, 'no random bytes: one alert');
is(live('/static', @served), scalar @served, 'no random bytes: the live sessions go on');
$t->fail_random(0);
is(page(logged_in()), 200, 'with random bytes again: logins work');

done_testing();
