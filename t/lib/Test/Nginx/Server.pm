package Test::Nginx::Server;

# The part of a test object that runs nginx: starting, reloading, upgrading,
# stopping, killing workers, trying configurations.  A base class of
# Test::Nginx; keeps its state there.

use strict;
use warnings;

use Test::Nginx::Conf;
use Test::Nginx::Process qw(
    spawn adopt is_own reap status_of end_process send_signal children find_titled title wait_until
);

# --- nginx ---

sub _command {
    my ($self) = @_;

    my @command = (Test::Nginx::Conf::binary(), '-p', "$self->{testdir}/", '-c', 'nginx.conf', '-e', 'error.log');
    return @command if $self->{with_globals};
    return (@command, '-g', join ' ', split m/\n/x, Test::Nginx::Conf::globals($self->_globals_options()));
}

sub _environment {
    my ($self) = @_;

    my %environment = (SESSION_GUARD_TEST_FILE => "$self->{testdir}/guard.test");
    return \%environment unless $ENV{TEST_NGINX_ASAN};
    my %option = (
        ASAN  => 'detect_odr_violation=0',
        UBSAN => 'print_stacktrace=1',
        LSAN  => '',
    );
    for my $tool (keys %option) {
        $environment{"${tool}_OPTIONS"} = join ':', grep { length } $ENV{"${tool}_OPTIONS"} // '',
            $option{$tool}, "log_path=$self->{testdir}/\L$tool";
    }
    return \%environment;
}

