#!/usr/bin/perl

# A worker has to go while its store hangs: those who wait are answered, and it goes, whatever
# holds the store back: a memcached that is stopped, a process that is stopped with LMDB's write lock.
# Faults: a reload that never ends; an empty reply; an nginx that only SIGKILL ends.

use strict;
use warnings;

use Fcntl qw(F_WRLCK F_UNLCK SEEK_SET);
use FindBin;
use JSON::PP qw(decode_json);
use Test::More;
use Time::HiRes qw(time);

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;
use Test::Nginx::Memcached;
use Test::Nginx::Process qw(reap timeout);

# What a worker may take to go: ten seconds for what it could not write, and what one exchange
# takes, before and after.
my $GOODBYE = 25;

my $t = Test::Nginx->new()->has(qw(http proxy rewrite session_guard));
$t->recorder(8081, { '/login' => [ 200, { 'X-Accel-Session' => 'create; user="alice"' }, "in\n" ], default => [ 200, {}, "page\n" ] });
my $memcached = Test::Nginx::Memcached->new($t, 8011);
$t->write_private_file('a.key', join('', map { sprintf '%02x', $_ } 1 .. 32) . "\n");
chown 0, 0, $t->testdir() . '/a.key' if $> == 0;
$t->make_directory('store');
my $lost = qr/\[alert\].*the[ ]store[ ]did[ ]not[ ]take[ ]\d+[ ]changes/x;
# nginx gives its workers three seconds after TERM, and a farewell may take about as long.
$t->expect_alert($_) for $lost, qr/worker[ ]process[ ]\d+[ ]exited[ ]on[ ]signal[ ]9/x;

sub configure {
    my ($store) = @_;
    (my $conf = <<'EOC') =~ s/STORE/$store/x;
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm a { zone 1m; key_file a.key; store STORE; revalidate 1h; cookie a secure=off; }
    server {
        listen 127.0.0.1:8080 backlog=1024;
        add_header X-User "$session_user";
        location /         { session a; proxy_pass http://127.0.0.1:8081; }
        location = /login  { session a optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /status { session_status; }
    }
}
EOC
    $t->write_file_expand('nginx.conf', $conf)->run();
    return;
}

sub sessions { return decode_json(client()->get('/status')->body())->{realms}[0]{zone}{sessions} }

sub logged_in {
    my $client = client();
    $client->post('/login', '', fetched());
    return $client;
}

# LMDB's file is locked by this process as by a writer that has been stopped.
my $holder;

sub lock_file {
    my ($type) = @_;
    open($holder, '+<', $t->testdir() . '/store/a.mdb') or die "a.mdb: $!\n" unless $holder;
    my $F_OFD_SETLK = 37;
    my $done = $t->wait_for(sub { fcntl $holder, $F_OFD_SETLK, pack 's s x4 q q i x4', $type, SEEK_SET, 0, 1, 0 });
    $done or die "cannot lock a.mdb: $!\n";
    return;
}

my %store = (
    memcached => {
        is    => 'memcached 127.0.0.1:8011 timeout=' . int(1000 * timeout(0.3)) . 'ms',
        hang  => sub { $memcached->pause() },
        go_on => sub { $memcached->resume() },
        looks => 503,
    },
    lmdb => {
        is    => 'lmdb store/a.mdb',
        hang  => sub { lock_file(F_WRLCK) },
        go_on => sub { lock_file(F_UNLCK) },
        looks => 200,                           # readers wait for no writer
    },
);

# Ten who are unknown here, and ten who log in.
sub waiting {
    my (@unknown) = @_;

    my $before = sessions();
    my @clients = (@unknown, map { client() } 1 .. 10);
    my @pending = map { $clients[$_]->start($_ < @unknown ? ('GET', '/') : ('POST', '/login', { body => '' }), fetched()) } 0 .. $#clients;
    $t->wait_for(sub { sessions() >= $before + 10 });
    return map { [ $clients[$_], $pending[$_] ] } 0 .. $#clients;
}

sub statuses {
    my (@waiting) = @_;
    my %count;
    $count{ $_->[0]->finish($_->[1], $GOODBYE)->status() }++ for @waiting;
    return join ', ', map { "$count{$_} x $_" } sort keys %count;
}

for my $kind (sort keys %store) {
    my $store = $store{$kind};
    my $answers = $store->{looks} == 200 ? '20 x 200' : '10 x 200, 10 x 503';
    configure($store->{is});
    my @unknown = map { logged_in() } 1 .. 10;
    $t->stop();
    $t->run();

    # --- reload ---

    $store->{hang}->();
    my $master = $t->master();
    my ($old) = $t->workers();
    my @waiting = waiting(@unknown);
    ok($t->try_reload(), "$kind: a reload goes through");
    is(statuses(@waiting), $answers, "$kind: the old worker answers those who wait");
    my $started = time();
    ok($t->wait_for(sub { !-e "/proc/$old" }, $GOODBYE), "$kind: and goes");
    note(sprintf '%s: %.1f s after its last answer', $kind, time() - $started);
    is(client()->get('/status')->status(), 200, "$kind: the new one serves");
    my @here = map { $_->[0] } @waiting[ 10 .. 19 ];
    is((grep { ($_->get('/', fetched())->header('X-User') // '') eq 'alice' } @here) + 0, 10, "$kind: and knows who has logged in meanwhile");
    $store->{go_on}->();
    $t->stop();
    $t->run();

    # --- quit, and stop ---

    for my $signal (qw(QUIT TERM)) {
        $store->{hang}->();
        @waiting = waiting(map { $_->clone() } @unknown);
        $master = $t->master();
        $started = time();
        my $seen = length $t->read_file('error.log');
        $t->signal($signal);
        is(statuses(@waiting), $answers, "$kind: $signal: those who wait are answered") if $signal eq 'QUIT';
        ok(reap($master, $GOODBYE), "$kind: $signal: nginx goes");
        like(substr($t->read_file('error.log'), $seen), $lost, "$kind: $signal: and says what it could not write") if $signal eq 'QUIT';
        note(sprintf '%s: %s: after %.1f s', $kind, $signal, time() - $started);
        $store->{go_on}->();
        $t->stop();
        $t->run();
        is((grep { ($_->get('/', fetched())->header('X-User') // '') eq 'alice' } @unknown) + 0, 10, "$kind: $signal: what was written is there");
    }
    $t->stop();
}

done_testing();
