package Test::Nginx::Recorder::Grpc;

# gRPC for the recorder: HTTP/2 without TLS, one request on a connection, as
# nginx sends it without keepalive, and one answer that ends with trailers.

use strict;
use warnings;
use parent 'Test::Nginx::Recorder::Protocol';

use Test::Nginx::Http2 qw(frame take_frame header_block new_context headers_of own_payload %TYPE %FLAG $PREFACE);

# The frames up to the end of the request's stream.
sub parse {
    my ($self, $buffer) = @_;

    # After the request come acknowledgements only.
    return if substr(${$buffer}, 0, length $PREFACE) ne $PREFACE;
    my $rest = substr ${$buffer}, length $PREFACE;
    my ($block, $body) = ('', '');
    while (my $frame = take_frame(\$rest)) {
        my $kind = $frame->{type};
        $block .= own_payload($frame) if $kind == $TYPE{HEADERS} || $kind == $TYPE{CONTINUATION};
        $body .= own_payload($frame) if $kind == $TYPE{DATA};
        next unless ($kind == $TYPE{HEADERS} || $kind == $TYPE{DATA}) && $frame->{flags} & $FLAG{END_STREAM};
        $self->{stream} = $frame->{stream};
        my $raw = substr ${$buffer}, 0, length(${$buffer}) - length($rest), '';
        return $self->_request($raw, $block, $body);
    }
    return;
}

sub _request {
    my ($self, $raw, $block, $body) = @_;

    my @headers = headers_of(new_context(), $block);
    my %value = map { @{$_} } @headers;
    return Test::Nginx::Recorder::Request->new(
        raw     => $raw,
        method  => $value{':method'},
        uri     => $value{':path'},
        version => '2',
        headers => \@headers,
        body    => $body,
        keep    => 1,                 # nginx closes
        framed  => 1,
    );
}

# Windows need no care: nginx opens them wide.
sub opening {
    my ($self, $status, $reason, $headers) = @_;
    my $block = header_block([ ':status', $status ], @{$headers});
    return frame('SETTINGS', 0, 0, '') . frame('HEADERS', $FLAG{END_HEADERS}, $self->{stream}, $block);
}

sub wrap {
    my ($self, $bytes) = @_;

    my $frames = '';
    $frames .= frame('DATA', 0, $self->{stream}, substr $bytes, 0, 16_384, '') while length $bytes;
    return $frames;
}

sub end {
    my ($self) = @_;
    my $block = header_block([ 'grpc-status', 0 ], [ 'x-trailer', 'last' ]);
    return frame('HEADERS', $FLAG{END_HEADERS} | $FLAG{END_STREAM}, $self->{stream}, $block);
}

1;
