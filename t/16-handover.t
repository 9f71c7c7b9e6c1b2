#!/usr/bin/perl

# Another size of the zone while workers of the sizes before go on: what one does is done for all.
# Attacks and faults: a logout that an old or a new worker does not hear of; a session that is lost
# with the worker that made it, or lives on in the other's zone; activity that does not count;
# several sizes at once; a worker killed while sessions move; a reload that fails after the new zone
# was made; memory that stays with the master.

use strict;
use warnings;

use FindBin;
use List::Util qw(shuffle);
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Nginx::Process qw(children title);
use Test::Nginx::Socket;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http proxy session_guard));

my $up = $t->recorder(8081, sub {
    my ($request) = @_;
    my $uri = $request->uri();
    return [ 101, { Upgrade => 'websocket', Connection => 'Upgrade' }, '' ] if $uri =~ m{/socket\z}x;
    my $size = $uri =~ m{/small/}x ? 10 : 300;
    my $create = 'create; user="alice"; data.n="0"; data.d="' . 'x' x $size . '"';
    return [ 200, { 'X-Accel-Session' => $create }, "in\n", { wait_file => 'go' } ] if $uri =~ m{/slow\z}x;
    return [ 200, { 'X-Accel-Session' => $create }, "in\n" ] if $uri =~ m{/login\z}x;
    return [ 200, { 'X-Accel-Session' => 'renew' }, "done\n" ] if $uri =~ m{/renew\z}x;
    return [ 200, { 'X-Accel-Session' => qq(update; data.n="$1") }, "done\n" ] if $uri =~ m{/update[?](\d+)\z}x;
    return [ 200, {}, "page\n" ];
});

my $generation = 0;
my @realms = qw(none store);

