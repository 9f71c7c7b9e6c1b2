package Test::Crowd;

# Users who log in, look round, change and log out on several nodes, in several
# processes, and know what every answer should be.  A test lets faults happen
# meanwhile, waits for so many answers, and looks at the sums.

use strict;
use warnings;

use JSON::PP qw(decode_json encode_json);
use Time::HiRes qw(sleep time);

my @SUMS = qw(answers logins logouts unavailable wrong_admissions wrong_refusals lost somebody_else unanswered cookies);

# Options: processes (2), bound (s): how long after a logout another node may
# still let the session in; kept (20): sessions that each process keeps to the end.
sub start {
    my ($class, $nodes, %option) = @_;

    my ($first) = $nodes->all();
    my $self = bless { nodes => $nodes, t => $first, directory => $first->testdir(), processes => 2, bound => 1,
        kept => 20, %option, number => ++$first->{crowds} }, $class;
    for my $process (1 .. $self->{processes}) {
        push @{ $self->{pids} }, $first->start_daemon(sub { $self->_process($process) });
    }
    return $self;
}

sub _path {
    my ($self, $name) = @_;
    return "$self->{directory}/crowd-$self->{number}.$name";
}

sub answers {
    my ($self) = @_;
    my $sum = 0;
    $sum += -s $_ for glob $self->_path('*.answers');
    return $sum;
}

# False: there were not so many more answers in a minute.
sub wait_for_answers {
    my ($self, $count) = @_;
    my $wanted = $self->answers() + $count;
    return $self->{t}->wait_for(sub { $self->answers() >= $wanted }, 60);
}

# Ends it, when everybody has looked at all nodes once more; the sums.
sub end {
    my ($self) = @_;

    $self->{t}->write_file("crowd-$self->{number}.end", '');
    my @told = map { $self->_path("$_.told") } 1 .. $self->{processes};
    $self->{t}->wait_for(sub { @told == grep { -e } @told }, 60) or die "the crowd does not come to an end\n";
    $self->{t}->stop_daemon($_) for @{ $self->{pids} };
    my %sum = (map({ $_ => 0 } @SUMS), wrong => []);
    for my $told (map { decode_json($self->{t}->read_file("crowd-$self->{number}.$_.told")) } 1 .. $self->{processes}) {
        $sum{$_} += $told->{$_} for @SUMS;
        push @{ $sum{wrong} }, @{ $told->{wrong} };
    }
    return \%sum;
}

# --- in a process of its own ---

sub _process {
    my ($self, $process) = @_;

    my $own = { told => { map({ $_ => 0 } @SUMS), wrong => [] }, process => $process, live => [], gone => [], users => 0 };
    srand $process;
    open($own->{answers}, '>>', $self->_path("$process.answers")) or die "answers: $!\n";
    $own->{answers}->autoflush(1);
    until (-e $self->_path('end')) {
        $self->_log_in($own) if @{ $own->{live} } < $self->{kept};
        $self->_look($own, $own->{live}[ rand @{ $own->{live} } ], $self->_somewhere()) for 1 .. 3;
        $self->_log_out($own) if @{ $own->{live} } >= $self->{kept} && rand() < 0.5;
        $self->_replay($own);
    }
    $self->_last_look($own);
    my $text = encode_json($own->{told});
    open(my $fh, '>', $self->_path("$process.new")) or die "told: $!\n";
    print {$fh} $text;
    close $fh or die "told: $!\n";
    rename $self->_path("$process.new"), $self->_path("$process.told") or die "told: $!\n";
    return;
}

sub _somewhere {
    my ($self) = @_;
    my @names = $self->{nodes}->names();
    return $names[ rand @names ];
}

