package Test::Nginx::Daemons;

# The part of a test object that runs other servers, waits, and moves the
# clock of our module's test build.  A base class of Test::Nginx; keeps its
# state there.

use strict;
use warnings;

use IO::Socket::INET;

use Test::Nginx::Port qw(port);
use Test::Nginx::Process qw(spawn is_own reap end_process send_signal wait_until);
use Test::Nginx::Recorder;

# A command or a code reference; returns its pid.
sub start_daemon {
    my ($self, @what) = @_;

    my $log = "$self->{testdir}/daemon.log";
    my $pid = spawn({ stdout => $log, stderr => $log }, @what);
    push @{ $self->{daemons} }, $pid;
    return $pid;
}

sub run_daemon {
    my ($self, @what) = @_;
    $self->start_daemon(@what);
    return $self;
}

sub signal_daemon {
    my ($self, $pid, $signal) = @_;
    send_signal($signal, $pid);
    return $self;
}

# Ends one, gently or (signal given) otherwise, and waits for its end.
sub stop_daemon {
    my ($self, $pid, $signal) = @_;

    send_signal('CONT', $pid) if is_own($pid);    # it may be stopped
    end_process($pid, 5, $signal // 'TERM', 'KILL');
    @{ $self->{daemons} } = grep { $_ != $pid } @{ $self->{daemons} };
    return $self;
}

sub stop_daemons {
    my ($self) = @_;
    $self->stop_daemon($_) for reverse @{ $self->{daemons} };
    return $self;
}

sub recorder {
    my ($self, $nominal, $answer, %option) = @_;

    my $recorder = Test::Nginx::Recorder->start(
        $self, $nominal, port($nominal), $answer, %option);
    push @{ $self->{recorders} }, $recorder;
    return $recorder;
}

# --- waiting ---

sub wait_for {
    my ($self, $condition, $seconds) = @_;
    return wait_until($condition, $seconds);
}

# True when the file is there; false if it, or the process, does not last.
sub waitforfile {
    my ($self, $file, $pid) = @_;

    my $found = wait_until(sub {
        return 1 if -e $file;
        return 0 unless $pid;
        reap($pid, 0);
        return is_own($pid) ? 0 : -1;
    });
    return $found > 0 || -e $file ? 1 : 0;
}

# True when somebody accepts connections at "address:port".
sub waitforsocket {
    my ($self, $peer) = @_;
    return wait_until(
        sub { IO::Socket::INET->new(Proto => 'tcp', PeerAddr => $peer) ? 1 : 0 });
}

# --- the test build's clock and random ---

# Moves our module's clock by so many seconds, back if negative.
sub advance {
    my ($self, $seconds) = @_;

    $self->{clock_offset_ms} += int($seconds * 1000 + ($seconds < 0 ? -0.5 : 0.5));
    return $self->_write_guard(0, pack 'q<', $self->{clock_offset_ms});
}

# From now on the module's random source fails, or works again.
sub fail_random {
    my ($self, $fails) = @_;
    return $self->_write_guard(8, pack 'L<', $fails ? 1 : 0);
}

# From now on the stores work, fail or stall (for ten seconds at most).
sub store {
    my ($self, $state) = @_;
    my %number = (works => 0, fails => 1, stalls => 2);
    return $self->_write_guard(12, pack 'L<', $number{$state} // die "no such state: $state\n");
}

# In place: the module has the file mapped.
sub _write_guard {
    my ($self, $offset, $bytes) = @_;

    open(my $fh, '+<:raw', "$self->{testdir}/guard.test") or die "guard.test: $!\n";
    sysseek $fh, $offset, 0;
    my $written = syswrite $fh, $bytes;
    die "guard.test: $!\n" unless defined $written && $written == length $bytes;
    close $fh;
    return $self;
}

1;