sub configuration {
    my (%option) = @_;
    my $size = $option{size};
    my $listen = join ' ', map { "listen 127.0.0.1:$_;" } 8080, ($option{taken} ? 8081 : ());
    my $locations = join '', map { <<"EOC" } @realms, 'small';
        location = /$_/login  { session $_ optional; session_control create; proxy_pass http://app; }
        location = /$_/slow   { session $_ optional; session_control create; proxy_pass http://app; }
        location = /$_/update { session $_; session_control update; proxy_pass http://app; }
        location = /$_/renew  { session $_; session_control renew; proxy_pass http://app; }
        location = /$_/logout { session $_; session_logout; }
        location = /$_/page   { session $_; empty_gif; }
        location = /$_/status { session_status from=127.0.0.1; }
        location = /$_/socket { session $_; proxy_pass http://app; proxy_http_version 1.1;
                                proxy_set_header Upgrade \$http_upgrade; proxy_set_header Connection Upgrade; }
EOC
    return <<"EOC";
%%TEST_GLOBALS%%
daemon off;
worker_processes 2;
thread_pool default threads=4;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    access_log off;
    session_realm none  { zone $size; cookie none secure=off; idle_timeout 10m; }
    session_realm store { zone $size; cookie store secure=off; idle_timeout 10m; key_file a.key; store lmdb store/a.mdb map_size=16m; }
    session_realm small { zone $option{small}; cookie small secure=off; }
    upstream app { server 127.0.0.1:8081; }
    client_header_timeout 60s;
    add_header X-Generation $option{generation} always;
    add_header X-N "\$session_attr_n" always;
    server {
        $listen
$locations
    }
}
EOC
}

my %now = (size => '1m', small => '48k', generation => 0);

# Another size is another generation of workers.
sub resize {
    my (%change) = @_;
    %now = (%now, %change, generation => ++$generation);
    $t->write_file_expand('nginx.conf', configuration(%now));
    return $t->try_reload();
}

$t->make_directory('store');
$t->write_private_file('a.key', 'c7' x 32 . "\n");
$t->write_file_expand('nginx.conf', configuration(%now))->run();

# --- connections that stay with their worker ---

# The worker has begun to read a request, which one is decided later: so it takes it whatever has
# been reloaded since.
sub held {
    my $socket = Test::Nginx::Socket->connect_to(port => port(8080));
    $socket->send_bytes("\r\n");
    return $socket;
}

sub several_held { my ($count) = @_; return map { held() } 1 .. $count }

# `$by`: such a connection; or undef, for a new one.
sub ask {
    my ($client, $by, $method, $uri) = @_;
    my @options = $method eq 'POST' ? ({ body => '' }) : ();
    return $client->request($method, $uri, @options, fetched()) unless $by;
    $client->{socket} = $by;
    my $response = $client->request($method, $uri, { keepalive => 1 }, @options, fetched());
    $client->disconnect();
    return $response;
}

sub login {
    my ($realm, $by) = @_;
    my $client = client();
    $client->{answer} = ask($client, $by, POST => "/$realm/login");
    return $client;
}

sub logged_in { my ($realm, $count) = @_; return map { login($realm) } 1 .. $count }

# 200, or why not.
sub page {
    my ($client, $realm, $by) = @_;
    my $response = ask($client, $by, GET => "/$realm/page");
    return $response->status() == 200 ? 200 : reason($response);
}

sub value { my ($client, $realm, $by) = @_; return ask($client, $by, GET => "/$realm/page")->header('X-N') }

sub leaving { return grep { title($_) =~ m/shutting[ ]down/x } children($t->master()) }

# Sizes that have been handed over completely: lines of the log.
sub handed_over {
    my ($realm) = @_;
    my @lines = $t->read_file('error.log') =~ m/"session_guard:$realm":[ ]handed[ ]over[ ]from/xg;
    return scalar @lines;
}

sub wait_for_handover {
    my ($count, $phrase) = @_;
    return ok($t->wait_for(sub { (grep { handed_over($_) >= $count } @realms) == @realms }, 20), $phrase);
}

sub socket_to {
    my ($realm, $client) = @_;
    my (undef, $socket) = $client->clone()->upgrade("/$realm/socket", Origin => 'http://localhost', Host => 'localhost');
    return $socket;
}

sub echoes {
    my ($socket, $text) = @_;
    $socket->send_bytes("$text\n");
    return $socket->read_until(qr/\n/x) eq "$text\n";
}

# --- two generations ---

my %before = map { $_ => [ logged_in($_, 20) ] } @realms;
my %held = map { $_ => [ several_held(20) ] } @realms;
my %socket = map { $_ => socket_to($_, $before{$_}[19]) } @realms;
$t->write_file('size.before', mappings());

# How often the master has a zone's memory mapped, and how much of it is there in kB.
sub mappings {
    my $smaps = do { local (@ARGV, $/) = ('/proc/' . $t->master() . '/smaps'); <> };
    return scalar(() = $smaps =~ m{^[\da-f]+-[\da-f]+[ ]rw-s[ ].*/dev/zero}xmg);
}

my $slow = client();
my $asked = $up->count();
my $under_way = $slow->start('POST', '/none/slow', { body => '' }, fetched());
$up->wait_for($asked + 1);
ok(resize(size => '2m'), 'a larger zone, with connections held by old workers');

for my $realm (@realms) {
    my $old = $held{$realm};
    my $take = sub { return shift @{$old} };

    my $there = login($realm, $take->());
    is($there->{answer}->header('X-Generation'), 0, "$realm: a login by an old worker");
    is(page($there, $realm), 200, "$realm: a new one knows it");
    is(ask($there, undef, GET => "/$realm/page")->header('X-Generation'), 1, "$realm: and is a new one");
    my $here = login($realm);
    is(page($here, $realm, $take->()), 200, "$realm: a login by a new worker is known to an old one");

    for my $way ([ 'old', $take ], [ 'new', sub { return } ]) {
        my ($who, $by) = @{$way};
        my $other = $who eq 'old' ? sub { return } : $take;
        for my $client (login($realm, $take->()), login($realm), $before{$realm}[ $who eq 'old' ? 0 : 1 ]) {
            my $copy = $client->clone();
            is(ask($client, scalar $by->(), POST => "/$realm/logout")->status(), 204, "$realm: a logout by the $who");
            is(page($copy, $realm, scalar $other->()), 'ended', "$realm: counts for the others");
        }
    }
    my $changed = $before{$realm}[2];
    ask($changed, $take->(), POST => "/$realm/update?5");
    is(value($changed, $realm), 5, "$realm: a change by an old worker is seen by the new");
    ask($changed, undef, POST => "/$realm/update?6");
    is(value($changed, $realm, $take->()), 6, "$realm: and the other way round");

    my $renewed = $before{$realm}[3];
    my $first = $renewed->clone();
    ask($renewed, undef, POST => "/$realm/renew");
    isnt($renewed->cookie($realm), $first->cookie($realm), "$realm: renewed by a new worker");
    is(page($renewed, $realm, $take->()), 200, "$realm: an old one knows the new token");
    ask($first, $take->(), POST => "/$realm/renew");
    is($first->cookie($realm), $first->clone()->cookie($realm), "$realm: and does not renew the old one again");
    ok(echoes($socket{$realm}, 'hello'), "$realm: a WebSocket goes on");
}
$t->write_file('go', '');
is($slow->finish($under_way)->status(), 200, 'a login that was under way ends');
is(page($slow, 'none'), 200, 'and is known');

for my $realm (@realms) {
    $held{$realm} = [];
    my @of_old = several_held(2);    # by the workers of now
    my $client = login($realm);
    $held{$realm} = [ @of_old, several_held(8) ];
}

# --- three generations, activity ---

ok(resize(size => '700k'), 'a smaller zone, the old workers of two sizes go on');
my %idle = map { $_ => login($_) } @realms;
my %active = map { $_ => login($_) } @realms;
my %kept = map { $_ => [ logged_in($_, 2) ] } @realms;
for my $realm (@realms) {
    my $middle = $held{$realm};
    is(ask($active{$realm}, shift @{$middle}, GET => "/$realm/page")->header('X-Generation'), 1, "$realm: the middle one is there");
}
for my $round (1 .. 3) {
    $t->advance(4 * 60);
    for my $realm (@realms) {
        is(page($active{$realm}, $realm, $round % 2 ? shift @{ $held{$realm} } : undef), 200, "$realm: activity, $round");
        page($_, $realm) for @{ $before{$realm} }[ 3 .. 19 ], @{ $kept{$realm} };
    }
}
for my $realm (@realms) {
    is(page($idle{$realm}, $realm), 'expired_idle', "$realm: nobody's activity, twelve minutes later");
    my $last = shift @{ $held{$realm} };
    is(page($active{$realm}, $realm, $last), 200, "$realm: activity seen by the old is seen by all");
    my $copy = $kept{$realm}[1]->clone();
    ask($kept{$realm}[1], shift @{ $held{$realm} }, POST => "/$realm/logout");
    is(page($copy, $realm), 'ended', "$realm: ended by the middle one");
}

# The middle one goes first.
$_->close_now() for map { @{ $held{$_} } } @realms;
is(handed_over('none'), 0, 'while workers of the oldest live, its zone is there');
wait_for_handover(1, 'the middle zone is handed over when its workers are gone');
ok(echoes($socket{none}, 'still'), 'the oldest are still there');
is(page($kept{$_}[0], $_), 200, "$_: sessions stay") for @realms;
$socket{$_}->close_now() for @realms;
wait_for_handover(2, 'then the oldest');
for my $realm (@realms) {
    is((grep { page($_, $realm) eq '200' } @{ $before{$realm} }[ 4 .. 19 ]) + 0, 16, "$realm: all sessions are there");
    is(page($before{$realm}[3], $realm), 200, "$realm: the renewed one");
    isnt(page($before{$realm}[0], $realm), 200, "$realm: no ended one");
}
is(scalar leaving(), 0, 'no old worker is left');

# --- a full zone ---

my @crowd;
for (1 .. 500) {
    my $client = login('small');
    last if $client->{answer}->status() != 200;
    push @crowd, $client;
}
$t->expect_alert(qr/realm[ ]"small":[ ]zone[ ]is[ ]full/x);
my @two = several_held(2);
ok(resize(small => '256k'), 'a full zone is enlarged, with old workers left');
my $extra = login('small');
is($extra->{answer}->status(), 200, 'full: there is room at once');
is(page($extra, 'small'), 200, 'full: and the session is good');
my $one = pop @crowd;
my $same = $one->clone();
ask($one, shift @two, POST => '/small/logout');
is(page($same, 'small'), 'ended', 'full: a logout by the old counts');
$_->close_now() for @two;
ok($t->wait_for(sub { handed_over('small') }, 20), 'full: handed over');
is((grep { page($_, 'small') eq '200' } @crowd, $extra) + 0, @crowd + 1, 'full: nobody is lost');
$t->expect_alert(qr/zone[ ]"session_guard:small"[ ]of[ ]38912[ ]bytes[ ]is[ ]too[ ]small/x);
ok(!resize(small => '38k'), 'full: what does not fit is refused');
$generation--;
$now{small} = '256k';

# --- a reload that fails when the zone has been made ---

my ($witness) = several_held(1);
%now = (%now, size => '3m', generation => 98);
$t->write_file_expand('nginx.conf', configuration(%now, taken => 1));
$t->expect_alert(qr/bind\(\)[ ].*failed|still[ ]could[ ]not[ ]bind/x);
ok(!$t->try_reload(), 'a reload fails: the address is in use');
ok($t->wait_for(sub { $t->read_file('error.log') =~ m/still[ ]could[ ]not[ ]bind/x }, 20), 'after some tries');
is(page($kept{$_}[0], $_), 200, "$_: the running configuration goes on") for @realms;
is(login('none')->{answer}->header('X-Generation'), $generation, 'with logins, in the same workers');
$witness->close_now();

# --- ten sizes under load ---

# A process with sessions of its own: it logs in, looks, changes, renews, logs out, by new workers
# and by whichever has held its connections, and knows what must come of it.
sub load {
    my ($name, $realm) = @_;
    return $t->start_daemon(sub {
        my $self = { realm => $realm, live => [], ended => [], held => [], wrong => [], count => {} };
        until (-e $t->testdir() . '/load.end') {
            load_round($self);
            told("round.$name", ++$self->{rounds});
        }
        load_last($self);
        told("load.$name", join "\n", (map { $self->{count}{$_} // 0 } qw(login logout renew update stale unanswered)),
            scalar @{ $self->{live} }, @{ $self->{wrong} });
    });
}

# Every other request by the oldest of a dozen connections.
sub either {
    my ($self) = @_;
    return if $self->{flip} ^= 1;
    push @{ $self->{held} }, held();
    return @{ $self->{held} } > 12 ? shift @{ $self->{held} } : undef;
}

# Dies without an answer: by the worker that is killed.
sub load_ask {
    my ($self, $client, $method, $path, $want) = @_;
    my $response = eval { ask($client, scalar either($self), $method, "/$self->{realm}/$path") };
    if (!$response || !$response->status()) {
        $self->{count}{unanswered}++;
        die "no answer\n";
    }
    my $by = $response->header('X-Generation') // -1;
    $self->{newest} = $by if $by > ($self->{newest} // 0);
    $self->{count}{stale}++ if $by < ($self->{newest} // 0);
    push @{ $self->{wrong} }, "$method $path by generation $by of $self->{newest}: " . $response->status() . ' ' . reason($response)
        if $response->status() != $want;
    return $response;
}

# What the code does to the session: then it is known what has become of it, or nobody looks at it
# again.
sub with_session {
    my ($list, $client, $code) = @_;
    return eval { $code->($client); push @{$list}, $client; 1 };
}

sub change_or_renew {
    my ($self, $client) = @_;
    my $what = rand();
    if ($what < 0.3) {
        my $n = $self->{rounds} // 0;
        load_ask($self, $client, POST => "update?$n", 200);
        $self->{count}{update}++;
        my $seen = load_ask($self, $client, GET => 'page', 200)->header('X-N') // 'nothing';
        push @{ $self->{wrong} }, "changed to $n, is $seen" if $seen ne $n;
    }
    elsif ($what < 0.45) {
        load_ask($self, $client, POST => 'renew', 200);
        $self->{count}{renew}++;
    }
    load_ask($self, $client, GET => 'page', 200);
    return;
}

sub log_out_for_good {
    my ($self, $client) = @_;
    my $copy = $client->clone();
    load_ask($self, $client, POST => 'logout', 204);
    $self->{count}{logout}++;
    load_ask($self, $copy, GET => 'page', 401) for 1, 2;
    $client->set_cookie($self->{realm}, $copy->cookie($self->{realm}));
    return;
}

sub load_round {
    my ($self) = @_;
    my ($live, $ended) = @{$self}{qw(live ended)};
    with_session($live, client(), sub { load_ask($self, $_[0], POST => 'login', 200); $self->{count}{login}++ });
    for (1 .. 3) {
        my $one = splice @{$live}, rand @{$live}, 1;
        with_session($live, $one, sub { change_or_renew($self, @_) }) if $one;
    }
    while (@{$live} > 25) {
        with_session($ended, splice(@{$live}, rand @{$live}, 1), sub { log_out_for_good($self, @_) });
    }
    for my $one ((shuffle @{$ended})[ 0, 1 ]) {
        eval { load_ask($self, $one, GET => 'page', 401) } if $one;
    }
    return;
}

sub load_last {
    my ($self) = @_;
    $_->close_now() for splice @{ $self->{held} };
    for my $list ([ live => 200 ], [ ended => 401 ]) {
        my ($name, $status) = @{$list};
        eval { load_ask($self, $_, GET => 'page', $status) } for @{ $self->{$name} };
    }
    return;
}

# The file is there when it is whole.
sub told {
    my ($name, $text) = @_;
    $t->write_file("$name.part", $text);
    rename $t->testdir() . "/$name.part", $t->testdir() . "/$name" or die "rename: $!\n";
    return;
}

my %realm_of = (1 => 'none', 2 => 'none', 3 => 'store');
load($_, $realm_of{$_}) for sort keys %realm_of;
sub rounds { return map { -e $t->testdir() . "/round.$_" ? $t->read_file("round.$_") : 0 } sort keys %realm_of }

sub wait_rounds {
    my ($more) = @_;
    my @before = rounds();
    return $t->wait_for(sub { my @now = rounds(); !grep { $now[$_] < $before[$_] + $more } 0 .. $#now }, 30);
}

wait_rounds(10);
my $done = handed_over('none');
my @sockets;
my $accepted = 0;
my @sizes = qw(2m 768k 4m 640k 1m 8m 900k 3m 700k 1m);
for my $size (@sizes) {
    push @sockets, socket_to('none', login('none'));
    $accepted++ if resize(size => $size);
    wait_rounds(8);
}
is($accepted, 10, 'load: ten sizes');
cmp_ok(scalar leaving(), '>=', 10, 'load: workers of all of them are there: ' . leaving());
ok(echoes($sockets[$_], "number $_"), "load: WebSocket $_ goes on") for 0 .. $#sockets;
wait_rounds(10);

# Some go; a worker of those that move what they leave is killed meanwhile.
$_->close_now() for (shuffle @sockets)[ 0 .. 4 ];
wait_rounds(2);
$t->kill_worker(($t->workers())[0]);
$t->wait_for(sub { $t->workers() == 2 }, 10);
$_->close_now() for @sockets;
told('load.end', '');
for my $i (sort keys %realm_of) {
    ok($t->wait_for(sub { -e $t->testdir() . "/load.$i" }, 30), "load: process $i has ended");
    my ($logins, $logouts, $renewals, $changes, $stale, $unanswered, $live, @wrong) = split m/\n/x, $t->read_file("load.$i");
    is(join("\n", @wrong), '', "load: process $i saw nothing wrong");
    cmp_ok($stale, '>=', 10, "load: by older workers: $stale; logins $logins, logouts $logouts, renewals $renewals, changes $changes");
    cmp_ok($live, '>=', 10, "load: $live sessions at the end");
    cmp_ok($unanswered, '<=', 15, "load: without an answer, by the killed worker: $unanswered");
}
wait_for_handover($done + @sizes, 'load: all are handed over');
is(scalar leaving(), 0, 'load: no old worker is left');

# --- what is left of the old zones ---

$t->reload();
$t->wait_for(sub { !leaving() }, 10);
is(mappings(), $t->read_file('size.before'), 'the master has mapped what it had at the beginning');
is(page(login($_), $_), 200, "$_: logins work") for @realms, 'small';

done_testing();