# The status; what is wrong whatever was expected is counted here.
sub _send {
    my ($self, $own, $client, $name, @request) = @_;

    my $held = $client->cookie('a');
    my $response = eval { $self->{nodes}->send($client, $name, @request) };
    my $status = $response && $response->complete() ? $response->status() : 0;
    print { $own->{answers} } '.';
    $own->{told}{answers}++;
    _wrong($own, 'unanswered', "$request[1] on $name: no answer") if !$status;
    if ($status == 503) {
        $own->{told}{unavailable}++;
        _wrong($own, 'cookies', "$request[1] on $name: 503 with a cookie") if $response->set_cookies();
    }
    $client->set_cookie(a => $held) if $held && $request[1] ne '/logout';
    return ($status, $response);
}

# For a comparison with the logs.
sub _since {
    my ($what, $name) = @_;
    return sprintf '%s on %s at %.2f', $what, $name, time();
}

sub _wrong {
    my ($own, $sum, $what) = @_;
    $own->{told}{$sum}++;
    push @{ $own->{told}{wrong} }, $what if @{ $own->{told}{wrong} } < 20;
    return;
}

# A login that could not be had is no session; every other is one from its answer on.
sub _log_in {
    my ($self, $own) = @_;

    my $user = "u$own->{process}-" . ++$own->{users};
    my $client = Test::Nginx::Client::client();
    my $name = $self->_somewhere();
    my ($status) = $self->_send($own, $client, $name, 'POST', '/login', qq{create; user="$user"});
    $own->{told}{logins}++;
    if ($client->cookie('a')) {
        push @{ $own->{live} }, { client => $client, user => $user, since => _since('logged in', $name) };
    }
    elsif ($status && $status != 503) {
        _wrong($own, 'wrong_refusals', "login on $name: $status");
    }
    return;
}

sub _look {
    my ($self, $own, $session, $name) = @_;

    return 1 if !$session;
    my ($status, $response) = $self->_send($own, $session->{client}, $name, 'GET', '/');
    if ($status == 200) {
        my ($user) = ($response->header('X-Is') // '') =~ m{\A([^/]*)}x;
        _wrong($own, 'somebody_else', "$session->{user} on $name was taken for $user") if $user ne $session->{user};
    }
    elsif ($status && $status != 503) {
        _wrong($own, 'wrong_refusals', "$session->{user}, $session->{since}, on $name: $status " . Test::Guard::reason($response));
    }
    return $status == 200;
}

sub _log_out {
    my ($self, $own) = @_;

    my ($session) = splice @{ $own->{live} }, rand @{ $own->{live} }, 1;
    my $copy = $session->{client}->clone();
    my $name = $self->_somewhere();
    my ($status) = $self->_send($own, $session->{client}, $name, 'POST', '/logout');
    $own->{told}{logouts}++;
    return if !$status;    # who knows?
    _wrong($own, 'wrong_refusals', "logout on $name: $status") if $status != 204;
    my $since = _since('logged out', $name);
    $self->_is_gone($own, { %{$session}, client => $copy }, $name, $since);
    push @{ $own->{gone} },
        { %{$session}, client => $copy, since => $since, due => time() + $self->{bound} };
    return;
}

# Sessions logged out so long ago that no node may let them in.
sub _replay {
    my ($self, $own) = @_;

    while (@{ $own->{gone} } && $own->{gone}[0]{due} <= time()) {
        my $session = shift @{ $own->{gone} };
        $self->_is_gone($own, $session, $_, $session->{since}) for $self->{nodes}->names();
    }
    return;
}

sub _is_gone {
    my ($self, $own, $session, $name, $since) = @_;
    my ($status) = $self->_send($own, $session->{client}->clone(), $name, 'GET', '/');
    _wrong($own, 'wrong_admissions', "$session->{user}, $since, on $name: $status") if $status == 200;
    return;
}

# The test has mended everything before it ends the crowd: who is not let in now is lost.
sub _last_look {
    my ($self, $own) = @_;

    while (my $last = $own->{gone}[-1]) {
        sleep(0.05) if $last->{due} > time();
        $self->_replay($own);
    }
    for my $session (@{ $own->{live} }) {
        for my $name ($self->{nodes}->names()) {
            $self->_look($own, $session, $name) or _wrong($own, 'lost', "$session->{user}, $session->{since}, on $name: lost");
        }
    }
    return;
}

1;
