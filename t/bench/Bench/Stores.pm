package Bench::Stores;

# What the second tier costs: the first sight of a session that only memcached has, beside Lua's
# client; logins that LMDB must commit, beside LMDB alone; other requests while memcached hangs. In
# alternated rounds; what is compared is compared within its round.

use strict;
use warnings;

use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP qw(decode_json);
use Time::HiRes qw(time sleep);

use Bench::Measure qw(median);
use Test::Nginx::Process qw(send_signal wait_until);

my $WARM_UP = 2000;        # requests before a burst that a fresh worker is measured with
my $SEEDED = 61;           # seconds: nodes write what they know to a memcached that is younger
my $PARKED = 100;          # requests that wait while the store hangs
my @CLIENTS = (64, 128, 256);

# Options: measure, servers, folder, rounds, burst (requests), logins (of one burst).
sub new {
    my ($class, %option) = @_;
    return bless {%option}, $class;
}

# Early in a run, for memcached to grow old: it stays. The server 'backend' must be there.
sub prepare {
    my ($self) = @_;
    my $memcached = $self->{servers}->start_memcached();
    $self->_open_sessions($memcached);
    $self->{began} = time;
    return;
}

# All rows; the servers 'backend' and 'bare' must be there.
sub measure {
    my ($self) = @_;
    my $memcached = $self->{servers}{all}{memcached};
    $self->{progress}->('waiting for memcached to be a minute old');
    sleep 0.1 while time < $self->{began} + $SEEDED;
    $self->{servers}->start('guard_memcached', memcached => $memcached->{port}, zone => '16m');
    my $first = $self->_first_sight($memcached);
    my $hang = $self->_while_it_hangs($memcached);
    $self->{servers}->stop($_) for qw(guard_memcached lua_memcached hang);
    return { first => $first, hang => $hang, logins => $self->_logins() };
}

# A burst of requests: CPU per request of the worker and of memcached, keys asked for, speed.
sub _burst {
    my ($self, $server, %load) = @_;
    my ($servers, $memcached) = ($self->{servers}, $self->{servers}{all}{memcached});
    my $keys = _keys_asked($memcached);
    my @before = map { $servers->cpu_us($_) } $server, $memcached;
    my $result = $self->{measure}->load('get', $server, tokens => $self->{tokens}, %load);
    my @used = map { $servers->cpu_us($_) - shift @before } $server, $memcached;
    return {
        us => $used[0] / $load{count},
        store_us => $used[1] / $load{count},
        keys => (_keys_asked($memcached) - $keys) / $load{count},
        per_second => $load{count} / $result->{seconds},
    };
}

sub _connect {
    my ($memcached) = @_;
    return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $memcached->{port}) || die "memcached: $!\n";
}

# Since memcached was started.
sub _keys_asked {
    my ($memcached) = @_;
    my $socket = _connect($memcached);
    print {$socket} "stats\r\nquit\r\n";
    my ($count) = map { m/^STAT cmd_get (\d+)/ ? $1 : () } <$socket>;
    return $count;
}

# Opened through one nginx; the same tokens for Lua, with values of the same size.
sub _open_sessions {
    my ($self, $memcached) = @_;
    my $count = $WARM_UP + $self->{burst};
    $self->{tokens} = "$self->{folder}/tokens.stores";
    my $guard = $self->{servers}->start('guard_memcached', memcached => $memcached->{port}, zone => '16m');
    $self->{measure}->load('create', $guard, count => $count, tokens => $self->{tokens});
    my $socket = _connect($memcached);
    my $value = sprintf('%013d', 4_102_444_800_000) . 'x' x 287;
    open my $file, '<', $self->{tokens} or die "$self->{tokens}: $!\n";
    while (my $token = <$file>) {
        chomp $token;
        print {$socket} "set $token 0 0 300 noreply\r\n$value\r\n";
    }
    close $file;
    print {$socket} "version\r\n";
    my $answer = <$socket> // '';
    die "memcached: $answer\n" if $answer !~ /^VERSION/;
    $self->{servers}->stop('guard_memcached');
    return;
}

