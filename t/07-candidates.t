#!/usr/bin/perl

# Several session cookies in one request.
# Attacks: cookie tossing from a sibling host (a second cookie of the same name, in either order, in one
# header or two, over HTTP/2, a __hOsT- twin), locking a user out by cookies, ending only one of two sessions.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http proxy ssl v2 session_guard));

my $up = $t->recorder(8081, sub {
    my ($request) = @_;
    my ($user) = $request->uri() =~ m/u=(\w+)/x;
    return [ 200, { 'X-Accel-Session' => qq{create; user="$user"} }, "in\n" ] if defined $user;
    return [ 200, {}, "page\n" ];
});

$t->ssl_cert()->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm app { zone 1m; identity X-User=$session_user; cookie __Secure-id path=/ formerly=/app formerly=/@example.com; }
    upstream app { server 127.0.0.1:8081; }
    server {
        listen 127.0.0.1:8443 ssl http2;
        ssl_certificate localhost.crt;
        ssl_certificate_key localhost.key;
        session app;
        location /         { proxy_pass http://app; }
        location = /login  { session app optional; session_control create; proxy_pass http://app; }
        location = /logout { session_logout; }
    }
}
EOC

my $name = '__Secure-id';

sub token_of {
    my ($user) = @_;
    my $client = client(ssl => 1);
    $client->post("/login?u=$user", '', fetched());
    return $client->cookie($name);
}

my $visitor = client(ssl => 1);

# Who the upstream is told it is, or the reason of the refusal.
sub who {
    my ($cookies, $over) = @_;
    my $response = $over
        ? $visitor->h2(GET => '/page', fetched(), Cookie => $cookies)
        : $visitor->get('/page', fetched(), Cookie => $cookies);
    return $response->status() == 200 ? $up->last()->header('X-User') : reason($response);
}

my ($alice, $bob) = (token_of('alice'), token_of('bob'));
(my $forged = $alice) =~ s/(.)\z/$1 eq 'A' ? 'B' : 'A'/xe;
my $ended = token_of('alice');
client(ssl => 1)->post('/logout', '', fetched(), Cookie => ["$name=$ended"]);

is(who([ "$name=$alice" ]), 'alice', 'one good cookie');
is(who([ "$name=$forged" ]), 'forged', 'a forged one');
is(who([ "$name=$ended" ]), 'ended', 'an ended one');

# --- a good one beside a bad one, however they come ---

my %bad = (forged => $forged, ended => $ended, malformed => 'x', empty => '', long => 'A' x 500, other => 'A' x 64);
for my $kind (sort keys %bad) {
    my ($good, $other) = ("$name=$alice", "$name=$bad{$kind}");
    is(who([ "$good; $other" ]), 'alice', "good, $kind");
    is(who([ "$other; $good" ]), 'alice', "$kind, good");
    is(who([ $good, $other ]), 'alice', "good, $kind in two headers");
    is(who([ $other, $good ]), 'alice', "$kind, good in two headers");
    is(who([ $other, 'a=1', $good ], 1), 'alice', "$kind, good over HTTP/2");
}
is(who([ "$name=$alice; $name=$alice" ]), 'alice', 'the same one twice');
is(who([ "$name=x; $name=$forged; $name=$ended; $name=$alice" ]), 'alice', 'the last of four');
isnt(who([ "$name=x; $name=y; $name=z; $name=$forged; $name=$alice" ]), 'alice', 'a fifth is not looked at');

# --- a twin in another case is another cookie ---

is(who([ "__sEcUrE-id=$forged; $name=$alice" ]), 'alice', 'a twin of another case is not ours');
is(who([ "__SECURE-id=$bob" ]), 'none', 'and opens nothing');
$t->token_may_reach($up);    # a twin is an ordinary cookie, which the attacker set and may read anyway

# --- two different good ones ---

for my $pair ([ $alice, $bob ], [ $bob, $alice ]) {
    is(who([ join '; ', map { "$name=$_" } @{$pair} ]), 'ambiguous', 'two sessions at once');
    is(who([ map { "$name=$_" } @{$pair} ]), 'ambiguous', 'in two headers');
    is(who([ map { "$name=$_" } @{$pair} ], 1), 'ambiguous', 'over HTTP/2');
}
my @both = ("$name=$alice; $name=$bob");
my $r = $visitor->get('/page', fetched(), Cookie => [@both]);
is($r->status(), 401, 'refused');
is(scalar $r->set_cookies(), 0, 'a script touches no cookie');
$r = $visitor->get('/page', navigation(), Cookie => [@both]);
is(scalar $r->set_cookies(), 3, 'a page expires the cookie in every variant');
my @places = sort map { my $a = $_->{attributes}; join '', $a->{path}, defined $a->{domain} ? "\@$a->{domain}" : '' } $r->set_cookies();
is("@places", '/ /@example.com /app', 'of now and of formerly');
is(who([ "$name=$alice" ]), 'alice', 'alone, each is still good');
is(who([ "$name=$bob" ]), 'bob', 'both of them');

# --- login and logout with two ---

my $carol = client(ssl => 1);
$r = $carol->post('/login?u=carol', '', fetched(), Cookie => [@both]);
is($r->status(), 200, 'a login with two cookies');
is(who([ "$name=$alice" ]), 'regenerated', 'ends the one');
is(who([ "$name=$bob" ]), 'regenerated', 'and the other');

($alice, $bob) = (token_of('alice'), token_of('bob'));
client(ssl => 1)->post('/logout', '', fetched(), Cookie => ["$name=$alice; $name=$bob"]);
is(who([ "$name=$alice" ]), 'ended', 'a logout with two cookies ends the one');
is(who([ "$name=$bob" ]), 'ended', 'and the other');

done_testing();
