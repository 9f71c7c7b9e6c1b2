package Test::WebSocket;

# A WebSocket's frames (RFC 6455), for a client and for a recorder behind
# nginx that answers them.

use strict;
use warnings;

use Exporter qw(import);

our @EXPORT = qw(frame masked take_frame next_frame answering);

my %OPCODE = (continuation => 0, text => 1, binary => 2, close => 8, ping => 9, pong => 10);
my %NAME = reverse %OPCODE;

# A server's frame.
sub frame {
    my ($kind, $payload, %option) = @_;
    my $first = $OPCODE{$kind} | ($option{more} ? 0 : 0x80);
    return pack('C', $first) . _length(length $payload, 0) . $payload;
}

# A client's.
sub masked {
    my ($kind, $payload) = @_;
    my $mask = "\x01\x02\x03\x04";
    my $long = substr $mask x (1 + length($payload) / 4), 0, length $payload;
    return pack('C', $OPCODE{$kind} | 0x80) . _length(length $payload, 0x80) . $mask . ($payload ^ $long);
}

sub _length {
    my ($length, $bit) = @_;
    return pack 'C', $bit | $length if $length < 126;
    return $length < 65_536 ? pack('C n', $bit | 126, $length) : pack('C Q>', $bit | 127, $length);
}

# From the front of a buffer: [kind, payload]; nothing if it is not whole yet.
sub take_frame {
    my ($buffer) = @_;

    return if length ${$buffer} < 2;
    my ($first, $second) = unpack 'C C', ${$buffer};
    my ($length, $at) = ($second & 0x7f, 2);
    if ($length > 125) {
        my ($size, $template) = $length == 126 ? (2, 'x2 n') : (8, 'x2 Q>');
        $at += $size;
        return if length ${$buffer} < $at;
        $length = unpack $template, ${$buffer};
    }
    my $mask = $second & 0x80 ? 4 : 0;
    return if length ${$buffer} < $at + $mask + $length;
    my $frame = substr ${$buffer}, 0, $at + $mask + $length, '';
    my $payload = substr $frame, $at + $mask;
    if ($mask) {
        my $key = substr $frame, $at, 4;
        $payload ^= substr $key x (1 + $length / 4), 0, $length;
    }
    return [ $NAME{ $first & 15 } // 'unknown', $payload ];
}

# The next one of a connection; undef when that has ended, or time.
sub next_frame {
    my ($socket, $seconds) = @_;
    return $socket->read_with(\&take_frame, $seconds);
}

# For a recorder's `upgrade`: answers each message as the code says (echo
# without one).
sub answering {
    my ($answer) = @_;

    my $buffer = '';
    return sub {
        my ($bytes) = @_;
        $buffer .= $bytes;
        my $reply = '';
        while (my $frame = take_frame(\$buffer)) {
            $reply .= $answer ? $answer->(@{$frame}) : frame(@{$frame});
        }
        return $reply;
    };
}

1;
