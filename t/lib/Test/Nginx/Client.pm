package Test::Nginx::Client;

# A small client with a cookie jar, as one browser: see "CLIENT" in
# Test::Nginx.  Owns its jar and, with keepalive, one connection.

use strict;
use warnings;

use Exporter qw(import);
use File::Temp ();

use Test::Nginx::Leaks ();
use Test::Nginx::Port qw(port);
use Test::Nginx::Process qw(timeout);
use Test::Nginx::Response;
use Test::Nginx::Socket;

our @EXPORT_OK = qw(client);

sub client {
    my (%option) = @_;

    return bless {
        port => $option{ssl} ? 8443 : 8080,
        name => 'localhost',
        %option,
        jar => [],
    }, __PACKAGE__;
}

# Another client with the same settings and a copy of the jar: a second tab,
# or a thief.
sub clone {
    my ($self) = @_;
    my @jar = map { [ @{$_} ] } @{ $self->{jar} };
    return bless { %{$self}, jar => \@jar, socket => undef }, ref $self;
}

# --- the jar ---

sub cookie {
    my ($self, $name) = @_;
    my ($pair) = grep { $_->[0] eq $name } @{ $self->{jar} };
    return $pair ? $pair->[1] : undef;
}

sub cookies {
    my ($self) = @_;
    return map { @{$_} } @{ $self->{jar} };
}

sub set_cookie {
    my ($self, $name, $value) = @_;

    my ($pair) = grep { $_->[0] eq $name } @{ $self->{jar} };
    if ($pair) {
        $pair->[1] = $value;
    }
    else {
        push @{ $self->{jar} }, [ $name, $value ];
    }
    return $self;
}

sub delete_cookie {
    my ($self, $name) = @_;
    @{ $self->{jar} } = grep { $_->[0] ne $name } @{ $self->{jar} };
    return $self;
}

sub clear_cookies {
    my ($self) = @_;
    $self->{jar} = [];
    return $self;
}

sub _learn {
    my ($self, $response) = @_;

    return if $self->{no_cookies};
    for my $cookie ($response->set_cookies()) {
        if (Test::Nginx::Response::is_expiry($cookie)) {
            $self->delete_cookie($cookie->{name});
        }
        else {
            $self->set_cookie($cookie->{name}, $cookie->{value});
        }
    }
    return;
}

# --- requests ---

sub get  { my ($self, $uri, @rest) = @_; return $self->request('GET',  $uri, @rest) }
sub head { my ($self, $uri, @rest) = @_; return $self->request('HEAD', $uri, @rest) }

