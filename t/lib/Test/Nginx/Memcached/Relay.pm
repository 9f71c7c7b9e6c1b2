package Test::Nginx::Memcached::Relay;

# A process between the nodes and a memcached that passes on everything, or
# spoils what the server says: what a real server or the network does only now
# and then.  It reads what it is to do from a file, with every reply.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Time::HiRes qw(time);

my %MODES = map { $_ => 1 } qw(pass hang close garbage cut);

# Listens on a port, passes on to a Unix socket.
sub start {
    my ($class, $t, $port, $socket) = @_;

    my $self = bless { t => $t, file => "relay-$port" }, $class;
    $self->behave('pass');
    my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 64, ReuseAddr => 1)
        or die "port $port: $!\n";
    my $path = $t->testdir() . "/$self->{file}";
    $self->{pid} = $t->start_daemon(sub { _serve({ listen => $listen, socket => $socket, file => $path }) });
    return $self;
}

# From the next reply on:
#   pass      as the server says it
#   slow=ms   every reply that late
#   hang      nothing is said any more
#   close     hangs up instead of answering, and on every new connection
#   garbage   bytes that are no reply
#   cut       half of the reply, then it hangs up
sub behave {
    my ($self, $mode) = @_;

    die "no such mode: $mode\n" unless $MODES{$mode} || $mode =~ m/\Aslow=\d+\z/x;
    $self->{t}->write_file("$self->{file}.new", $mode);
    my $path = $self->{t}->testdir() . "/$self->{file}";
    rename "$path.new", $path or die "rename: $!\n";
    return $self;
}

# --- in the other process ---

sub _serve {
    my ($relay) = @_;

    local $SIG{PIPE} = 'IGNORE';
    $relay->{select} = IO::Select->new($relay->{listen});
    $relay->{peer} = {};       # by handle: the other end
    $relay->{late} = [];       # [ when, to whom, bytes ]
    while (1) {
        for my $ready ($relay->{select}->can_read(@{ $relay->{late} } ? 0.005 : 1)) {
            if ($ready == $relay->{listen}) {
                _accept($relay);
            }
            elsif ($relay->{peer}{$ready}) {    # not closed a moment ago
                _pass_on($relay, $ready);
            }
        }
        while (@{ $relay->{late} } && $relay->{late}[0][0] <= time()) {
            my (undef, $to, $bytes) = @{ shift @{ $relay->{late} } };
            _send($to, $bytes) if $relay->{peer}{$to};
        }
    }
    return;
}

sub _mode {
    my ($relay) = @_;
    open(my $fh, '<', $relay->{file}) or return 'pass';
    return scalar <$fh>;
}

sub _accept {
    my ($relay) = @_;

    my $client = $relay->{listen}->accept() or return;
    return if _mode($relay) eq 'close';
    my $server = IO::Socket::UNIX->new(Peer => $relay->{socket}) or return;
    $relay->{is_server}{$server} = 1;
    @{ $relay->{peer} }{ $client, $server } = ($server, $client);
    $relay->{select}->add($client, $server);
    return;
}

sub _pass_on {
    my ($relay, $from) = @_;

    my $to = $relay->{peer}{$from};
    my $size = sysread $from, my $bytes, 65_536;
    return _hang_up($relay, $from, $to) unless $size;
    my $mode = _mode($relay);
    if ($mode eq 'close') {
        _hang_up($relay, $from, $to);
    }
    elsif (!$relay->{is_server}{$from} || $mode eq 'pass') {
        _send($to, $bytes);
    }
    elsif ($mode =~ m/\Aslow=(\d+)/x) {
        push @{ $relay->{late} }, [ time() + $1 / 1000, $to, $bytes ];
    }
    elsif ($mode eq 'garbage') {
        _send($to, "\0\x{ff}VALUE of nothing\r\n" x 3);
    }
    elsif ($mode eq 'cut') {
        _send($to, substr $bytes, 0, $size / 2);
        _hang_up($relay, $from, $to);
    }
    return;    # hang: nothing
}

# Replies are small: the other end has room for them.
sub _send {
    my ($to, $bytes) = @_;
    for (my $at = 0; $at < length $bytes;) {
        $at += syswrite($to, $bytes, length($bytes) - $at, $at) // return;
    }
    return;
}

sub _hang_up {
    my ($relay, @ends) = @_;
    delete @{ $relay->{$_} }{@ends} for qw(peer is_server);
    $relay->{select}->remove(@ends);
    close $_ for @ends;
    return;
}

1;
