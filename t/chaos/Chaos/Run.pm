package Chaos::Run;

# One run: the site, its users in processes of their own, rounds of faults, the
# checker, and what is told of it all.  Ends what it started, also on a signal
# (Test::Nginx does that for all its daemons).

use strict;
use warnings;

use File::Copy qw(copy);
use Time::HiRes qw(time);

use Chaos::Checker;
use Chaos::Crowd;
use Chaos::Faults;
use Chaos::Plans;
use Chaos::Pulse;
use Chaos::Site;
use Test::Nginx;
use Test::Nginx::Process qw(is_own reap wait_until);

my %USERS = (net => 24, file => 8);
my $MOST_SHOWN = 6;

# Options: seconds, seed, load (requests a second), plans (all), keep (a folder).
sub new {
    my ($class, %option) = @_;

    srand $option{seed};
    my $site = Chaos::Site->new();
    my $self = bless { %option, site => $site, directory => $site->{directory}, number => 0, begun => time(), deck => [],
        checker => Chaos::Checker->new(), reader => Chaos::History->reader($site->{directory}), answered => 0, slow => {} }, $class;
    $self->{faults} = Chaos::Faults->new($site, sub { $self->wait_for_asks(@_) });
    $self->_phase('drain');
    $site->note(run => seed => $option{seed});
    my $first = $site->node('a');
    my %ports = map { ("m$_" => port(8011 + $_)) } $site->servers();
    push @{ $self->{pids} }, $first->start_daemon(sub { Chaos::Pulse::serve("$self->{directory}/pulse.history", %ports) });
    $self->_start_crowd($_) for qw(net net file);
    # A new server's "nothing there" does not count for a minute.
    $site->step(90, $site->nodes());
    return $self;
}

sub _start_crowd {
    my ($self, $group) = @_;

    my $name = 'p' . (1 + @{ $self->{crowds} || [] });
    my %option = (name => $name, ports => $self->{site}->ports($group), users => $USERS{$group} / ($group eq 'net' ? 2 : 1),
        pace => $self->{load} / 3, directory => $self->{directory}, seed => $self->{seed} * 10 + @{ $self->{crowds} || [] });
    push @{ $self->{crowds} }, $name;
    Chaos::History->writer("$self->{directory}/$name.history");    # there is one to be read from the start
    push @{ $self->{pids} }, $self->{site}->node('a')->start_daemon(sub { Chaos::Crowd->new(%option)->serve() });
    return;
}

# --- phases ---

sub _phase {
    my ($self, $word) = @_;
    my $path = "$self->{directory}/phase";
    open(my $fh, '>', "$path.new") or die "$path: $!\n";
    print {$fh} "$word $self->{number}";
    close $fh or die "$path: $!\n";
    rename "$path.new", $path or die "$path: $!\n";
    return;
}

sub _until_done {
    my ($self, $word) = @_;
    $self->_phase($word);
    for my $name (@{ $self->{crowds} }) {
        wait_until(sub { $self->_all_live(); -e "$self->{directory}/$name.$word-$self->{number}" }, 120) or die "$name does not come to the end of $word\n";
    }
    return;
}

sub _all_live {
    my ($self) = @_;
    for my $pid (@{ $self->{pids} }) {
        reap($pid, 0);
        die "a process of the run has died: see daemon.log\n" if !is_own($pid);
    }
    return;
}

sub wait_for_asks {
    my ($self, $count) = @_;
    my $wanted = $self->_answered() + $count;
    wait_until(sub { $self->_all_live(); $self->_answered() >= $wanted }, 120) or die "there are no answers any more\n";
    return;
}

# Kilobytes would do: lines of users' files are counted as they are added.
sub _answered {
    my ($self) = @_;
    for my $name (@{ $self->{crowds} }) {
        open(my $fh, '<:raw', "$self->{directory}/$name.history") or die "$name: $!\n";
        seek $fh, $self->{counted}{$name} // 0, 0;
        while (<$fh>) { $self->{answered}++ if m/\n\z/x }
        $self->{counted}{$name} = tell $fh;
        close $fh;
    }
    return $self->{answered};
}

# --- rounds ---

# Every plan has its turn before the time counts.
sub goes_on {
    my ($self) = @_;
    return 1 if time() - $self->{begun} < $self->{seconds};
    return $self->{number} < ($self->{plans} && @{ $self->{plans} } ? @{ $self->{plans} } : Chaos::Plans::names()) ? 1 : 0;
}

