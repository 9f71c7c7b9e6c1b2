package Test::Nginx::Recorder::Protocol;

# How requests are read and answers framed, for HTTP/1.1 and, below, for
# FastCGI, uwsgi and SCGI (gRPC: in Grpc.pm).  parse() takes one whole request from the front
# of a buffer, or nothing; it is used by the serving process and again when
# the test reads the record.

use strict;
use warnings;

use Test::Nginx::Recorder::Request;

my %class_of = (
    http    => 'Test::Nginx::Recorder::Protocol',
    fastcgi => 'Test::Nginx::Recorder::Protocol::Fastcgi',
    uwsgi   => 'Test::Nginx::Recorder::Protocol::Uwsgi',
    scgi    => 'Test::Nginx::Recorder::Protocol::Scgi',
    grpc    => 'Test::Nginx::Recorder::Grpc',
);

sub named {
    my ($class, $name) = @_;
    my $chosen = $class_of{$name} or die "recorder: unknown protocol $name\n";
    require Test::Nginx::Recorder::Grpc if $name eq 'grpc';
    return bless {}, $chosen;
}

sub parse {
    my ($self, $buffer) = @_;

    my ($head) = ${$buffer} =~ m/\A(.*?\r\n\r\n)/xs or return;
    my ($line, @lines) = split m/\r\n/x, $head;
    my ($method, $uri, $version) = $line =~ m{\A(\S+)[ ](.*)[ ]HTTP/([\d.]+)\z}x
        or die "recorder: not a request line: $line\n";
    my @headers = map { [ m/\A([^:]*):[ \t]*(.*?)[ \t]*\z/x ] } @lines;
    my %last = map { lc $_->[0] => $_->[1] } @headers;

    my $rest = substr ${$buffer}, length $head;
    my ($body, $taken);
    if (($last{'transfer-encoding'} // '') =~ m/chunked/xi) {
        ($body, $taken) = _chunks($rest) or return;
    }
    else {
        $taken = $last{'content-length'} // 0;
        return if length $rest < $taken;
        $body = substr $rest, 0, $taken;
    }
    my $wish = $last{connection} // ($version eq '1.1' ? 'keep-alive' : 'close');
    return Test::Nginx::Recorder::Request->new(
        raw     => substr(${$buffer}, 0, length($head) + $taken, ''),
        method  => $method,
        uri     => $uri,
        version => $version,
        headers => \@headers,
        body    => $body,
        keep    => lc $wish ne 'close',
    );
}

# The body and how many bytes it took; nothing if it is not whole yet.
sub _chunks {
    my ($bytes) = @_;

    my ($body, $position) = ('', 0);
    while (substr($bytes, $position) =~ m/\A(([[:xdigit:]]+)[^\n]*\n)/x) {
        my ($line, $size) = (length $1, hex $2);
        my $end = $position + $line + $size + 2;
        return if length $bytes < $end;
        return ($body, $end) if !$size;
        $body .= substr $bytes, $position + $line, $size;
        $position = $end;
    }
    return;
}

# The bytes of a response's head.
sub head {
    my ($self, $status, $reason, $headers) = @_;
    return join "\r\n", "HTTP/1.1 $status $reason", (map { "$_->[0]: $_->[1]" } @{$headers}), '', '';
}

# A response's first bytes, any later output, and what ends it.
sub opening {
    my ($self, @head) = @_;
    return $self->wrap($self->head(@head));
}

sub wrap { my ($self, $bytes) = @_; return $bytes }
sub end  { return '' }

# A request's parameters, for the protocols that have them.
sub request_of {
    my ($self, $raw, $parameters, $body, $keep) = @_;

    my %value = map { @{$_} } @{$parameters};
    return Test::Nginx::Recorder::Request->new(
        raw        => $raw,
        method     => $value{REQUEST_METHOD} // '',
        uri        => $value{REQUEST_URI} // $value{SCRIPT_NAME} // '',
        version    => $value{SERVER_PROTOCOL} // '',
        headers    => $parameters,
        body       => $body,
        keep       => $keep,
        parameters => 1,
        framed     => 1,    # where the body ends, no header has to say
    );
}

# Names and values in turn, as pairs.
sub by_two {
    my ($self, @list) = @_;

    my @pairs;
    while (@list > 1) {
        push @pairs, [ splice @list, 0, 2 ];
    }
    return \@pairs;
}

# A request whose parameters are followed, from $at on, by a body of CONTENT_LENGTH.
sub with_body {
    my ($self, $buffer, $at, $parameters) = @_;

    my %value = map { @{$_} } @{$parameters};
    my $end = $at + ($value{CONTENT_LENGTH} || 0);
    return if length ${$buffer} < $end;
    my $raw = substr ${$buffer}, 0, $end, '';
    return $self->request_of($raw, $parameters, substr($raw, $at), 0);
}

package Test::Nginx::Recorder::Protocol::Cgi;

use strict;
use warnings;
use parent -norequire, 'Test::Nginx::Recorder::Protocol';

sub head {
    my ($self, $status, $reason, $headers) = @_;
    return join "\r\n", "Status: $status $reason", (map { "$_->[0]: $_->[1]" } @{$headers}), '', '';
}

package Test::Nginx::Recorder::Protocol::Scgi;

use strict;
use warnings;
use parent -norequire, 'Test::Nginx::Recorder::Protocol::Cgi';

# A netstring of NUL-ended names and values, then the body.
sub parse {
    my ($self, $buffer) = @_;

    my ($size) = ${$buffer} =~ m/\A(\d+):/x or return;
    my $start = length($size) + 1;
    my $body_at = $start + $size + 1;
    return if length ${$buffer} < $body_at;
    my @fields = split m/\0/x, substr(${$buffer}, $start, $size), -1;
    return $self->with_body($buffer, $body_at, $self->by_two(@fields));
}

package Test::Nginx::Recorder::Protocol::Uwsgi;

use strict;
use warnings;
use parent -norequire, 'Test::Nginx::Recorder::Protocol';

# One byte, 16 bits of length, one byte; names and values after 16 bits of
# their length each; the body.
sub parse {
    my ($self, $buffer) = @_;

    return if length ${$buffer} < 4;
    my $size = unpack 'x v', ${$buffer};
    return if length ${$buffer} < 4 + $size;
    my @fields = unpack '(v/a)*', substr ${$buffer}, 4, $size;
    return $self->with_body($buffer, 4 + $size, $self->by_two(@fields));
}

package Test::Nginx::Recorder::Protocol::Fastcgi;

use strict;
use warnings;
use parent -norequire, 'Test::Nginx::Recorder::Protocol::Cgi';

my ($BEGIN, $END, $PARAMS, $STDIN, $STDOUT) = (1, 3, 4, 5, 6);

# Records of 8 bytes of head, content and padding, up to the empty STDIN.
sub parse {
    my ($self, $buffer) = @_;

    my ($position, $keep, $parameters, $body) = (0, 0, '', '');
    while (length ${$buffer} >= $position + 8) {
        my ($type, $id, $size, $padding) = unpack 'x C n n C', substr ${$buffer}, $position, 8;
        return if length ${$buffer} < $position + 8 + $size + $padding;
        my $content = substr ${$buffer}, $position + 8, $size;
        $position += 8 + $size + $padding;
        $self->{id} = $id;
        $keep = 1 & unpack 'x2 C', $content if $type == $BEGIN;
        $parameters .= $content if $type == $PARAMS;
        $body .= $content if $type == $STDIN;
        next unless $type == $STDIN && !$size;
        my $raw = substr ${$buffer}, 0, $position, '';
        return $self->request_of($raw, [ _pairs($parameters) ], $body, $keep);
    }
    return;
}

sub _pairs {
    my ($bytes) = @_;

    my @pairs;
    while (length $bytes) {
        my @length = map { _length(\$bytes) } 1, 2;
        push @pairs, [ map { substr $bytes, 0, $_, '' } @length ];
    }
    return @pairs;
}

# One byte, or four with the highest bit set.
sub _length {
    my ($bytes) = @_;

    return ord substr ${$bytes}, 0, 1, '' if ord(${$bytes}) < 0x80;
    return 0x7fff_ffff & unpack 'N', substr ${$bytes}, 0, 4, '';
}

sub wrap {
    my ($self, $bytes) = @_;

    my $records = '';
    while (length $bytes) {
        my $content = substr $bytes, 0, 32_000, '';
        $records .= pack('C C n n C x', 1, $STDOUT, $self->{id}, length $content, 0) . $content;
    }
    return $records;
}

sub end {
    my ($self) = @_;
    return pack('C C n n C x', 1, $STDOUT, $self->{id}, 0, 0)
        . pack('C C n n C x N C x3', 1, $END, $self->{id}, 8, 0, 0, 0);
}

1;