# Starts nginx and waits until its workers run; dies if they do not.
sub run {
    my ($self, $conf) = @_;

    die "nginx runs already\n" if $self->{master};
    if (defined $conf) {
        open(my $fh, '<', $conf) or die "$conf: $!\n";
        $self->write_file_expand('nginx.conf', do { local $/ = undef; <$fh> });
    }
    unlink "$self->{testdir}/nginx.pid";
    my $stderr = "$self->{testdir}/stderr.log";
    my $pid = spawn(
        { env => $self->_environment(), stdout => $stderr, stderr => $stderr },
        $self->_command()
    );
    $self->{master} = $pid;
    my $alone = $self->read_file('nginx.conf') =~ m/\bmaster_process\s+off\s*;/x;
    my $up = wait_until(sub {
        if (reap($pid, 0) && $self->{master} == $pid) {
            $self->{master} = $self->_adopted() // return -1;
        }
        return 0 unless $self->_pid_file() == $self->{master};
        return $alone || $self->workers() >= $self->_workers_wanted();
    });
    return $self if $up > 0;

    my $how = is_own($pid) ? 'is not ready in time' : sprintf 'ended with 0x%04x', status_of($pid);
    end_process($self->{master} // $pid, 5, 'TERM', 'KILL');
    delete $self->{master};
    die "nginx did not start ($how):\n" . $self->_tail('stderr.log');
}

# With "daemon on" the master is not our child, and that one ends without an
# error.  The name of our directory, nobody else's, is in its command line.
sub _adopted {
    my ($self) = @_;

    return if status_of($self->{master}) != 0;
    my $pid = wait_until(sub { find_titled("-p $self->{testdir}/") });
    return $pid ? adopt($pid) : undef;
}

sub _pid_file {
    my ($self) = @_;

    open(my $fh, '<', "$self->{testdir}/nginx.pid") or return 0;
    my $line = <$fh> // return 0;
    return $line =~ m/\A(\d+)\n/x ? $1 : 0;
}

sub _workers_wanted {
    my ($self) = @_;
    my ($count) = $self->read_file('nginx.conf') =~ m/\bworker_processes\s+(\d+)\s*;/x;
    return $count // 1;
}

# As run(), with a message of the test's own.
sub try_run {
    my ($self, $message) = @_;
    return $self if eval { $self->run() };
    die "$message: $@";
}

sub master { my ($self) = @_; return $self->{master} }

# The pids of the workers that take requests (not those shutting down).
sub workers {
    my ($self) = @_;

    my @all = $self->{master} ? children($self->{master}) : ();
    my @workers = grep { title($_) =~ m/worker[ ]process(?![ ]is[ ]shutting)/x } @all;
    return @workers;
}

# Sends the master a signal by name: USR1 reopens logs, WINCH, ...
sub signal {
    my ($self, $name) = @_;
    die "nginx does not run\n" unless $self->{master};
    send_signal($name, $self->{master});
    return $self;
}

sub reload {
    my ($self) = @_;
    $self->try_reload() if $self->{master};
    return $self;
}

# True once new workers have taken over; false if the configuration was refused.
sub try_reload {
    my ($self) = @_;

    my %old = map { $_ => 1 } $self->workers();
    my $seen = length $self->read_file('error.log');
    $self->signal('HUP');
    my $answer = wait_until(sub {
        my $news = substr $self->read_file('error.log'), $seen;
        return 'refused' if $news =~ m/\[emerg\]/x && $news =~ m/reconfiguring/x;
        my @now = $self->workers();
        return @now >= $self->_workers_wanted() && !(grep { $old{$_} } @now) && 'done';
    });
    return $answer eq 'done';
}

# A new master by USR2, and the old one's end.  The code, if given, runs
# while both are there.  Needs "daemon on": nginx ignores USR2 otherwise.
sub upgrade_binary {
    my ($self, $meanwhile) = @_;

    my $old = $self->{master};
    $self->signal('USR2');
    my $new = wait_until(sub {
        my $pid = $self->_pid_file();
        return $pid != $old && (grep { $_ == $pid } children($old)) && $pid;
    }) or die "no new master came: is there \"daemon off\"?\n";
    $self->{old_master} = $old;
    $self->{master} = adopt($new);
    wait_until(sub { $self->workers() >= $self->_workers_wanted() })
        or die "the new master has no workers\n";
    $meanwhile->() if $meanwhile;
    $self->_stop_master(delete $self->{old_master});
    return $self;
}

# Graceful; a server that does not end by itself is ended, and told of.
sub stop {
    my ($self) = @_;

    $self->_stop_master(delete $self->{$_}) for grep { $self->{$_} } qw(master old_master);
    return $self;
}

# Connections that stay open (WebSockets) keep nginx from quitting: fast stop.
sub stop_fast {
    my ($self) = @_;

    $self->_stop_master(delete $self->{master}, 'TERM') if $self->{master};
    return $self;
}

sub _stop_master {
    my ($self, $master, $signal) = @_;

    my @workers = children($master);
    my @signals = $signal ? ($signal, 'KILL') : ('QUIT', 'TERM', 'KILL');
    my $how = end_process($master, 10, @signals) // 'nothing';
    return if $how eq $signals[0];
    push @{ $self->{complaints} },
        "nginx did not heed $signals[0], $how ended it: does the test hold connections open (then: stop_fast)?";
    _end_orphans(@workers) if $how eq 'KILL';
    return;
}

# As a power cut: master and workers at once.
sub kill_nginx {
    my ($self) = @_;

    my $master = delete $self->{master} or return $self;
    send_signal('STOP', $master);    # starts no new worker meanwhile
    my @workers = children($master);
    kill 'KILL', @workers;
    end_process($master, 10, 'KILL');
    _end_orphans(@workers);
    return $self;
}

# Workers were children of our master a moment ago; the title is the proof
# that the pid is still theirs.
sub _end_orphans {
    my (@pids) = @_;

    for my $pid (@pids) {
        kill 'KILL', $pid if title($pid) =~ m/\Anginx:/x;
        wait_until(sub { title($pid) !~ m/\Anginx:/x }, 5);
    }
    return;
}

# A crash of one worker; waits until nginx has noticed.  The alert that
# nginx writes about it is expected.
sub kill_worker {
    my ($self, $pid, $signal) = @_;

    $self->_is_worker($pid);
    $self->expect_alert(qr/process[ ]$pid[ ]exited[ ]on[ ]signal/x);
    kill $signal // 'KILL', $pid;
    wait_until(sub { !grep { $_ == $pid } children($self->{master}) })
        or die "worker $pid does not die\n";
    return $self;
}

# STOP and CONT, for a worker that stalls.
sub signal_worker {
    my ($self, $pid, $signal) = @_;

    $self->_is_worker($pid);
    kill $signal, $pid;
    return $self;
}

sub _is_worker {
    my ($self, $pid) = @_;

    die "$pid is no worker of this test's nginx\n"
        unless $self->{master}
        && title($pid) =~ m/worker[ ]process/x
        && grep { $_ == $pid } children($self->{master});
    return;
}

# --- trying configurations ---

# nginx -t on a whole configuration: (true if it is accepted, what it says).
sub nginx_t {
    my ($self, $conf, @switches) = @_;

    my $directory = $self->{testdir};
    $self->write_file('conf-test.conf', $self->_expand($conf, '-conf-test'));
    my $output = "$directory/conf-test.out";
    unlink $output;
    my $pid = spawn(
        { env => $self->_environment(), stdout => $output, stderr => $output },
        sub {
            exec {Test::Nginx::Conf::binary()} Test::Nginx::Conf::binary(),
                (@switches ? @switches : '-t'), '-p', "$directory/", '-c', 'conf-test.conf',
                '-e', 'error-conf-test.log'
                or die "cannot run nginx: $!\n";
        }
    );
    end_process($pid, 1, 'TERM', 'KILL') unless reap($pid, 20);
    return (status_of($pid) == 0, $self->read_file('conf-test.out'));
}

sub test_conf_fails {
    my ($self, @rest) = @_;
    return $self->nginx_t(@rest);
}

# The same for what stands in http { }.
sub nginx_t_http {
    my ($self, $inner) = @_;
    return $self->nginx_t("%%TEST_GLOBALS%%\ndaemon off;\nevents { }\nhttp {\n%%TEST_GLOBALS_HTTP%%\n$inner\n}\n");
}

sub dump_config {
    my ($self) = @_;
    my ($ok, $output) = $self->nginx_t($self->read_file('nginx.conf'), '-T');
    return $output;
}

1;
