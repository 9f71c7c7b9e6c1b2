#!/usr/bin/perl

# LMDB finds no room: the file must not grow any more, or the disk is full. Logins are answered and
# count on this node, logouts too; all of it is in the file when there is room again.
# Faults: nginx that stops with the disk; a login told and forgotten; a file that cannot be read
# after it was cut short.

use strict;
use warnings;

use FindBin;
use JSON::PP qw(decode_json);
use POSIX ();
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http proxy rewrite session_guard));
$t->recorder(8081, { '/login' => [ 200, { 'X-Accel-Session' => 'create; user="alice"' }, "in\n" ], default => [ 200, {}, "page\n" ] });
$t->write_private_file('a.key', join('', map { sprintf '%02x', $_ } 1 .. 32) . "\n");
chown 0, 0, $t->testdir() . '/a.key' if $> == 0;
$t->make_directory('store');
$t->write_file_expand('nginx.conf', <<'EOC');
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    access_log off;
    session_realm a { zone 1m; key_file a.key; store lmdb store/a.mdb; cookie a secure=off; }
    server {
        listen 127.0.0.1:8080;
        add_header X-User "$session_user";
        location /         { session a; proxy_pass http://127.0.0.1:8081; }
        location = /login  { session a optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /logout { session a; session_logout; }
        location = /status { session_status; }
    }
}
EOC

sub status { return decode_json(client()->get('/status')->body())->{realms}[0] }
sub full { return status()->{store}{faults}{full} // 0 }

sub logged_in {
    my $client = client();
    return $client->post('/login', '', fetched())->status() == 200 ? $client : undef;
}

sub page {
    my ($client) = @_;
    my $response = $client->get('/', fetched());
    return $response->status() == 200 ? $response->header('X-User') : reason($response);
}

sub all_are {
    my ($what, $phrase, @clients) = @_;
    my %seen;
    $seen{ page($_) }++ for @clients;
    return is(join(', ', map { "$seen{$_} $_" } sort keys %seen), @clients . " $what", $phrase);
}

# Nothing waits to be written or tried again, nor did it when the batch under way set out.
sub has_settled {
    my $before = status()->{store};
    return 0 if $before->{retrying} + $before->{waiting} > 0;
    logged_in();
    my $now;
    $t->wait_for(sub { $now = status()->{store}; $now->{writes}{operations} > $before->{writes}{operations} });
    return $now->{retrying} + $now->{waiting} == 0;
}

# So many bytes no file of the worker may exceed; undef: any.
sub limit_worker {
    my ($bytes) = @_;
    my ($worker) = $t->workers();
    my ($uid, $gid) = (stat "/proc/$worker")[ 4, 5 ];
    my @as_worker = $> == 0 ? ('setpriv', "--reuid=$uid", "--regid=$gid", '--clear-groups') : ();
    system(@as_worker, 'prlimit', '--fsize=' . ($bytes // 'unlimited') . ':unlimited', '--pid', $worker) == 0 or die "prlimit failed\n";
    return;
}

# A file system of its own, where this is allowed; in a name space of its own, so that it is gone
# with this process.
my $directory = $t->testdir() . '/store';
my ($UNSHARE, $CLONE_NEWNS) = ({ x86_64 => 272, aarch64 => 97 }->{ (POSIX::uname())[4] }, 0x2_0000);

sub mount_small {
    return 0 if $> != 0 || !$UNSHARE || syscall($UNSHARE, $CLONE_NEWNS) != 0;
    return 0 if system('mount --make-rprivate / 2>/dev/null') != 0 || system("mount -t tmpfs -o size=1m,mode=0755 none $directory 2>/dev/null") != 0;
    chown((stat $t->testdir())[ 4, 5 ], $directory);
    return 1;
}

sub fill_disk {
    open(my $fh, '>', "$directory/ballast") or die "ballast: $!\n";
    1 while syswrite $fh, 'x' x 4096;
    close $fh;
    return;
}

# Beyond a limit, a write fails as on a full disk, once nobody dies of the signal.
local $SIG{XFSZ} = 'IGNORE';

my %way = (
    'a limit' => {
        fill => sub { limit_worker(-s "$directory/a.mdb") },
        free => sub { limit_worker(undef) },
    },
    'a full disk' => {
        fill => \&fill_disk,
        free => sub { unlink "$directory/ballast" },
    },
);

for my $name ('a limit', 'a full disk') {
    my $way = $way{$name};
    if ($name eq 'a full disk') {
        $t->stop();
        unlink glob "$directory/*";
        if (!mount_small()) {
            diag('no file system may be mounted here: a limit alone was tried');
            last;
        }
    }
    $t->run();
    my @stored = map { logged_in() } 1 .. 20;
    $t->stop();
    $t->run();
    my @known = map { logged_in() } 1 .. 20;
    my @leaving = map { logged_in() } 1 .. 5;
    $way->{fill}->();

    # --- no room ---

    my @here;
    ok($t->wait_for(sub { push @here, logged_in() for 1 .. 20; full() }, 60), "$name: at last there is no room");
    push @here, map { logged_in() } 1 .. 10;
    is((grep { !defined } @here) + 0, 0, "$name: every login is answered");
    all_are('alice', "$name: and counts on this node", @here);
    all_are('alice', "$name: so do those of before", @known);
    all_are('alice', "$name: what is in the file only can be read", @stored);
    my @copies = map { $_->clone() } @leaving;
    is(join(' ', map { $_->post('/logout', '', fetched())->status() } @leaving), '204 204 204 204 204', "$name: logouts are answered");
    all_are('ended', "$name: and count", @copies);
    cmp_ok(status()->{store}{retrying}, '>', 0, "$name: what is not in the file is tried again");

    # --- room again ---

    $way->{free}->();
    ok($t->wait_for(\&has_settled), "$name: room again, and everything is written");
    $t->kill_nginx();
    $t->run();
    all_are('alice', "$name: after a crash everybody is there", @here, @known, @stored);
    all_are('ended', "$name: but those who left", @copies);
}

done_testing();    # nginx has stopped
system("umount $directory 2>/dev/null");
