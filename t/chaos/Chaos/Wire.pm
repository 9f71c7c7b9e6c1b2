package Chaos::Wire;

# Many HTTP requests at once in one process, each on a connection of its own.
# A request may be sent in pieces, and its answer be taken slowly: a slow client.
# What is not answered in half a minute is given up.

use strict;
use warnings;

use Errno qw(EINPROGRESS EAGAIN EINTR);
use IO::Handle;
use IO::Select;
use Socket qw(AF_INET SOCK_STREAM inet_aton pack_sockaddr_in);
use Time::HiRes qw(time);

my $PATIENCE = 30;

sub new {
    my ($class) = @_;
    return bless { open => {} }, $class;
}

sub count { my ($self) = @_; return scalar keys %{ $self->{open} } }

# $pieces: [ [ after seconds, bytes ], ... ].  $done is called once with the
# answer: { status, headers => [[name, value]], body, whole, sent, answered };
# status is 0 where no head came.
sub send_request {
    my ($self, $port, $pieces, $read_after, $done) = @_;

    my $now = time();
    my $ask = { done => $done, sent => $now, pieces => [ map { [ $now + $_->[0], $_->[1] ] } @{$pieces} ],
        read_from => $now + $read_after, in => '' };
    socket(my $socket, AF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
    $socket->blocking(0);
    $ask->{socket} = $socket;
    $self->{open}{ fileno $socket } = $ask;
    my $connected = connect $socket, pack_sockaddr_in($port, inet_aton('127.0.0.1'));
    $ask->{refused} = 1 if !$connected && !$!{EINPROGRESS};
    return;
}

# Does what can be done now, and waits for it this long at most.
sub turn {
    my ($self, $seconds) = @_;

    my ($read, $write) = (IO::Select->new(), IO::Select->new());
    my $now = time();
    for my $ask (values %{ $self->{open} }) {
        if ($ask->{refused} || $now > $ask->{sent} + $PATIENCE) {
            $self->_finish($ask);
            next;
        }
        my $piece = $ask->{pieces}[0];
        $write->add($ask->{socket}) if $piece && $piece->[0] <= $now;
        $read->add($ask->{socket}) if !$piece && $ask->{read_from} <= $now;
    }
    my ($readable, $writable) = IO::Select->select($read, $write, undef, $seconds);
    $self->_write($self->{open}{ fileno $_ }) for @{ $writable || [] };
    $self->_read($self->{open}{ fileno $_ }) for @{ $readable || [] };
    return;
}

sub _write {
    my ($self, $ask) = @_;

    my $piece = $ask->{pieces}[0];
    my $count = syswrite $ask->{socket}, $piece->[1];
    if (!defined $count) {
        return if $!{EAGAIN} || $!{EINTR};
        # Refused, or the server has answered and gone: what it said is still to be read.
        $ask->{pieces} = [];
        return;
    }
    substr $piece->[1], 0, $count, '';
    shift @{ $ask->{pieces} } if $piece->[1] eq '';
    return;
}

sub _read {
    my ($self, $ask) = @_;

    my $count = sysread $ask->{socket}, $ask->{in}, 65_536, length $ask->{in};
    return if !defined $count && ($!{EAGAIN} || $!{EINTR});
    return $self->_finish($ask) if !$count;
    my ($head, $body) = split m/\r\n\r\n/x, $ask->{in}, 2;
    my ($length) = defined $body && $head =~ m/^Content-Length:[ ]*(\d+)/xmi or return;
    $self->_finish($ask) if length $body >= $length;
    return;
}

sub _finish {
    my ($self, $ask) = @_;

    delete $self->{open}{ fileno $ask->{socket} };
    close $ask->{socket};
    my %answer = (status => 0, headers => [], body => '', whole => 0, sent => $ask->{sent}, answered => time());
    my ($head, $body) = split m/\r\n\r\n/x, $ask->{in}, 2;
    if (defined $body && $head =~ m{\AHTTP/1[.]1[ ](\d{3})}x) {
        my ($status, undef, @lines) = ($1, split m/\r\n/x, $head);
        my ($length) = $head =~ m/^Content-Length:[ ]*(\d+)/xmi;
        @answer{qw(status body headers whole)} = ($status, $body,
            [ map { [ split m/:[ ]*/x, $_, 2 ] } @lines ], !defined $length || length $body >= $length);
    }
    $ask->{done}->(\%answer);
    return;
}

1;
