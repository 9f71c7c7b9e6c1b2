#!/usr/bin/perl

# Workers killed at any instant, under load.
# Faults: a worker that dies while it holds a shard of the zone (nobody may wait for it for ever); a
# half-written session (nobody may be let in by it, no live session may be lost by it); a login or
# logout that was answered and is then not true; the worker with the sweep dying.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes qw(time);

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http proxy rewrite session_guard));

my $up = $t->recorder(8081, sub {
    my ($request) = @_;
    return [ 200, { 'X-Accel-Session' => 'create; user="alice"; data.d="' . 'x' x 500 . '"' }, "in\n" ]
        if $request->path() eq '/login';
    my $size = $request->path() eq '/full/large' ? 30_000 : 10;
    return [ 200, { 'X-Accel-Session' => 'create; user="bob"; data.d="' . 'x' x $size . '"' }, "in\n" ]
        if $request->path() =~ m{\A/full/}x;
    return [ 200, { 'X-Accel-Session' => 'renew' }, "done\n" ] if $request->path() eq '/renew';
    return [ 200, { 'X-Accel-Session' => 'update; data.d="' . 'y' x 600 . '"' }, "done\n" ];
});

$t->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
worker_processes 3;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app { zone 16m; cookie id secure=off; }
    session_realm full { zone 9m; cookie full secure=off; max_data 32k; }
    proxy_buffer_size 64k;
    proxy_buffers 4 64k;
    proxy_busy_buffers_size 64k;
    upstream app { server 127.0.0.1:8081; }
    server {
        listen 127.0.0.1:8080;
        session app;
        access_log off;
        location = /static { empty_gif; }
        location = /poll   { session_touch off; empty_gif; }
        location = /login  { session app optional; session_control create; proxy_pass http://app; }
        location = /update { session_control update; proxy_pass http://app; }
        location = /renew  { session_control renew; proxy_pass http://app; }
        location = /full/static { session full; empty_gif; }
        location /full/    { session full optional; session_control create; proxy_pass http://app; }
        location = /logout { session_logout; }
    }
}
EOC

my $seconds = 7;
my $end = $t->testdir() . '/load.end';

sub logged_in {
    my ($uri) = @_;
    my $client = client();
    $client->post($uri // '/login', '', fetched());
    return $client;
}

# The status; 0 where the connection broke, because its worker was killed.
sub status {
    my ($client, $method, $uri) = @_;
    my $response = eval { $client->request($method, $uri, ($method eq 'POST' ? { body => '' } : ()), fetched()) };
    return $response && $response->complete() ? $response->status() : 0;
}

# A process that goes round and round, and tells what was wrong.  What it asked of a killed worker
# has no answer; every other answer must be right.
sub load {
    my ($name, $round) = @_;
    $t->start_daemon(sub {
        my %told = (rounds => 0, answers => 0, wrong => []);
        until (-e $end) {
            $round->(\%told);
            $told{rounds}++;
        }
        $t->write_file("told.$name", join "\n", @told{qw(rounds answers)}, @{ $told{wrong} });
        rename $t->testdir() . "/told.$name", $t->testdir() . "/load.$name" or die "rename: $!\n";    # it is there when it is whole
    });
    return $name;
}

sub expect {
    my ($told, $what, $status, @right) = @_;
    $told->{answers}++ if $status;
    push @{ $told->{wrong} }, "$what: $status" unless grep { $_ == $status } 0, @right;
    return $status;
}

# --- who is there ---

my @live = map { logged_in() } 1 .. 40;
my @bad;
for my $client (map { $_->clone() } @live[ 0 .. 9 ]) {
    my $token = $client->cookie('id');
    for my $at (5, 30, 50) {    # handle, secret, tag
        my $forged = $token;
        substr $forged, $at, 1, substr($token, $at, 1) eq 'A' ? 'B' : 'A';
        $t->secret($forged);
        push @bad, client()->set_cookie(id => $forged);
    }
}
for my $client (map { logged_in() } 1 .. 10) {
    push @bad, $client->clone();
    $client->post('/logout', '', fetched());
}
push @bad, client();

# A login into a full zone looks through all of a shard for room, with the shard held: where a kill
# is most likely to hit.
my @crowd;
for my $uri ('/full/large', '/full/small') {
    while (my $client = logged_in($uri)) {
        last unless $client->cookie('full');
        push @crowd, $client;
    }
}
cmp_ok(scalar @crowd, '>', 50, 'a full zone: ' . @crowd . ' sessions');
$t->expect_alert(qr/realm[ ]"full":[ ]zone[ ]is[ ]full/x);

my @loads = (
    load(live => sub {
        my ($told) = @_;
        expect($told, 'a live session', status($_, GET => '/static'), 200) for @live;
    }),
    load(bad => sub {
        my ($told) = @_;
        expect($told, 'a bad token', status($_, GET => '/static'), 401) for @bad;
    }),
    (map {
        load("writer$_" => sub {
            my ($told) = @_;
            my $client = client();
            expect($told, 'a login', status($client, POST => '/login'), 200);
            return unless $client->cookie('id');
            my $thief = $client->clone();
            expect($told, 'a new session', status($client, GET => '/static'), 200);
            expect($told, 'a change', status($client, POST => '/update'), 200);
            expect($told, 'a changed session', status($client, GET => '/static'), 200);
            my $renewed = $client->clone();
            my $done = expect($told, 'a new ID', status($renewed, POST => '/renew'), 200);
            expect($told, 'a renewed session', status($renewed, GET => '/static'), 200) if $done;
            return unless expect($told, 'a logout', status($renewed, POST => '/logout'), 204) && $done;
            expect($told, 'a logout\'s replay', status($thief, GET => '/static'), 401);
        });
    } 1 .. 2),
    load(crowd => sub {
        my ($told) = @_;
        expect($told, 'a session in the full zone', status($_, GET => '/full/static'), 200) for @crowd;
    }),
    (map {
        load("late$_" => sub {
            my ($told) = @_;
            my $client = client();
            expect($told, 'a login into the full zone', status($client, POST => '/full/small'), 503);
        });
    } 1 .. 4),
);

# --- the killing ---

# A worker that does something, if there is one: most of the time they all wait for requests.
sub busy_worker {
    my (@workers) = @_;
    for (1 .. 300) {
        for my $pid (@workers) {
            return $pid if state_of($pid) eq 'R';
        }
    }
    return $workers[ rand @workers ];
}

sub memory_of {
    my ($pid, $at, $size) = @_;
    open(my $memory, '<:raw', "/proc/$pid/mem") or return '';
    sysseek($memory, $at, 0) or return '';
    sysread($memory, my $bytes, $size) or return '';
    return $bytes;
}

# Where the locks of all shards lie in the memory that the workers share (docs/formats.md, Zone): the
# table begins on a page of its own.
my @locks;
{
    my ($pid) = $t->workers();
    open(my $maps, '<', "/proc/$pid/maps") or die "maps: $!\n";
    for (grep { m/[ ]rw-s[ ]/x } <$maps>) {
        no warnings qw(portable);    # addresses have 64 bits
        my ($at, $end) = map { hex } m/\A([0-9a-f]+)-([0-9a-f]+)/x;
        for (; $at < $end; $at += 4096) {
            my ($magic, undef, $shards, undef, $bytes) = unpack 'a8 V V Q< Q<', memory_of($pid, $at, 32);
            next unless ($magic // '') eq 'SGtable1';
            push @locks, map { $at + 128 + $_ * $bytes } 0 .. $shards - 1;
        }
    }
}
cmp_ok(scalar @locks, '>', 1, 'the locks of the zones: ' . @locks);

# A robust mutex begins with its holder's id, above it two bits of the kernel's.
sub holds_a_lock {
    my ($pid) = @_;
    return scalar grep { ((unpack('V', memory_of($pid, $_, 4)) // 0) & 0x3fff_ffff) == $pid } @locks;
}

# Stopped at any instant; for a while only one at which it holds a lock will do.
my $holding = 0;
sub stopped_worker {
    for my $try (1 .. 400) {
        my $pid = busy_worker($t->workers());
        kill 'STOP', $pid;
        my $held = $t->wait_for(sub { state_of($pid) eq 'T' }, 1) && holds_a_lock($pid);
        $holding++ if $held;
        return $pid if $held || $try == 400;
        kill 'CONT', $pid;
    }
    return;
}

sub state_of {
    my ($pid) = @_;
    open(my $stat, '<', "/proc/$pid/stat") or return '';
    return <$stat> =~ m/[)][ ](\w)[ ]/x ? $1 : '';
}

my $kills = 0;
my $stuck = 0;
my $until = time + $seconds;
while (time < $until) {
    my $worker = $kills % 2 ? stopped_worker() : busy_worker($t->workers());
    kill 'STOP', $worker;    # at this instant; kill_worker makes sure whose it is first
    $t->kill_worker($worker);
    $kills++;
    $t->wait_for(sub { $t->workers() == 3 }, 5) or $stuck++;
}
$t->write_file('load.end', '');
cmp_ok($kills, '>', 20, "workers killed: $kills");
cmp_ok($holding, '>', 0, "holding a lock: $holding");
is($stuck, 0, 'every one was replaced');

for my $name (@loads) {
    ok($t->wait_for(sub { -e $t->testdir() . "/load.$name" }, 20), "$name: nobody waits for ever")
        or die "the zone is stuck: nothing below would end\n";
    my ($rounds, $answers, @wrong) = split m/\n/x, $t->read_file("load.$name");
    cmp_ok($answers, '>', 50, "$name: $answers answers in $rounds rounds");
    is(join("\n", @wrong), '', "$name: every one right");
}

# --- afterwards ---

is(join(' ', map { status($_, GET => '/static') } @live), join(' ', (200) x @live), 'every live session is there');
is(join(' ', map { status($_, GET => '/full/static') } @crowd), join(' ', (200) x @crowd), 'in the full zone as well');
is(join(' ', map { status($_, GET => '/static') } @bad), join(' ', (401) x @bad), 'no bad one is');
my @new = map { logged_in() } 1 .. 30;
is(join(' ', map { status($_, GET => '/static') } @new), join(' ', (200) x @new), 'logins work');
is(join(' ', map { status($_, POST => '/update') } @new), join(' ', (200) x @new), 'changes work');
my @gone = map { $_->clone() } @new;
is(join(' ', map { status($_, POST => '/logout') } @new), join(' ', (204) x @new), 'logouts work');
is(join(' ', map { status($_, GET => '/static') } @gone), join(' ', (401) x @gone), 'and hold');

$t->reload();
is(join(' ', map { status($_, GET => '/static') } @live), join(' ', (200) x @live), 'a reload keeps them');

# The sweep goes on, whoever did it before.  A session that is only late would come back with the
# clock; one that was swept does not.  The clock is back for one request at a time.
$t->advance(800);
status($_, GET => '/static') for @live[ 0 .. 19 ];
$t->advance(200);
my @expired = @live[ 20 .. 39 ];
my $swept = $t->wait_for(sub {
    $t->advance(-600);
    my $there = status($expired[0], GET => '/poll') == 200;
    $t->advance(600);
    shift @expired if !$there;
    return !@expired;
}, 30);
ok($swept, 'expired sessions are swept');
is(join(' ', map { status($_, GET => '/static') } @live[ 0 .. 19 ]), join(' ', (200) x 20), 'the others are not');

my $repairs = 0;
$t->wait_for(sub {
    my %of = $t->read_file('error.log') =~ m/realm[ ]"(\w+)":[ ]zone[ ]repaired[ ]after[ ]a[ ]killed[ ]worker[ ]\((\d+)[ ]so[ ]far\)/xg;
    $repairs = ($of{app} // 0) + ($of{full} // 0);
    return $repairs >= $holding;
}, 20);
cmp_ok($repairs, '>=', $holding, "zones repaired: $repairs");

done_testing();