sub _first_sight {
    my ($self, $memcached) = @_;
    my $all = $self->{servers}{all};
    $self->{servers}->start('lua_memcached', memcached => $memcached->{port});
    my @load = (first => $WARM_UP, count => $self->{burst});
    my %case = (
        bare => sub { (bare => $self->_burst($all->{bare}, @load)) },
        lua => sub { (lua => $self->_burst($all->{lua_memcached}, @load)) },
        # After a restart nothing is in the zone; after the first burst all of it is.
        guard => sub {
            my $guard = $self->{servers}->restart($all->{guard_memcached});
            $self->_burst($guard, count => $WARM_UP);
            my $first = $self->_burst($guard, @load);
            return (first => $first, known => $self->_burst($guard, @load));
        },
    );
    my @rounds;
    for my $round (0 .. $self->{rounds}) {
        $self->{progress}->("first sight of a session: round $round of $self->{rounds}");
        my @order = $round % 2 ? qw(guard lua bare) : qw(bare lua guard);
        my %round = map { $case{$_}->() } @order;
        _check_keys(%round);
        push @rounds, \%round if $round;    # the first is for warming up
    }
    return _first_sight_figures(@rounds);
}

# A session and its last activity at the first sight, nothing later; Lua asks for one key.
sub _check_keys {
    my (%round) = @_;
    my %least = (bare => 0, known => 0, first => 2, lua => 1);
    for my $case (sort keys %least) {
        my $keys = $round{$case}{keys};
        die "$case: $keys keys a request were asked for\n" if $keys < $least{$case} || $keys > $least{$case} + 0.5;
    }
    return;
}

sub _first_sight_figures {
    my (@rounds) = @_;
    my $of = sub {
        my ($code) = @_;
        return median(map { $code->($_) } @rounds);
    };
    my %result = (
        added_us => $of->(sub { $_[0]{first}{us} - $_[0]{known}{us} }),
        lua_added_us => $of->(sub { $_[0]{lua}{us} - $_[0]{bare}{us} }),
        times_lua => $of->(sub { $_[0]{first}{per_second} / $_[0]{lua}{per_second} }),
        cpu_times_lua => $of->(sub { $_[0]{lua}{us} / $_[0]{first}{us} }),
    );
    for my $case (qw(bare known first lua)) {
        for my $figure (qw(us store_us per_second)) {
            $result{$case}{$figure} = $of->(sub { $_[0]{$case}{$figure} });
        }
    }
    return \%result;
}

# p99 of requests that need no store, with and without others waiting for one that was stopped.
sub _while_it_hangs {
    my ($self, $memcached) = @_;
    my $hang = $self->{servers}->start('hang', kind => 'guard_memcached', memcached => $memcached->{port},
        timeout => '10s');
    my $p99 = sub {
        return $self->{measure}->load('get', $hang, tokens => $self->{tokens}, path => '/free', connections => 8,
            count => $self->{burst})->{p99_us};
    };
    my (@normal, @hanging, @ratio);
    for my $round (0 .. $self->{rounds}) {
        $self->{progress}->("other requests while the store hangs: round $round of $self->{rounds}");
        my $first = $round * $PARKED;
        my %p99;
        for my $case ($round % 2 ? qw(hanging normal) : qw(normal hanging)) {
            $p99{$case} = $case eq 'normal'
                ? $p99->() : $self->_with_parked($hang, $memcached, $first, $p99);
        }
        next if !$round;
        push @normal, $p99{normal};
        push @hanging, $p99{hanging};
        push @ratio, $p99{hanging} / $p99{normal};
    }
    return { normal_us => median(@normal), hanging_us => median(@hanging), ratio => median(@ratio),
        parked => $PARKED };
}

