package Bench::Servers;

# The processes of a run: one nginx of each kind (Bench::Conf), and a memcached. Started and ended by
# pid.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Path qw(make_path);
use IO::Socket::INET;

use Bench::Conf qw(kind nginx_conf);
use Test::Nginx::Port qw(port);
use Test::Nginx::Process qw(spawn adopt children title wait_until send_signal end_process);

my $next_port = 18_100;

sub new {
    my ($class, %option) = @_;
    my $self = bless { %option, all => {} }, $class;
    make_path($self->{folder});
    $self->{folder} = abs_path($self->{folder});
    return $self;
}

# The instance of this name: { port, master, worker, ... }; `kind` if it is not the name itself.
# Options: kind, zone, tokens (for Lua's dict), memcached (its port), timeout (of that), unpinned,
# callgrind => output file.
sub start {
    my ($self, $name, %option) = @_;
    my $server = $self->{all}{$name} = {
        %option,
        name   => $name,
        kind   => kind($option{kind} // $name),
        port   => port($next_port++),
        prefix => "$self->{folder}/$name",
    };
    return $self->_run($server);
}

sub _run {
    my ($self, $server) = @_;
    $self->_write($server);
    my @command = ($self->{nginx}, '-p', $server->{prefix}, '-c', 'nginx.conf', '-e', 'error.log');
    unshift @command, 'valgrind', '--tool=callgrind', "--callgrind-out-file=$server->{callgrind}",
        '--quiet'
        if $server->{callgrind};
    my $log = "$server->{prefix}/output";
    $server->{master} = spawn({ stdout => $log, stderr => $log }, @command);
    die "nginx for $server->{name} did not start: see $server->{prefix}/error.log and $log\n"
        if !_is_listening($server);
    $server->{worker} = $server->{callgrind} ? $server->{master} : $self->_worker($server);
    return $server;
}

sub _is_listening {
    my ($server) = @_;
    return wait_until(
        sub {
            IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $server->{port});
        }, 60);
}

# Its sessions are then no longer in the zone; in the store they are.
sub restart {
    my ($self, $server) = @_;
    end_process($server->{master}, 20, 'QUIT', 'TERM', 'KILL');
    return $self->_run($server);
}

# With one thread that answers, beside the clients.
sub start_memcached {
    my ($self) = @_;
    my $server = $self->{all}{memcached} = { name => 'memcached', port => port($next_port++), ends => ['TERM'] };
    my @command = (qw(memcached -U 0 -t 1 -m 512 -l 127.0.0.1 -p), $server->{port}, '-u', scalar getpwuid $>);
    unshift @command, qw(taskset -c 1) if $self->{pin};
    my $log = "$self->{folder}/memcached.output";
    $server->{master} = $server->{worker} = spawn({ stdout => $log, stderr => $log }, @command);
    die "memcached did not start: see $log\n" if !_is_listening($server);
    return $server;
}

sub _write {
    my ($self, $server) = @_;
    make_path("$server->{prefix}/tmp");
    _write_file("$server->{prefix}/app.keys", '5e' x 32 . "\n", oct 600) if $server->{kind}{guard};
    my $backend = $self->{all}{backend};
    my $is_backend = $server->{name} eq 'backend';
    _write_file("$server->{prefix}/nginx.conf", nginx_conf($server,
        module => $self->{module},
        backend => $backend && !$is_backend ? $backend->{port} : 0,
        cpu => $self->{pin} && !$server->{unpinned} ? $is_backend ? '10' : '01' : ''));
    return;
}

sub _write_file {
    my ($path, $text, $mode) = @_;
    open my $file, '>', $path or die "$path: $!\n";
    chmod $mode, $path if $mode;
    print {$file} $text;
    close $file or die "$path: $!\n";
    return;
}

sub _worker {
    my ($self, $server) = @_;
    my @found;
    wait_until(sub {
        @found = grep { title($_) =~ /worker[ ]process/ && title($_) !~ /shutting/ } children($server->{master});
        return @found == 1;
    });
    die "$server->{name}: no single worker\n" if @found != 1;
    return $found[0];
}

# HUP, with another zone size if given; true when the new worker is there.
sub reload {
    my ($self, $server, %change) = @_;
    my $before = $server->{worker};
    @{$server}{ keys %change } = values %change;
    $self->_write($server);
    send_signal('HUP', $server->{master});
    my ($new) = wait_until(sub {
        return (grep { $_ != $before && title($_) =~ /worker[ ]process$|worker[ ]process\s*$/ }
                children($server->{master}))[0];
    }, 30);
    $server->{worker} = $new if $new;
    return $new;
}

# CPU the worker has used so far, all its threads, in microseconds: by the scheduler's own count
# where the kernel keeps it, else in clock ticks.
sub cpu_us {
    my ($self, $server) = @_;
    my $nanoseconds = 0;
    for my $thread (glob "/proc/$server->{worker}/task/*/schedstat") {
        open my $file, '<', $thread or next;
        $nanoseconds += (split ' ', <$file>)[0];
        close $file;
    }
    return $nanoseconds / 1000 if $nanoseconds;
    open my $file, '<', "/proc/$server->{worker}/stat" or die "the worker of $server->{name} has gone\n";
    my @field = split ' ', (<$file> =~ /^.*[)][ ](.*)/)[0];
    close $file;
    return ($field[11] + $field[12]) * 10_000;
}

sub stop {
    my ($self, $name) = @_;
    my $server = delete $self->{all}{$name} or return;
    send_signal('CONT', $server->{master});    # it may be stopped
    end_process($server->{master}, 20, @{ $server->{ends} // ['QUIT', 'TERM'] }, 'KILL');
    return;
}

sub stop_all {
    my ($self) = @_;
    $self->stop($_) for grep { !/^(?:backend|memcached)$/ } sort keys %{ $self->{all} };
    $self->stop($_) for qw(backend memcached);
    return;
}

# Lines of all error logs that nobody should see after a run.
sub complaints {
    my ($self) = @_;
    my @found;
    for my $log (glob "$self->{folder}/*/error.log") {
        open my $file, '<', $log or next;
        push @found, grep { /\[(?:error|crit|alert|emerg)\]/ } <$file>;
        close $file;
    }
    return @found;
}

1;
