package Test::Nginx::Http2;

# Frames of HTTP/2 (RFC 9113) and blocks of headers (RFC 7541), for the gRPC
# recorder and for the client of several streams.  Headers are written as
# plain literals; what nginx has packed is unpacked by Protocol::HTTP2.

use strict;
use warnings;

use Exporter qw(import);
use Protocol::HTTP2::HeaderCompression qw(headers_decode int_encode);

our @EXPORT_OK = qw(frame take_frame header_block new_context headers_of own_payload %TYPE %FLAG $PREFACE $WIDE);

our $PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
our $WIDE = 0x7fff_ffff;    # the largest window
our %TYPE = (DATA => 0, HEADERS => 1, RST_STREAM => 3, SETTINGS => 4, PING => 6, GOAWAY => 7, WINDOW_UPDATE => 8, CONTINUATION => 9);
our %FLAG = (END_STREAM => 1, ACK => 1, END_HEADERS => 4, PADDED => 8, PRIORITY => 32);

sub frame {
    my ($type, $flags, $stream, $payload) = @_;
    return substr(pack('N', length $payload), 1) . pack('C C N', $TYPE{$type}, $flags, $stream) . $payload;
}

# From the front of a buffer; nothing if it is not whole yet.
sub take_frame {
    my ($buffer) = @_;

    return if length ${$buffer} < 9;
    my ($size, $type, $flags, $stream) = unpack 'a3 C C N', ${$buffer};
    $size = unpack 'N', "\0$size";
    return if length ${$buffer} < 9 + $size;
    my $bytes = substr ${$buffer}, 0, 9 + $size, '';
    return { type => $type, flags => $flags, stream => $stream & $WIDE, payload => substr $bytes, 9 };
}

# Without padding and priority.
sub own_payload {
    my ($frame) = @_;

    my $payload = $frame->{payload};
    if ($frame->{flags} & $FLAG{PADDED}) {
        my $padding = unpack 'C', $payload;
        $payload = substr $payload, 1, length($payload) - 1 - $padding;
    }
    return $payload if $frame->{type} != $TYPE{HEADERS} || !($frame->{flags} & $FLAG{PRIORITY});
    return substr $payload, 5;
}

sub header_block {
    my (@pairs) = @_;
    return join '', map { "\0" . _string(lc $_->[0]) . _string($_->[1]) } @pairs;
}

sub _string {
    my ($bytes) = @_;
    return int_encode(length $bytes, 7) . $bytes;
}

# What one end of a connection remembers of the other's headers.
sub new_context {
    return { header_table => [], ht_size => 0, max_ht_size => 4096, settings => { 1 => 4096 }, emitted_headers => [] };
}

# The pairs of a whole block.
sub headers_of {
    my ($context, $block) = @_;

    $context->{emitted_headers} = [];
    my $decoder = bless { context => $context }, 'Test::Nginx::Http2::Decoder';
    headers_decode($decoder, \$block, 0, length $block, 0) // die "a block of headers cannot be read\n";
    my @list = @{ $context->{emitted_headers} };
    my @pairs;
    push @pairs, [ splice @list, 0, 2 ] while @list;
    return @pairs;
}

package Test::Nginx::Http2::Decoder;

# What Protocol::HTTP2::HeaderCompression wants of a connection.

use strict;
use warnings;

sub decode_context { my ($self) = @_; return $self->{context} }
sub error          { my ($self, $code) = @_; die "HTTP/2: error $code\n" }
sub stream_error   { my ($self, $stream, $code) = @_; die "HTTP/2: error $code\n" }

1;
