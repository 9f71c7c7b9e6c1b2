package Test::Nginx::Process;

# Processes and waiting.  Owns the list of the processes started by a test;
# no other process is ever sent a signal to.  Used by the other harness parts.

use strict;
use warnings;

use Exporter qw(import);
use POSIX qw(:sys_wait_h _exit);
use Time::HiRes qw(time sleep);

our @EXPORT_OK = qw(
    timeout within wait_until
    spawn adopt is_own reap status_of end_process send_signal children find_titled title
);

# Everything is slower under the sanitizers, and on a loaded machine.
my $FACTOR = $ENV{TEST_NGINX_TIMEOUT_FACTOR}
    || ($ENV{TEST_NGINX_ASAN} ? 5 : 1);

# pid => 0, a child not yet reaped; or, for an adopted process (a child's
# child), the time of its start, by which it is told from a later namesake.
my %own;

my %status;    # pid => how it ended

sub timeout {
    my ($seconds) = @_;
    return $seconds * $FACTOR;
}

# Runs the code, at most so many seconds.  True if it came to its end;
# otherwise false, with the reason in $@.
sub within {
    my ($seconds, $code) = @_;

    my $ok = eval {
        local $SIG{ALRM} = sub { die "timeout\n" };
        local $SIG{PIPE} = 'IGNORE';
        Time::HiRes::alarm(timeout($seconds));
        my $done = eval { $code->(); 1 };
        my $error = $@;
        Time::HiRes::alarm(0);
        die $error unless $done;
        1;
    };
    Time::HiRes::alarm(0);
    return $ok;
}

# Polls a condition until it is true, and returns what it returned; false
# once the time (10 s unless said) is over.
sub wait_until {
    my ($condition, $seconds) = @_;
    my $deadline = time() + timeout($seconds // 10);

    while (1) {
        my $answer = $condition->();
        return $answer if $answer;
        return 0 if time() >= $deadline;
        sleep(0.01);
    }
}

# Starts a command, or a code reference, in a child process.
# Options: env => {name => value}, stdout => file, stderr => file, keep => [handles].
sub spawn {
    my ($option, $what, @arguments) = @_;
    my $parent = $$;

    my $pid = fork();
    die "cannot fork: $!\n" unless defined $pid;
    if ($pid) {
        $own{$pid} = 0;
        return $pid;
    }

    # Nothing below may return into the test or run its END blocks.
    my $ok = eval {
        %own = ();
        $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE ALRM);
        _die_with($parent);
        _redirect($option);
        $ENV{$_} = $option->{env}{$_} for keys %{ $option->{env} || {} };
        if (ref $what eq 'CODE') {
            $what->(@arguments);
        }
        else {
            exec {$what} $what, @arguments or die "cannot run $what: $!\n";
        }
        1;
    };
    print {*STDERR} "child: $@" unless $ok;
    _exit($ok ? 0 : 127);
}

sub _redirect {
    my ($option) = @_;

    open(STDIN, '<', '/dev/null') or die "/dev/null: $!\n";
    if ($option->{stdout}) {
        open(STDOUT, '>>', $option->{stdout}) or die "$option->{stdout}: $!\n";
    }
    if ($option->{stderr}) {
        open(STDERR, '>>', $option->{stderr}) or die "$option->{stderr}: $!\n";
    }
    return;
}

# Linux: prctl(PR_SET_PDEATHSIG, SIGTERM), so that a test killed outright
# leaves no server behind.  Elsewhere it is done without.
sub _die_with {
    my ($parent) = @_;
    my $machine = (POSIX::uname())[4];
    my $prctl = { x86_64 => 157, aarch64 => 167 }->{$machine};

    syscall($prctl, 1, 15, 0, 0, 0) if $prctl;
    _exit(1) if getppid() != $parent;
    return;
}

# Takes charge of a process that ours started: the caller has made sure.
sub adopt {
    my ($pid) = @_;
    $own{$pid} = _start_time($pid) or die "there is no process $pid\n";
    return $pid;
}

# Nothing if the process has ended.
sub _start_time {
    my ($pid) = @_;

    open(my $fh, '<', "/proc/$pid/stat") or return;
    my $stat = <$fh> // return;
    # after the name in parentheses, which may hold anything: state is the first
    my @field = split m/\s/x, ($stat =~ m/^.*[)]\s(.*)/xs)[0];
    return $field[0] eq 'Z' ? undef : $field[19];
}

sub is_own {
    my ($pid) = @_;
    return exists $own{$pid};
}

# Waits for the end of a process of ours; true once it has ended.
sub reap {
    my ($pid, $seconds) = @_;

    return 1 unless is_own($pid);
    my $ended = wait_until(sub { _has_ended($pid) }, $seconds);
    delete $own{$pid} if $ended;
    return $ended;
}

sub _has_ended {
    my ($pid) = @_;

    my $started = $own{$pid};
    return $started != (_start_time($pid) // 0) if $started;
    local ($?, $!);
    return 0 unless waitpid $pid, WNOHANG;
    $status{$pid} = $?;
    return 1;
}

# As in $?, once the child was reaped.
sub status_of {
    my ($pid) = @_;
    return $status{$pid} // -1;
}

# A child's pid that was not reaped cannot belong to anybody else.
sub send_signal {
    my ($signal, $pid) = @_;

    die "process $pid was not started by this test\n" unless is_own($pid);
    return 0 if $own{$pid} && _has_ended($pid);
    return kill $signal, $pid;
}

# Sends the signals in turn, waiting so many seconds after each, until the
# child has ended.  Returns the signal that did it.
sub end_process {
    my ($pid, $seconds, @signals) = @_;

    local ($?, $!);
    for my $signal (@signals) {
        return $signal unless is_own($pid);
        send_signal($signal, $pid);
        return $signal if reap($pid, $seconds);
    }
    return;
}

sub _all {
    opendir(my $proc, '/proc') or die "/proc: $!\n";
    my @pids = grep { m/^\d+$/x } readdir $proc;
    return @pids;
}

# The first process whose title holds a text; nothing if none does.
sub find_titled {
    my ($text) = @_;
    my ($pid) = grep { index(title($_), $text) >= 0 } _all();
    return $pid;
}

# The direct children of a process.
sub children {
    my ($parent) = @_;
    my @found;

    for my $pid (_all()) {
        open(my $fh, '<', "/proc/$pid/stat") or next;
        my $stat = <$fh> // next;
        # the name in parentheses may hold anything
        my ($state, $ppid) = $stat =~ m/^.*[)]\s(\S)\s(\d+)\s/xs or next;
        push @found, $pid if $ppid == $parent && $state ne 'Z';
    }
    @found = sort { $a <=> $b } @found;
    return @found;
}

# The command line as it shows in ps; nginx keeps its process's part there.
sub title {
    my ($pid) = @_;

    open(my $fh, '<', "/proc/$pid/cmdline") or return '';
    my $line = <$fh> // '';
    $line =~ tr/\0/ /;
    return $line;
}

1;
