#!/usr/bin/perl

# The answer to a login waits until the store has the session, whatever speaks behind nginx and
# whatever the answer looks like, and is then, byte for byte, what it would have been.
# Faults: a user told "logged in" whose session a crash takes back; an answer cut, doubled, out of
# order or without its end because it had to wait.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Withhold;

my $t = Test::Nginx->new()->has(qw(http proxy fastcgi uwsgi scgi grpc rewrite session_guard));

# Bytes that show any that is lost, doubled or moved.
my $large = join '', map { sprintf "%07d\n", $_ } 1 .. 100_000;
my $login = { 'X-Accel-Session' => 'create; user="alice"', 'Content-Type' => 'text/plain', 'X-Other' => 'kept' };
my %answer = (
    small   => [ 200, $login, "in\n" ],
    nothing => [ 200, $login, '' ],
    large   => [ 200, $login, $large ],
    parts   => [ 200, $login, [ "one\n", { delay => 20 }, "two\n", { delay => 20 }, "three\n" ] ],
    204     => [ 204, $login, '' ],
    304     => [ 304, { %{$login}, ETag => '"x"' }, '' ],
    moved   => [ 302, { %{$login}, Location => '/x' }, "there\n" ],
);
my %http_only = (
    chunked => [ 200, $login, [ "one\n", { delay => 20 }, $large ], chunked => 1 ],
    unended => [ 200, $login, $large, length => undef, close => 1 ],
);

my %port = (http => 8091, fastcgi => 8092, uwsgi => 8093, scgi => 8094, grpc => 8095);
for my $protocol (sort keys %port) {
    $t->recorder($port{$protocol}, sub {
        my ($request) = @_;
        my ($shape) = $request->path() =~ m{/([^/]+)\z}x;
        return $answer{$shape} // $http_only{$shape};
    }, protocol => $protocol);
}

# Each protocol with a buffer for the whole answer, and passing on what comes.
my $locations = '';
for my $protocol (sort keys %port) {
    my ($name, $scheme) = $protocol eq 'http' ? ('proxy', 'http://') : $protocol eq 'grpc' ? ('grpc', 'grpc://') : ($protocol, '');
    for my $buffering ($protocol eq 'grpc' ? '' : qw(on off)) {
        my @more = $buffering ? "${name}_buffering $buffering;" : '';
        push @more, map { "${name}_param $_;" } 'REQUEST_METHOD $request_method', 'REQUEST_URI $uri', 'CONTENT_LENGTH $content_length'
            if $name !~ m/\A(?:proxy|grpc)\z/x;
        push @more, 'scgi_param SCGI 1;' if $name eq 'scgi';
        $locations .= "location /$protocol$buffering/ { session REALM optional; session_control create; ${name}_pass ${scheme}127.0.0.1:$port{$protocol}; @more }\n";
    }
}

my $w = Test::Withhold->new($t, locations => $locations);

for my $protocol (sort keys %port) {
    for my $buffering ($protocol eq 'grpc' ? '' : qw(on off)) {
        for my $shape (sort keys %answer, $protocol eq 'http' ? keys %http_only : ()) {
            my $kind = "$protocol$buffering";
            my $got = $w->waits("$kind $shape", "POST /$kind/$shape HTTP/1.1", body => 'name=alice');
            like($got, qr{\AHTTP/1[.]1[ ]\d+[ ].*^X-Other:[ ]kept\r\n}xmsi, "$kind $shape: with the application's headers") if $shape eq 'small';
            ok(Test::Nginx::Http::http_content($got) eq $large, "$kind $shape: nothing of the body is lost") if $shape eq 'large';
        }
        $w->waits("$protocol$buffering HEAD", "HEAD /$protocol$buffering/large HTTP/1.1");
        $w->waits("$protocol$buffering HTTP/1.0", "GET /$protocol$buffering/large HTTP/1.0");
    }
}

$w->all_are_stored();

done_testing();
