package Test::Nginx::Memcached;

# A real memcached of a test, on a port, on a Unix socket, or behind a relay
# that spoils what it says; and the ways in which it fails.  A daemon of the
# test object, which ends it by its process id, also after a die.

use strict;
use warnings;

use IO::Socket::INET;
use IO::Socket::UNIX;

use Test::Nginx::Memcached::Relay;
use Test::Nginx::Port qw(port);
use Test::Nginx::Process qw(is_own reap send_signal wait_until within);

# $where: a nominal port, or a socket's name in the test directory.
# Options: relay => 1 (of a port: the relay has it, the server a socket),
# memory => 1 (what it holds lasts over shut() and start()).
sub new {
    my ($class, $t, $where, %option) = @_;

    $t->has_daemon('memcached');
    my $self = bless { t => $t, where => $where, option => \%option }, $class;
    $self->{socket} = $t->testdir() . '/' . ($option{relay} ? "memcached-$where.sock" : $where)
        if $option{relay} || $where =~ m/\D/x;
    $self->{relay} = Test::Nginx::Memcached::Relay->start($t, port($where), $self->{socket}) if $option{relay};
    return $self->start();
}

# As it stands in a configuration given to write_file_expand.
sub address {
    my ($self) = @_;
    return $self->{where} =~ m/\D/x ? "unix:$self->{socket}" : "127.0.0.1:$self->{where}";
}

sub pid { my ($self) = @_; return $self->{pid} }

# --- its life ---

# Empty, unless it was shut and has a memory.
sub start {
    my ($self) = @_;

    my @command = ('memcached', '-t', '1', '-m', '64', '-U', '0', '-o', 'no_lru_maintainer', '-u', scalar getpwuid $>);
    push @command, '-e', $self->_memory() if $self->{option}{memory};
    unlink $self->{socket} if $self->{socket};
    push @command, $self->{socket} ? ('-s', $self->{socket}, '-a', '0777') : ('-l', '127.0.0.1', '-p', port($self->{where}));
    $self->{pid} = $self->{t}->start_daemon(@command);
    my $up = wait_until(sub {
        reap($self->{pid}, 0);
        return -1 if !is_own($self->{pid});
        return $self->_connection() ? 1 : 0;
    });
    die "memcached at $self->{where} did not start: see daemon.log\n" unless $up > 0;
    return $self;
}

sub _memory {
    my ($self) = @_;
    return $self->{t}->testdir() . "/memcached-$self->{where}.memory";
}

# At once, with all that it holds.
sub kill {    ## no critic (ProhibitBuiltinHomonyms)
    my ($self) = @_;
    $self->{t}->stop_daemon(delete $self->{pid}, 'KILL');
    unlink $self->{socket} if $self->{socket};
    return $self;
}

# Kindly: it keeps its memory, and start() revives it with its old data.
sub shut {
    my ($self) = @_;
    die "memcached at $self->{where} has no memory\n" unless $self->{option}{memory};
    $self->{t}->stop_daemon(delete $self->{pid}, 'USR1');
    # Its clock runs ahead a little, and what comes from the future it does not believe.
    my ($stopped) = do { local (@ARGV, $/) = $self->_memory() . '.meta'; <> =~ m/^Kstop_time[ ](\d+)/xm };
    wait_until(sub { time() > $stopped });
    return $self;
}

sub restart_empty {
    my ($self) = @_;
    $self->kill();
    unlink glob $self->_memory() . '*' if $self->{option}{memory};
    return $self->start();
}

# It accepts connections, and answers nothing; what it was sent meanwhile it
# takes in when it goes on.
sub pause {
    my ($self) = @_;
    send_signal('STOP', $self->{pid});
    wait_until(sub { $self->_has_stopped() }) or die "memcached at $self->{where} does not stop\n";
    return $self;
}
sub resume { my ($self) = @_; send_signal('CONT', $self->{pid}); return $self }

# Its threads stop one after the other, a moment later.
sub _has_stopped {
    my ($self) = @_;
    for my $file (glob "/proc/$self->{pid}/task/*/stat") {
        open(my $fh, '<', $file) or return 0;
        return 0 if (<$fh> // '') !~ m/[)][ ]T[ ]/x;
    }
    return 1;
}

# What the relay makes of it, see there.
sub behave {
    my ($self, $mode) = @_;
    $self->{relay}->behave($mode);
    return $self;
}

# --- behind everybody's back ---

sub _connection {
    my ($self) = @_;
    return $self->{socket}
        ? IO::Socket::UNIX->new(Peer => $self->{socket})
        : IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => port($self->{where}));
}

# One request on a connection of its own; all that comes until it ends so.
sub _ask {
    my ($self, $request, $last) = @_;
    my $reply = '';

    my $done = within(8, sub {
        my $connection = $self->_connection() or die "no connection: $!\n";
        $connection->syswrite($request);
        until ($reply =~ $last) {
            $connection->sysread($reply, 65_536, length $reply) or die "it hangs up\n";
        }
    });
    die "memcached at $self->{where}: $@" unless $done;
    return $reply;
}

# The names of all entries.
sub names {
    my ($self) = @_;

    my $listing = wait_until(sub {
        my $reply = $self->_ask("lru_crawler metadump all\r\n", qr/(?:END|BUSY[^\n]*)\r\n\z/x);
        return $reply =~ m/\ABUSY/x ? undef : $reply;
    });
    my @names = $listing =~ m/^key=(\S+)/xmg;
    s/%([[:xdigit:]]{2})/chr hex $1/gex for @names;
    return @names;
}

# The value; undef where there is none.
sub value {
    my ($self, $name) = @_;
    my $reply = $self->_ask("get $name\r\n", qr/(?:\A|\n)END\r\n\z/x);
    return $reply =~ m/\AVALUE[ ]\S+[ ]\d+[ ]\d+\r\n(.*)\r\nEND\r\n\z/xs ? $1 : undef;
}

sub write_value {
    my ($self, $name, $value) = @_;
    my $reply = $self->_ask("set $name 0 0 " . length($value) . "\r\n$value\r\n", qr/\n\z/x);
    die "memcached at $self->{where}: $reply" unless $reply eq "STORED\r\n";
    return $self;
}

sub remove {
    my ($self, @names) = @_;
    $self->_ask("delete $_\r\n", qr/\n\z/x) for @names;
    return $self;
}

1;

__END__

=head1 NAME

Test::Nginx::Memcached - real memcached servers that fail as a test wants

=head1 SYNOPSIS

    my @servers = map { Test::Nginx::Memcached->new($t, $_) } 8011, 8012, 'c.sock';
    my $list = join ' ', map { $_->address() } @servers;     # for "store memcached $list"

    $servers[0]->pause();              # SIGSTOP ... resume()
    $servers[0]->kill();               # ... start(): empty
    $servers[0]->restart_empty();

    my $old = Test::Nginx::Memcached->new($t, 8014, memory => 1);
    $old->shut();                      # ... start(): revived with its old data

    my $bad = Test::Nginx::Memcached->new($t, 8015, relay => 1);
    $bad->behave('garbage');           # slow=300 hang close cut; pass: well again

    $server->value($_) for $server->names();     # write_value, remove

=cut
