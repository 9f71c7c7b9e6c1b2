package Chaos::Pulse;

# A process that pings every memcached and itself, and writes down when a mere
# ping took so long that nginx may have given up, too: on a busy machine a store
# may be silent without any fault of ours.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use Time::HiRes qw(sleep time);

use Chaos::History;
use Chaos::Limits qw(%LIMIT);

my $EVERY = 0.02;

# Nobody who is well takes half as long as nginx waits.
my $SLOW = $LIMIT{exchange} / 2;

sub serve {
    my ($path, %port) = @_;

    local $SIG{PIPE} = 'IGNORE';
    my $history = Chaos::History->writer($path);
    my %link;
    my $last = time();
    while (1) {
        sleep($EVERY);
        my $now = time();
        $history->add(slow => target => 'machine', from => $last, to => $now) if $now - $last > $SLOW;
        $last = $now;
        for my $server (sort keys %port) {
            $now = time();
            _ping(\%link, $port{$server});
            $history->add(slow => target => $server, from => $now, to => time()) if time() - $now > $SLOW;
        }
        $last = time();
    }
    return;
}

# Returns when it has answered, or will not.
sub _ping {
    my ($link, $port) = @_;

    my $socket = $link->{$port} //= IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 1) // return;
    if (defined syswrite $socket, "mn\r\n") {
        return if IO::Select->new($socket)->can_read(2 * $LIMIT{exchange}) && sysread $socket, my $answer, 64;
    }
    delete $link->{$port};
    return;
}

1;