# While memcached is stopped and requests about sessions that only it has are waiting. They must
# have waited all the time, and be answered well when it goes on.
sub _with_parked {
    my ($self, $server, $memcached, $first, $code) = @_;
    send_signal('STOP', $memcached->{master});
    my $began;
    my $value;
    my $done = eval {
        my $parked = $self->{measure}->in_background('get', $server, count => $PARKED, connections => $PARKED,
            first => $first, tokens => $self->{tokens});
        wait_until(sub { _connections($server) >= $PARKED }) or die "the parked requests did not arrive\n";
        $began = time;
        $value = $code->();
        my $held_us = (time - $began) * 1e6;
        send_signal('CONT', $memcached->{master});
        my $result = $parked->();
        die "only $result->{statuses}{200} of the parked requests were answered\n"
            if ($result->{statuses}{200} // 0) != $PARKED;
        die "a request did not wait while the store hung\n" if $result->{least_us} < 0.9 * $held_us;
        1;
    };
    my $error = $@;
    send_signal('CONT', $memcached->{master});
    die $error if !$done;
    return $value;
}

# Connections that clients have open to it.
sub _connections {
    my ($server) = @_;
    my $port = sprintf '0100007F:%04X', $server->{port};
    open my $file, '<', '/proc/net/tcp' or die "/proc/net/tcp: $!\n";
    my $count = grep { (split)[1] eq $port && (split)[3] eq '01' } <$file>;
    close $file;
    return $count;
}

# On all cores: commits run beside the event loop, which is what the thread pool is for.
sub _logins {
    my ($self) = @_;
    my $servers = $self->{servers};
    my $raw = "$self->{folder}/raw.mdb";
    my $prefix = "$servers->{folder}/guard_lmdb";
    unlink map { ("$_", "$_-lock") } $raw, "$prefix/sessions.mdb";
    $servers->stop('backend');
    $servers->start('backend', unpinned => 1);
    my $guard = $servers->start('guard_lmdb', zone => '64m', unpinned => 1);
    my %rounds;
    for my $round (0 .. $self->{rounds}) {
        for my $clients ($round % 2 ? reverse @CLIENTS : @CLIENTS) {
            $self->{progress}->("durable logins, $clients clients: round $round of $self->{rounds}");
            my $result = $self->_login_round($guard, "$prefix/sessions.mdb", $raw, $clients);
            push @{ $rounds{$clients} }, $result if $round;
        }
    }
    $servers->stop('guard_lmdb');
    return [map { _login_figures($_, @{ $rounds{$_} }) } @CLIENTS];
}

# Logins, then LMDB alone: as many puts of as many bytes, in groups as large.
sub _login_round {
    my ($self, $guard, $path, $raw, $clients) = @_;
    my ($measure, $count) = ($self->{measure}->unpinned(), $self->{logins});
    my $before = $measure->run_json('commits', 'state', $path, 'entries');
    my $store_us = _store_us($guard);
    my $cpu = $self->{servers}->cpu_us($guard);
    my $logins = $measure->load('create', $guard, count => $count, connections => $clients,
        tokens => "$self->{folder}/tokens.logins");
    $cpu = ($self->{servers}->cpu_us($guard) - $cpu) / $count;
    $store_us = (_store_us($guard) - $store_us) / $count;
    my $after = $measure->run_json('commits', 'state', $path, 'entries');
    my $written = $after->{entries} - $before->{entries};
    die "$written entries in the store after $count logins\n" if $written != $count;
    my $group = $count / ($after->{commits} - $before->{commits});
    my $alone = $measure->run_json('commits', 'run', $raw, int($group + 0.5), $count, $after->{value_bytes});
    my ($mine, $its) = ($count / $logins->{seconds}, $count / $alone->{seconds});
    return { group => $group, us => $cpu, per_second => $mine, raw_per_second => $its, ratio => $mine / $its,
        store_ratio => 1e6 / $store_us / $its, value_bytes => $after->{value_bytes} };
}

# How long its thread has been writing, by session_status.
sub _store_us {
    my ($guard) = @_;
    my $answer = HTTP::Tiny->new()->get("http://127.0.0.1:$guard->{port}/status");
    die "session_status: $answer->{status}\n" if $answer->{status} != 200;
    return decode_json($answer->{content})->{realms}[0]{store}{writes}{microseconds};
}

sub _login_figures {
    my ($clients, @rounds) = @_;
    my %result = (clients => $clients);
    for my $figure (keys %{ $rounds[0] }) {
        $result{$figure} = median(map { $_->{$figure} } @rounds);
    }
    return \%result;
}

1;
