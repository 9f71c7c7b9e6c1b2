package Test::Nginx::Streams;

# A client's HTTP/2 connection with several requests under way at once, each
# a stream that can be taken back.  Without TLS.

use strict;
use warnings;

use Test::Nginx::Http2 qw(frame take_frame header_block new_context headers_of own_payload %TYPE %FLAG $PREFACE $WIDE);
use Test::Nginx::Leaks qw(note_set_cookie);
use Test::Nginx::Port qw(port);
use Test::Nginx::Socket;

# Options: window, what a stream may be sent (default: wide open).
sub new {
    my ($class, $nominal, %option) = @_;

    my $self = bless {
        socket  => Test::Nginx::Socket->connect_to(port => port($nominal)),
        context => new_context(),
        next    => 1,
        stream  => {},
    }, $class;
    $self->{socket}->send_bytes($PREFACE . frame('SETTINGS', 0, 0, pack 'n N', 4, $option{window} // $WIDE)
            . frame('WINDOW_UPDATE', 0, 0, pack 'N', $WIDE - 65_535));
    return $self;
}

# Headers are pairs.  Returns the stream's number.
sub send {    ## no critic (ProhibitBuiltinHomonyms)
    my ($self, @request) = @_;
    return $self->_begin($FLAG{END_STREAM}, @request);
}

# The same with a body to come: say() it.
sub open {    ## no critic (ProhibitBuiltinHomonyms)
    my ($self, @request) = @_;
    return $self->_begin(0, @request);
}

sub say {    ## no critic (ProhibitBuiltinHomonyms)
    my ($self, $id, $bytes) = @_;
    $self->{socket}->send_bytes(frame('DATA', 0, $id, $bytes));
    return;
}

sub _begin {
    my ($self, $flags, $method, $uri, @headers) = @_;

    my $id = $self->{next};
    $self->{next} += 2;
    my @pairs = ([ ':method', $method ], [ ':scheme', 'http' ], [ ':path', $uri ], [ ':authority', 'localhost' ]);
    push @pairs, [ splice @headers, 0, 2 ] while @headers;
    $self->{stream}{$id} = { headers => [], trailers => [], body => '', block => '' };
    $self->{socket}->send_bytes(frame('HEADERS', $FLAG{END_HEADERS} | $flags, $id, header_block(@pairs)));
    return $id;
}

# CANCEL
sub take_back {
    my ($self, $id) = @_;
    $self->{socket}->send_bytes(frame('RST_STREAM', 0, $id, pack 'N', 8));
    return;
}

# Reads until the stream has ended: { headers, trailers (pairs), body, ended or reset }.
sub response {
    my ($self, $id, $seconds) = @_;
    return $self->_read_until(sub { my $s = $self->{stream}{$id}; $s->{ended} || defined $s->{reset} }, $seconds)
        ? $self->{stream}{$id}
        : undef;
}

# Asks nginx for a sign of life. All that it had to say before is there then.
sub catch_up {
    my ($self) = @_;
    my $pings = $self->{pings} // 0;
    $self->{socket}->send_bytes(frame('PING', 0, 0, 'whatever'));
    return $self->_read_until(sub { ($self->{pings} // 0) > $pings });
}

# True if anything of the answer has come.
sub has_begun {
    my ($self, $id) = @_;
    my $s = $self->{stream}{$id};
    return @{ $s->{headers} } || length $s->{body} || $s->{ended} ? 1 : 0;
}

sub is_open   { my ($self) = @_; return !$self->{away} && !$self->{socket}->ended() }
sub close_now { my ($self) = @_; $self->{socket}->close_now(); return }

sub _read_until {
    my ($self, $is_enough, $seconds) = @_;

    return $self->{socket}->read_with(
        sub {
            my ($buffer) = @_;
            while (my $frame = take_frame($buffer)) {
                $self->_take($frame);
            }
            return $is_enough->();
        },
        $seconds
    );
}

sub _take {
    my ($self, $frame) = @_;

    my ($type, $id, $flags) = @{$frame}{qw(type stream flags)};
    if ($type == $TYPE{SETTINGS} && !($flags & $FLAG{ACK})) {
        $self->{socket}->{handle}->syswrite(frame('SETTINGS', $FLAG{ACK}, 0, ''));
    }
    $self->{pings}++ if $type == $TYPE{PING};
    $self->{away} = 1 if $type == $TYPE{GOAWAY};
    my $s = $self->{stream}{$id} or return;
    $s->{reset} = unpack 'N', $frame->{payload} if $type == $TYPE{RST_STREAM};
    $s->{body} .= own_payload($frame) if $type == $TYPE{DATA};
    if ($type == $TYPE{HEADERS} || $type == $TYPE{CONTINUATION}) {
        $s->{block} .= own_payload($frame);
        $self->_headers_done($s) if $flags & $FLAG{END_HEADERS};
    }
    $s->{ended} = 1 if ($type == $TYPE{HEADERS} || $type == $TYPE{DATA}) && $flags & $FLAG{END_STREAM};
    return;
}

sub _headers_done {
    my ($self, $s) = @_;

    my @pairs = headers_of($self->{context}, $s->{block});
    $s->{block} = '';
    note_set_cookie($_->[1]) for grep { $_->[0] eq 'set-cookie' } @pairs;
    push @{ @{ $s->{headers} } ? $s->{trailers} : $s->{headers} }, @pairs;
    return;
}

1;
