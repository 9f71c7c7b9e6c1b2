#!/usr/bin/perl

# The event loop's thread itself never touches a store: not its sockets, not its files, and it
# calls nothing that waits. As the kernel sees it.
# Faults: a look-up on the wrong thread, which every other test would pass as long as the disk is quick.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;
use Test::Nginx::Memcached;

my $t = Test::Nginx->new()->has(qw(http proxy rewrite session_guard))->has_daemon('strace');
$t->recorder(8081, sub {
    my ($request) = @_;
    my $say = $request->header('X-Say');
    return [ 200, { $say ? ('X-Accel-Session' => $say) : () }, "page\n" ];
});
Test::Nginx::Memcached->new($t, 8011);
$t->write_private_file('a.key', join('', map { sprintf '%02x', $_ } 1 .. 32) . "\n");
chown 0, 0, $t->testdir() . '/a.key' if $> == 0;
$t->make_directory('store');
$t->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm m { zone 1m; key_file a.key; store memcached 127.0.0.1:8011; revalidate 10s; idle_timeout 10m; cookie m secure=off; }
    session_realm l { zone 1m; key_file a.key; store lmdb store/l.mdb; revalidate 10s; idle_timeout 10m; cookie l secure=off; }
    server {
        listen 127.0.0.1:8080;
        location /m/         { session m; session_control on; proxy_pass http://127.0.0.1:8081; }
        location = /m/login  { session m optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /m/logout { session m; session_logout; }
        location /l/         { session l; session_control on; proxy_pass http://127.0.0.1:8081; }
        location = /l/login  { session l optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /l/logout { session l; session_logout; }
        location = /status   { session_status; }
    }
}
EOC

sub logged_in {
    my ($realm) = @_;
    my $client = client();
    $client->post("/$realm/login", '', fetched(), 'X-Say' => 'create; user="alice"');
    return $client;
}

# All that the module does with its stores, statuses in a row.
sub everything {
    my (%unknown) = @_;

    my @status;
    for my $realm (qw(m l)) {
        my $client = logged_in($realm);
        my @requests = ([ GET => '' ], [ GET => 'update; roles="editor"' ], [ GET => 'renew' ], [ GET => 'reauth' ]);
        push @status, map { $client->request($_->[0], "/$realm/", fetched(), $_->[1] ? ('X-Say' => $_->[1]) : ())->status() } @requests;
        push @status, $unknown{$realm}->get("/$realm/", fetched())->status();
        $t->advance(120);    # confirmed long ago, and its activity is to be written
        push @status, $client->get("/$realm/", fetched())->status() for 1 .. 2;
        push @status, $client->post("/$realm/logout", '', fetched())->status();
    }
    client()->get('/status');
    return join ' ', @status;
}

my %unknown = map { $_ => logged_in($_) } qw(m l);
my $expected = join ' ', ((200) x 7, 204) x 2;
$t->stop();
$t->run();
my ($worker) = $t->workers();
client()->get('/status');

# --- under strace ---

my $strace = $t->start_daemon('strace', '-f', '-yy', '-s', 0, '-o', $t->testdir() . '/calls', '-e',
    'trace=%network,%desc,%file,nanosleep,clock_nanosleep,fsync,fdatasync,msync', '-p', $worker);
my $attached = sub {
    for my $file (glob "/proc/$worker/task/*/status") {
        open(my $fh, '<', $file) or return 0;
        return 0 unless (grep { m/\ATracerPid:\s+$strace\b/x } <$fh>);
    }
    return 1;
};
ok($t->wait_for($attached), 'strace watches every thread of the worker');
is(everything(%unknown), $expected, 'all that concerns a store is done');
$t->stop_daemon($strace, 'INT');

my $memcached = port(8011);
my $store = qr{/store/l[.]mdb|:$memcached\b|htons\($memcached\)}x;
my $waits = qr/\A(?:poll|ppoll|select|pselect6|nanosleep|clock_nanosleep|fsync|fdatasync|msync|flock)\z/x;
my (%touched, @foul, $calls);
for my $line (split m/\n/x, $t->read_file('calls')) {
    my ($thread, $call) = $line =~ m/\A(\d+)\s+(?:<[.]{3}[ ])?(\w+)/x or next;
    my $is_store = $line =~ $store ? $& : '';
    if ($thread == $worker) {
        $calls++;
        push @foul, $line if $is_store || $call =~ $waits;
    }
    else {
        $touched{ $is_store =~ m/mdb/x ? 'lmdb' : 'memcached' }++ if $is_store;
    }
}
cmp_ok($calls, '>', 100, 'what the event loop calls has been seen');
cmp_ok($touched{$_} // 0, '>', 5, "threads use $_, and that is seen as well") for qw(lmdb memcached);
is(join("\n", @foul), '', 'the event loop touches no store, and nothing that it calls waits');

done_testing();
