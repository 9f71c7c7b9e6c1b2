#!/usr/bin/perl

# HTTP/2: one stream's answer waits for the store, the others on its connection do not; a stream
# that is taken back while it waits is gone. gRPC to the end, with its trailers.
# Faults: a login that stops a page's pictures; a request freed twice; a gRPC answer without status.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;
use Test::Nginx::Streams;
use Test::Withhold;

my $t = Test::Nginx->new()->has(qw(http http_v2 proxy grpc rewrite stub_status session_guard));

my $large = join '', map { sprintf "%07d\n", $_ } 1 .. 100_000;
my $login = [ 'X-Accel-Session' => 'create; user="alice"', 'Content-Type' => 'application/grpc' ];
my %answer = (
    small => [ 200, $login, "in\n" ],
    empty => [ 200, $login, '' ],
    large => [ 200, $login, $large ],
    parts => [ 200, $login, [ "one\n", { delay => 20 }, "two\n" ] ],
    page  => [ 200, [], "page\n" ],
);
for my $protocol (qw(http grpc)) {
    $t->recorder($protocol eq 'http' ? 8091 : 8095, sub {
        my ($request) = @_;
        return $answer{ ($request->path() =~ m{/([^/]+)\z}x)[0] };
    }, protocol => $protocol);
}
my $w = Test::Withhold->new($t, http2 => 1, locations => <<'EOC');
        location /http/ { session REALM optional; session_control create; proxy_pass http://127.0.0.1:8091; }
        location /grpc/ { session REALM optional; session_control create; grpc_pass grpc://127.0.0.1:8095; }
        location = /gif { empty_gif; }
        location = /stub { stub_status; }
EOC

# What a stream brought, without what differs from time to time.
sub seen {
    my ($s) = @_;

    return 'nothing' unless $s && $s->{ended};
    my @lines = map { "$_->[0]: $_->[1]" } @{ $s->{headers} }, [ '' => '' ], @{ $s->{trailers} };
    s/^(?:date:.*|(set-cookie:[ ])[ab](=)[\w-]{64}(?=;))/($1 \/\/ 'date') . ($2 \/\/ '')/xe for @lines;
    return join "\n", @lines, length $s->{body}, $s->{body} eq $large ? 'LARGE' : $s->{body};
}

sub remember {
    my ($s) = @_;
    $w->remember(join "\r\n", 'x', (map { "$_->[0]: $_->[1]" } @{ $s->{headers} }), '', '');
    return $s;
}

my @fetched = map { lc } fetched();
my $h2 = Test::Nginx::Streams->new(8084);
my $plain = Test::Nginx::Streams->new(8086);
for my $kind (qw(http grpc)) {
    for my $case ([ GET => 'small' ], [ GET => 'empty' ], [ GET => 'large' ], [ GET => 'parts' ], [ HEAD => 'large' ]) {
        my ($method, $shape) = @{$case};
        my $what = "$kind $shape $method";
        my @request = ($method, "/$kind/$shape", @fetched, te => 'trailers');
        my $expected = $plain->response($plain->send(@request));

        my ($before, $id, $others) = $w->sessions();
        my ($silent) = $w->silent(
            sub { $id = $h2->send(@request); return },
            sub { $w->sessions() > $before },
            sub {
                my @more = map { $h2->send('GET', $_, @fetched) } qw(/gif /http/page /gif);
                $others = join ' ', map { $_->{headers}[0][1] } grep { defined } map { $h2->response($_) } @more;
                return $h2->catch_up() && !$h2->has_begun($id);
            },
        );
        ok($silent, "$what: waits for the store");
        is($others, '200 200 200', "$what: other streams of the connection do not");
        is(seen(remember($h2->response($id))), seen($expected), "$what: then is what it would have been");
        like(seen($expected), qr/^grpc-status:[ ]0$/xm, "$what: with its trailers") if $kind eq 'grpc' && $method eq 'GET';
    }
}

# --- streams taken back ---

for my $kind (qw(http grpc)) {
    my $before = $w->sessions();
    my @ids;
    my ($silent) = $w->silent(
        sub { @ids = map { $h2->send('GET', "/$kind/large", @fetched) } 1 .. 20; return },
        sub { $w->sessions() >= $before + 20 },
        sub {
            my $all = $h2->catch_up() && !grep { $h2->has_begun($_) } @ids;
            $h2->take_back($_) for @ids[ 0 .. 9 ];
            return $all && $h2->catch_up();
        },
    );
    ok($silent, "$kind: twenty of one connection wait");
    my @bodies = map { remember($h2->response($_))->{body} } @ids[ 10 .. 19 ];
    is((grep { $_ eq $large } @bodies) + 0, 10, "$kind: those not taken back are answered");
    is((grep { $h2->has_begun($_) } @ids[ 0 .. 9 ]) + 0, 0, "$kind: of the others nothing came");
    ok($h2->is_open(), "$kind: the connection is good");
}

# --- streams that wait for a look-up ---

my $user = client();
$user->get('/fence/login', fetched());
$_->close_now() for $h2, $plain;
$t->stop();
$t->run();
my $cookie = 'a=' . $user->cookie('a');
$h2 = Test::Nginx::Streams->new(8084);
$t->store('stalls');
my @ids = map { $h2->send('GET', '/fence', @fetched, cookie => $cookie) } 1 .. 10;
ok($h2->catch_up() && !(grep { $h2->has_begun($_) } @ids), 'ten wait for a look-up');
$h2->take_back($_) for @ids[ 0 .. 4 ];
is($h2->response($h2->send('GET', '/gif', @fetched))->{headers}[0][1], 200, 'another does not');
$t->store('works');
my @users = map { my $s = $h2->response($_); map { $_->[1] } grep { $_->[0] eq 'x-user' } @{ $s->{headers} } } @ids[ 5 .. 9 ];
is("@users", 'alice alice alice alice alice', 'those not taken back are let in');
is((grep { $h2->has_begun($_) } @ids[ 0 .. 4 ]) + 0, 0, 'of the others nothing came');
ok($h2->is_open(), 'the connection is good');

# --- a connection that goes ---

my $before = $w->sessions();
my ($silent) = $w->silent(
    sub { $h2->send('GET', "/$_/large", @fetched) for (qw(http grpc)) x 10; return },
    sub { $w->sessions() >= $before + 20 },
    sub { $h2->close_now(); return 1 },
);
ok($silent, 'twenty wait, and their connection goes');
ok($t->wait_for(sub { client()->get('/stub')->body() =~ m/Active[ ]connections:[ ]1\s/x }), 'nothing of them is left');

$w->all_are_stored();

done_testing();
