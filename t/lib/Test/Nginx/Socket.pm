package Test::Nginx::Socket;

# A client's connection, plain or TLS, whose every wait is bounded.

use strict;
use warnings;

use IO::Socket::INET;
use Test::Nginx::Http qw(log_in log_out start_tls);
use Test::Nginx::Process qw(within);

# Options: port (as it is, not nominal), host (address, 127.0.0.1), local
# (own address), ssl (1, or a hash of IO::Socket::SSL's options).
sub connect_to {
    my ($class, %option) = @_;
    my $handle;

    my $done = within(8, sub {
        $handle = IO::Socket::INET->new(
            Proto    => 'tcp',
            PeerAddr => $option{host} // '127.0.0.1',
            PeerPort => $option{port},
            ($option{local} ? (LocalAddr => $option{local}) : ()),
        ) or die "cannot connect: $!\n";
        start_tls($handle, ref $option{ssl} ? %{ $option{ssl} } : ()) if $option{ssl};
    });
    die "connection to port $option{port}: $@" unless $done;
    return bless { handle => $handle, buffer => '', ended => 0 }, $class;
}

sub handle { my ($self) = @_; return $self->{handle} }

sub send_bytes {
    my ($self, $bytes) = @_;

    log_out($bytes);
    my $sent = within(8, sub {
        my $offset = 0;
        while ($offset < length $bytes) {
            my $n = $self->{handle}->syswrite($bytes, length($bytes) - $offset, $offset);
            die "write: $!\n" unless defined $n;
            $offset += $n;
        }
    });
    return $sent;
}

# Reads once into the buffer; false at the end of the connection.
sub _fill {
    my ($self) = @_;

    return 0 if $self->{ended};
    my $n = $self->{handle}->sysread(my $bytes, 65_536);
    return 1 if !defined $n && $!{EINTR};
    if (!$n) {
        $self->{was_reset} = !defined $n && $!{ECONNRESET};
        $self->{ended} = 1;    # a reset ends it too
        return 0;
    }
    log_in($bytes);
    $self->{buffer} .= $bytes;
    return 1;
}

# Reads until the code, given a reference to the buffer, answers true, and
# returns the answer; undef when the connection or the time (8 s) ended.
sub read_with {
    my ($self, $code, $seconds) = @_;
    my $answer;

    my $in_time = within($seconds // 8, sub {
        while (1) {
            $answer = $code->(\$self->{buffer});
            last if $answer || !$self->_fill();
        }
    });
    $self->{timed_out} = !$in_time;
    return $answer;
}

# Takes from the buffer all up to and with what matches.
sub read_until {
    my ($self, $pattern, $seconds) = @_;

    return $self->read_with(
        sub {
            my ($buffer) = @_;
            return ${$buffer} =~ s/\A(.*?$pattern)//s ? $1 : undef;
        },
        $seconds
    );
}

# All that comes until the peer closes; undef if it does not close in time.
sub read_all {
    my ($self, $seconds) = @_;

    $self->read_with(sub { 0 }, $seconds);
    return unless $self->{ended};
    my $all = $self->{buffer};
    $self->{buffer} = '';
    return $all;
}

sub timed_out { my ($self) = @_; return $self->{timed_out} }

sub was_reset { my ($self) = @_; return $self->{was_reset} }

sub ended { my ($self) = @_; return $self->{ended} }

sub close_now {
    my ($self) = @_;
    $self->{handle}->close() if $self->{handle};
    $self->{ended} = 1;
    return;
}

1;