# What is wrong in it.
sub round {
    my ($self) = @_;

    my $site = $self->{site};
    $self->{deck} = [ @{ $self->{plans} } ? @{ $self->{plans} } : Chaos::Plans::deck() ] if !@{ $self->{deck} };
    $self->{plan} = shift @{ $self->{deck} };
    $self->{number}++;
    my $from = time();
    $self->_phase('run');
    Chaos::Plans::play($self->{plan}, $self->{faults}, sub { $self->wait_for_asks(@_) });
    $self->_until_done('drain');
    $site->step(2, $site->nodes());    # past revalidate
    $self->_until_done('look');
    $site->note(round => number => $self->{number}, plan => $self->{plan}, from => $from, to => time());
    my @findings = $self->_judge();
    # Time passes, while nobody asks: tokens become due, sleepers idle, and old sessions too old.
    $site->step(65 + int rand 30, $site->nodes());
    $site->{app}->clear();
    return @findings;
}

sub _judge {
    my ($self) = @_;

    my @news = $self->{reader}->news();
    for my $ask (grep { $_->{kind} eq 'ask' } @news) {
        $self->{slow}{slow_clients}++ if $ask->{pace};
        $self->{slow}{slow_application}++ if $ask->{late};
        $self->{slow}{ $ask->{who} }++ if $ask->{who} ne 'owner';
    }
    $self->{checker}->add(@news);
    return $self->{checker}->judge();
}

# Nothing but findings may keep it from its end.
sub end {
    my ($self) = @_;
    $self->_phase('end');
    reap($_, 20) for @{ $self->{pids} }[ 1 .. $#{ $self->{pids} } ];
    if ($self->{keep}) {
        mkdir $self->{keep};
        copy($_, $self->{keep}) for glob "$self->{directory}/*.history";
    }
    return;
}

# --- what is told of it ---

sub classes { return @Chaos::Checker::CLASSES }
sub count { my ($self, $what) = @_; return $self->{checker}{count}{$what} }

sub opening {
    my ($self) = @_;
    return "seed $self->{seed}, $self->{seconds} seconds, $self->{load} requests a second; history in $self->{directory}";
}

sub name {
    my ($self) = @_;
    return sprintf '%5.0f s, round %d: %s, %d requests', time() - $self->{begun}, $self->{number}, $self->{plan}, $self->count('requests');
}

sub explain {
    my ($self, @findings) = @_;
    my $more = @findings - $MOST_SHOWN;
    return "seed $self->{seed}\n", map({ $self->{checker}->describe($_) } grep { $_ } @findings[ 0 .. ($more > 0 ? $MOST_SHOWN : @findings) - 1 ]),
        $more > 0 ? "and $more more\n" : '';
}

my @OF_USERS = qw(slow_clients slow_application thief forger);

# With chosen plans not everything has to happen.
sub was_to_happen {
    my ($self) = @_;
    return @{ $self->{plans} } ? () : (@Chaos::Faults::KINDS, @OF_USERS);
}

sub happened {
    my ($self, $what) = @_;
    return $self->{faults}->count()->{$what} // $self->{slow}{$what} // 0;
}

sub closing {
    my ($self) = @_;
    my $checker = $self->{checker};
    my @lines = (
        join(', ', map { "$_ $checker->{count}{$_}" } sort keys %{ $checker->{count} }),
        'faults: ' . join(', ', map { "$_ " . $self->happened($_) } @Chaos::Faults::KINDS, @OF_USERS),
        'answers: ' . join(', ', map { "$_: $checker->{outcome}{$_}" } sort keys %{ $checker->{outcome} }),
        map({ "apart, $_: $checker->{apart}{$_}" } sort keys %{ $checker->{apart} }),
    );
    return join "\n", "seed $self->{seed}, $self->{number} rounds", @lines;
}

# Users are in other processes, so the logs are searched for what looks like a token.
sub leaks {
    my ($self) = @_;
    my @leaks;
    for my $directory (map { $self->{site}->node($_)->testdir() } $self->{site}->nodes()) {
        for my $log (glob "$directory/*.log") {
            next if $log =~ m/recorder-/x;
            open(my $fh, '<:raw', $log) or next;
            while (my $line = <$fh>) { push @leaks, "$log: $." if $line =~ m/(?<![\w-])[\w-]{64}(?![\w-])/x }
            close $fh;
        }
    }
    return @leaks;
}

1;
