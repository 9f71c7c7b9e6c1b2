#!/usr/bin/perl

# nginx is killed with all its processes at any instant, again and again, while users log in and
# out; or replaced by a new binary. Who was told "logged in" is, who was told "logged out" is not,
# and the file is sound every time.
# Faults: an answer given before its write was durable; half a transaction; a lock that stays with
# the dead; an upgrade that loses a login between two zones.

use strict;
use warnings;

use FindBin;
use File::Copy qw(copy);
use Test::More;
use Time::HiRes qw(sleep);

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;
use Test::Journal;

my $t = Test::Nginx->new()->has(qw(http proxy rewrite session_guard));
$t->recorder(8081, { '/login' => [ 200, { 'X-Accel-Session' => 'create; user="alice"; roles="editor"' }, "in\n" ], default => [ 200, {}, "page\n" ] });
$t->write_private_file('a.key', join('', map { sprintf '%02x', $_ } 1 .. 32) . "\n");
chown 0, 0, $t->testdir() . '/a.key' if $> == 0;
$t->make_directory('store');

my $conf = <<'EOC';
%%TEST_GLOBALS%%
worker_processes 2;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm a { zone 4m; key_file a.key; store lmdb store/a.mdb; cookie a secure=off; }
    server {
        listen 127.0.0.1:8080 backlog=1024;
        add_header X-User "$session_user";
        location /         { session a; proxy_pass http://127.0.0.1:8081; }
        location = /login  { session a optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /logout { session a; session_logout; }
        location = /free   { empty_gif; }
    }
}
EOC
$t->write_file_expand('nginx.conf', $conf)->run();

sub page {
    my ($token) = @_;
    my $response = client(no_cookies => 1)->get('/', fetched(), Cookie => "a=$token");
    return $response->status() == 200 ? $response->header('X-User') : reason($response);
}

# Every promise, here and now.
sub all_kept {
    my ($journal, $phrase) = @_;
    my ($in, $out) = $journal->promises();
    ok(@{$in} && @{$out}, sprintf '%s: %d logins and %d logouts were answered', $phrase, scalar @{$in}, scalar @{$out});
    my %seen;
    $seen{ page($_) }++ for @{$in};
    is(join(', ', sort keys %seen), 'alice', "$phrase: who was told 'logged in' is");
    %seen = ();
    $seen{ page($_) }++ for @{$out};
    is(join(', ', sort keys %seen), 'ended', "$phrase: who was told 'logged out' is");
    return;
}

# --- killed ---

my $seed = time;
srand $seed;
note("seed $seed");
my @journals;
for my $round (1 .. 4) {
    my $journal = Test::Journal->start($t);
    push @journals, $journal;
    ok($t->wait_for(sub { $journal->count('in') >= 20 && $journal->count('out') >= 10 }, 60), "round $round: users come and go");
    sleep(rand 0.3);
    $t->kill_nginx();
    $journal->end();
    $t->run();    # which looks through the file
    all_kept($journal, "round $round");
}
my ($in) = $journals[0]->promises();
is(page($in->[0]), 'alice', 'sessions of the first round are there after the last');

# --- one worker after another ---

my $journal = Test::Journal->start($t);
for my $round (1 .. 6) {
    my $wanted = $journal->count('in') + 10;
    $t->wait_for(sub { $journal->count('in') >= $wanted }, 60);
    my @workers = $t->workers();
    $t->kill_worker($workers[ rand @workers ]);
}
$journal->end();
$t->kill_nginx();
$t->run();
all_kept($journal, 'workers killed');

# --- a new binary, under load ---

$journal = Test::Journal->start($t);
$t->wait_for(sub { $journal->count('in') >= 20 }, 60);
for my $round (1 .. 2) {
    $t->upgrade_binary(sub {
        my $wanted = $journal->count('in') + 20;
        $t->wait_for(sub { $journal->count('in') >= $wanted }, 60);
    });
}
my $wanted = $journal->count('in') + 20;
ok($t->wait_for(sub { $journal->count('in') >= $wanted && $journal->count('out') }, 60), 'users come and go over two upgrades');
$journal->end();
is($journal->count('none'), 0, 'upgraded: nobody was without an answer');
# A logout at the old binary reaches the new one's zone as it would another node: after "revalidate"
# at the latest.
$t->advance(6);
all_kept($journal, 'upgraded');

# --- the file alone, on another machine ---

my ($moved) = $journal->promises();
$t->kill_nginx();
$t->make_directory('elsewhere');
my ($from, $to) = map { $t->testdir() . "/$_/a.mdb" } qw(store elsewhere);
copy($from, $to) or die "copy: $!\n";
chmod 0600, $to;
chown((stat $from)[ 4, 5 ], $to);
(my $other = $conf) =~ s{store/a[.]mdb}{elsewhere/a.mdb}x;
$t->write_file_expand('nginx.conf', $other)->run();
is((grep { page($_) eq 'alice' } @{$moved}) + 0, scalar @{$moved}, 'a copy of the file is enough, after a power cut as well');
$t->stop();

# --- one process for everything ---

# It runs as whoever started it, whose the file has to be.
chown $>, $), glob $t->testdir() . '/store/*';
(my $alone = $conf) =~ s/worker_processes[ ]2;/master_process off; daemon off;/x;
$t->write_file_expand('nginx.conf', $alone)->run();
is(page($moved->[0]), 'alice', 'master_process off: what the store has is known');
my $client = client();
is($client->post('/login', '', fetched())->status(), 200, 'master_process off: a login');
my $gone = $client->clone();
my $stays = client();
$stays->post('/login', '', fetched());
is($client->post('/logout', '', fetched())->status(), 204, 'master_process off: a logout');
$t->kill_nginx();
$t->run();
is(page($stays->cookie('a')), 'alice', 'master_process off: the login is there after a crash');
is(page($gone->cookie('a')), 'ended', 'and so is the logout');

done_testing();