sub post {
    my ($self, $uri, $body, @rest) = @_;
    return $self->request('POST', $uri, { body => $body // '' }, @rest);
}

sub request {
    my ($self, $method, $uri, @rest) = @_;
    return $self->finish($self->start($method, $uri, @rest));
}

# Sends a request without waiting for its answer; give what it returns to
# finish().  Several may be under way, each on a connection of its own.
sub start {
    my ($self, $method, $uri, @rest) = @_;
    my ($option, @headers) = $self->_options(@rest);

    my @lines = $self->_header_lines(\@headers, $option);
    push @lines, 'Connection: close'
        unless $option->{keepalive} || grep { m/\AConnection:/xi } @lines;
    unshift @lines, "Host: $self->{name}" unless grep { m/\AHost:/xi } @lines;
    push @lines, 'Content-Length: ' . length $option->{body}
        if defined $option->{body} && !grep { m/\A(?:Content-Length|Transfer-Encoding):/xi } @lines;

    my $version = $option->{version} // '1.1';
    my $text = join "\r\n", "$method $uri HTTP/$version", @lines, '', $option->{body} // '';

    my $socket = $self->_socket($option);
    $socket->send_bytes($text);
    return { socket => $socket, method => $method, option => $option };
}

# The answer to a started request.
sub finish {
    my ($self, $pending, $seconds) = @_;

    my $socket = $pending->{socket};
    my $response = _read_response($socket, $pending->{method}, $seconds);
    $self->_learn($response);
    if ($pending->{option}{keepalive} && $response->complete() && !$socket->ended()) {
        $self->{socket} = $socket;
    }
    elsif ($response->status() != 101) {
        $socket->close_now();
    }
    return $response;
}

# Asks for an upgrade; returns the response and, after a 101, the connection.
sub upgrade {
    my ($self, $uri, @rest) = @_;
    my ($option, @headers) = $self->_options(@rest);

    my %given = map { lc() => 1 } @headers;
    push @headers, Connection => 'Upgrade', Upgrade => 'websocket';
    push @headers, 'Sec-WebSocket-Version' => 13, 'Sec-WebSocket-Key' => 'dGhlIHNhbXBsZSBub25jZQ=='
        unless $given{'sec-websocket-key'};
    my $pending = $self->start('GET', $uri, $option, @headers);
    my $response = $self->finish($pending);
    return ($response, $response->status() == 101 ? $pending->{socket} : undef);
}

# Closes the kept connection.
sub disconnect {
    my ($self) = @_;
    my $socket = delete $self->{socket};
    $socket->close_now() if $socket;
    return $self;
}

# Hash references among the arguments are options, the rest header pairs.
sub _options {
    my ($self, @rest) = @_;

    my %option = map { $_ => $self->{$_} } grep { exists $self->{$_} } qw(keepalive no_cookies version);
    %option = (%option, %{ shift @rest }) while ref $rest[0] eq 'HASH';
    die "headers come in pairs\n" if @rest % 2;
    return (\%option, @rest);
}

# A value may be a list (a line for each) or undef (no such line).  A Cookie
# header given takes the jar's place.
sub _header_lines {
    my ($self, $headers, $option) = @_;

    my ($own_cookie, @lines);
    my @pairs = @{$headers};
    while (my ($name, $value) = splice @pairs, 0, 2) {
        $own_cookie = 1 if lc $name eq 'cookie';
        push @lines, map { "$name: $_" } grep { defined } ref $value ? @{$value} : $value;
    }
    if (!$own_cookie && !$option->{no_cookies} && @{ $self->{jar} }) {
        push @lines, 'Cookie: ' . join '; ', map { "$_->[0]=$_->[1]" } @{ $self->{jar} };
    }
    return @lines;
}

sub _socket {
    my ($self, $option) = @_;

    my $kept = delete $self->{socket};
    return $kept if $kept && $option->{keepalive};
    $kept->close_now() if $kept;
    return Test::Nginx::Socket->connect_to(
        port  => port($self->{port}),
        host  => $self->{host},
        local => $self->{local},
        ssl   => $self->{ssl},
    );
}

# --- reading ---

sub _read_response {
    my ($socket, $method, $seconds) = @_;
    my $response;

    while (!$response || $response->status() =~ m/\A1(?!01)/x) {
        my $head = $socket->read_until(qr/\r\n\r\n/x, $seconds);
        $response = $head && Test::Nginx::Response->from_head($head);
        return Test::Nginx::Response->none($socket->timed_out() ? 'timeout' : 'closed')
            unless $response;
    }
    $response->{complete} = _read_body($socket, $response, $method, $seconds);
    return $response;
}

# True if all of it came.
sub _read_body {
    my ($socket, $response, $method, $seconds) = @_;

    return 1 if $method eq 'HEAD' || $response->status() =~ m/\A(?:101|204|304)\z/x;
    return _read_chunks($socket, $response, $seconds)
        if ($response->header('Transfer-Encoding') // '') =~ m/chunked/xi;

    my $length = $response->header('Content-Length');
    if (!defined $length) {
        my $all = $socket->read_all($seconds);
        $response->{body} = $all // '';
        return defined $all;
    }
    my $whole = $socket->read_with(sub { length ${ $_[0] } >= $length }, $seconds);
    my $buffer = \$socket->{buffer};
    $response->{body} = substr ${$buffer}, 0, $length, '';
    return $whole;
}

sub _read_chunks {
    my ($socket, $response, $seconds) = @_;

    while (defined(my $line = $socket->read_until(qr/\r\n/x, $seconds))) {
        my ($size) = $line =~ m/\A([[:xdigit:]]+)/x or return 0;
        $size = hex $size;
        if (!$size) {
            return defined $socket->read_until(qr/\r\n/x, $seconds);
        }
        my $got = $socket->read_with(sub { length ${ $_[0] } >= $size + 2 }, $seconds);
        $response->{body} .= substr $socket->{buffer}, 0, $size, '';
        return 0 unless $got;
        substr $socket->{buffer}, 0, 2, '';
    }
    return 0;
}

# --- HTTP/2 ---

# The same by curl over HTTP/2, on a new connection: $c->h2(GET => '/path',
# {options}, headers).  Without TLS the server is taken to speak it at once.
sub h2 {
    my ($self, $method, $uri, @rest) = @_;
    my ($option, @headers) = $self->_options(@rest);

    my @command = (
        'curl', '--silent', '--show-error', '--include', '--path-as-is', '--insecure',
        ($self->{ssl} ? '--http2' : '--http2-prior-knowledge'),
        '--max-time', timeout(10),
        ($method eq 'HEAD' ? '--head' : ('--request', $method)),
        ($self->{local} ? ('--interface', $self->{local}) : ()),
        map { ('--header', $_) } $self->_header_lines(\@headers, $option),
    );
    my $body;
    if (defined $option->{body}) {
        $body = File::Temp->new();
        print {$body} $option->{body};
        $body->flush();
        push @command, '--data-binary', '@' . $body->filename();
    }
    my $scheme = $self->{ssl} ? 'https' : 'http';
    my $address = $self->{host} // '127.0.0.1';
    my $number = port($self->{port});
    push @command, '--connect-to', "::$address:$number", "$scheme://$self->{name}:$number$uri";

    my $response = _from_curl(@command);
    $self->_learn($response);
    return $response;
}

sub _from_curl {
    my (@command) = @_;

    my $error = File::Temp->new();
    my $pid = open(my $out, '-|') // die "cannot fork: $!\n";
    if (!$pid) {
        open(STDERR, '>&', $error) or POSIX::_exit(127);
        exec {'curl'} @command or POSIX::_exit(127);
    }
    my $raw = do { local $/ = undef; <$out> };
    close $out;
    my $code = $? >> 8;

    my $response;
    while ($raw =~ s/\A(HTTP.*?\r\n\r\n)//xs) {
        $response = Test::Nginx::Response->from_head($1);
        last unless $response && $response->status() =~ m/\A1/x;
    }
    if (!$response) {
        seek $error, 0, 0;
        return Test::Nginx::Response->none(do { local $/ = undef; <$error> });
    }
    $response->{body} = $raw;
    $response->{complete} = $code == 0;
    return $response;
}

1;
