package Test::Nginx::Port;

# Free ports for a test.  A test speaks of nominal ports (8080, 8443, ...);
# each is mapped, once in a test file, to one that nobody else listens on.
#
# Test files run in parallel.  Between finding a port free and a server's
# bind() there is a gap, so a port is first claimed by binding the abstract
# unix socket of its number: the kernel gives that name to one process only,
# and takes it back when the process ends, however it ends.

use strict;
use warnings;

use Exporter qw(import);
use Socket qw(
    AF_INET AF_UNIX SOCK_STREAM SOCK_DGRAM SOL_SOCKET SO_REUSEADDR
    INADDR_ANY pack_sockaddr_in pack_sockaddr_un
);
use IO::Handle;

our @EXPORT_OK = qw(port);

my %port_of;    # nominal number => { number, claim }

# Below Linux's range for outgoing connections, so that none is in the way.
my ($LOWEST, $HIGHEST) = (10_000, 32_000);

sub port {
    my ($nominal, %option) = @_;

    $port_of{$nominal} ||= _take($nominal, $option{udp});
    return $port_of{$nominal}{claim} if $option{socket};
    return $port_of{$nominal}{number};
}

sub _take {
    my ($nominal, $udp) = @_;

    for my $attempt (0 .. 200) {
        my $number = $attempt ? $LOWEST + int rand($HIGHEST - $LOWEST) : $nominal;
        my $claim = _claim($number) or next;
        return { number => $number, claim => $claim } if _is_free($number, $udp);
    }
    die "no free port found for $nominal\n";
}

sub _claim {
    my ($number) = @_;

    socket(my $claim, AF_UNIX, SOCK_DGRAM, 0) or die "socket: $!\n";
    return bind($claim, pack_sockaddr_un("\0nginx-test-port-$number")) ? $claim : undef;
}

# On all addresses, since a test may listen on any of them.
sub _is_free {
    my ($number, $udp) = @_;

    socket(my $socket, AF_INET, $udp ? SOCK_DGRAM : SOCK_STREAM, 0)
        or die "socket: $!\n";
    setsockopt($socket, SOL_SOCKET, SO_REUSEADDR, 1) unless $udp;
    return bind($socket, pack_sockaddr_in($number, INADDR_ANY))
        && ($udp || listen($socket, 1));
}

1;
