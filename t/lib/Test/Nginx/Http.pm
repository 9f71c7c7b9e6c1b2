package Test::Nginx::Http;

# One raw request, one raw reply: the functions http(), http_get() and their
# like, with the interface of nginx's own test suite.

use strict;
use warnings;

use Exporter qw(import);
use IO::Socket::INET;
use Time::HiRes qw(sleep);

use Test::Nginx::Leaks ();
use Test::Nginx::Port qw(port);
use Test::Nginx::Process qw(within);

our @EXPORT_OK = qw(
    log_core log_in log_out start_tls http http_get http_head http_post
    http_start http_end http_content http_gzip_request http_gzip_like
);

my $LOG_LIMIT = 2048;

sub log_out { return log_core('>>', @_) }
sub log_in  { return log_core('<<', @_) }

# With TEST_NGINX_VERBOSE set, all that goes over the wire is shown.
sub log_core {
    my ($prefix, $text) = @_;

    return unless $ENV{TEST_NGINX_VERBOSE} && defined $text;
    my $rest = length($text) - $LOG_LIMIT;
    $text = substr($text, 0, $LOG_LIMIT) . "(and $rest bytes more)" if $rest > 0;
    for my $line (split m/\n/x, $text) {
        $line =~ s/([^\x20-\x7e])/sprintf '\\x%02x', ord $1/gex;
        print "# $prefix $line\n";
    }
    return;
}

sub http_get {
    my ($uri, %extra) = @_;
    return http(_head_of('GET', $uri), %extra);
}

sub http_head {
    my ($uri, %extra) = @_;
    return http(_head_of('HEAD', $uri), %extra);
}

sub http_post {
    my ($uri, $body, %extra) = @_;
    my $length = length $body;
    return http(_head_of('POST', $uri, "Content-Length: $length") . $body, %extra);
}

# HTTP/1.0: the reply ends when the connection does.
sub _head_of {
    my ($method, $uri, @lines) = @_;
    return join "\r\n", "$method $uri HTTP/1.0", 'Host: localhost', @lines, '', '';
}

# Options: start (returns the socket after sending), socket (uses this one),
# PeerAddr, SSL and any other of IO::Socket::INET or IO::Socket::SSL, sleep
# (seconds before the rest), body (sent after the request), aborted.
sub http {
    my ($request, %extra) = @_;

    my $socket = http_start($request, %extra);
    return $socket if $extra{start} || !$socket;
    return http_end($socket, %extra);
}

sub http_start {
    my ($request, %extra) = @_;
    my $socket;

    my $sent = within(8, sub {
        $socket = $extra{socket} || _connect(%extra);
        start_tls($socket, %extra) if $extra{SSL};
        log_out($request);
        $socket->print($request);
        $socket->flush();
        sleep($extra{sleep}) if $extra{sleep};
        if (defined $extra{body} && !$extra{aborted}) {
            log_out($extra{body});
            $socket->print($extra{body});
            $socket->flush();
        }
    });
    if (!$sent) {
        log_in("failed: $@");
        return;
    }
    return $extra{aborted} ? '' : $socket;
}

sub _connect {
    my (%extra) = @_;

    my $port = port($extra{SSL} ? 8443 : 8080);
    return IO::Socket::INET->new(
        Proto    => 'tcp',
        PeerAddr => "127.0.0.1:$port",
        %extra,
    ) || die "cannot connect: $!\n";
}

sub start_tls {
    my ($socket, %extra) = @_;

    require IO::Socket::SSL;
    IO::Socket::SSL->start_SSL(
        $socket,
        SSL_verify_mode => IO::Socket::SSL::SSL_VERIFY_NONE(),
        %extra,
    ) or die 'TLS: ' . IO::Socket::SSL::errstr() . "\n";
    return;
}

# The whole reply up to the connection's end; undef if that does not come.
sub http_end {
    my ($socket) = @_;
    my $reply;

    my $ended = within(8, sub {
        local $/ = undef;
        $reply = $socket->getline() // '';
        $socket->close();
    });
    if (!$ended) {
        log_in("failed: $@");
        return;
    }
    log_in($reply);
    Test::Nginx::Leaks::note_reply($reply);
    return $reply;
}

# A raw reply's body, its chunks joined.
sub http_content {
    my ($reply) = @_;

    return unless defined $reply;
    my ($head, $body) = $reply =~ m/\A(.*?)\r?\n\r?\n(.*)\z/xs or return;
    return $body unless $head =~ m/^Transfer-Encoding:\s*chunked/xmi;

    my ($joined, $size) = ('', undef);
    while ($body =~ s/\A(?:\r?\n)?([[:xdigit:]]+)[^\n]*\n//x) {
        $size = hex $1;
        last unless $size;
        $joined .= substr $body, 0, $size, '';
    }
    $joined .= '[no-last-chunk]' if !defined $size || $size;
    return $joined;
}

sub http_gzip_request {
    my ($uri) = @_;
    return http(
        join "\r\n",
        "GET $uri HTTP/1.1",
        'Host: localhost', 'Connection: close', 'Accept-Encoding: gzip', '', ''
    );
}

sub http_gzip_like {
    my ($reply, $pattern, $name) = @_;

    require IO::Uncompress::Gunzip;
    require Test::More;
    my $packed = http_content($reply);
    my $plain;
    IO::Uncompress::Gunzip::gunzip(\$packed => \$plain);
    return Test::More->builder->like($plain, $pattern, $name);
}

1;
