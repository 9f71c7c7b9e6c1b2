package Chaos::Crowd;

# A process full of users of one group of nodes.  It follows the phases that the
# run writes into a file: "run n" (everybody does as he likes), "drain n" (what
# is under way ends), "look n" (every session is shown once to every node, and
# every cookie of a session that is over), "end n"; and says when a phase is done.

use strict;
use warnings;

use List::Util qw(shuffle);
use Time::HiRes qw(time);

use Chaos::Browser;
use Chaos::History;
use Chaos::Wire;

my @ROLES = map { "r$_" } 0 .. 5;
my $MOST_UNDER_WAY = 40;
my $COPIES_KEPT = 60;

# What a user with a session does, and how often out of a thousand times.
my @HABITS = (
    [ page => 560 ], [ burst => 130 ], [ open => 40 ], [ closed => 30 ], [ quiet => 40 ], [ slow => 40 ], [ late => 40 ],
    [ theme => 40 ], [ roles => 30 ], [ renew => 20 ], [ reauth => 10 ], [ login => 5 ], [ logout => 20 ], [ destroy => 5 ],
);

# Options: name, ports (by node), users (how many), pace (requests a second), directory, seed.
sub new {
    my ($class, %option) = @_;

    srand $option{seed};
    my $self = bless { %option, wire => Chaos::Wire->new(), asks => 0, handles => 0, over => [], stolen => [],
        history => Chaos::History->writer("$option{directory}/$option{name}.history"), nodes => [ sort keys %{ $option{ports} } ] }, $class;
    for my $number (1 .. $option{users}) {
        my $kind = $number % 6 == 0 ? 'sleeper' : $number % 6 == 1 ? 'stayer' : 'normal';
        push @{ $self->{browsers} }, { kind => $kind, web => Chaos::Browser->new($self, "$option{name}-$number"), at => 0, since => 0 };
    }
    return $self;
}

sub serve {
    my ($self) = @_;

    local $SIG{PIPE} = 'IGNORE';
    my ($done, $read_at) = ('', 0);
    while (1) {
        if (time() >= $read_at) {
            $read_at = time() + 0.05;
            my $phase = $self->_phase();
            $self->{round} = $1 if $phase =~ m/[ ](\d+)\z/x;
            return if $phase =~ m/\Aend/x;
            $self->_begin_look() if $phase =~ m/\Alook/x && ($self->{phase} // '') ne $phase;
            $self->{phase} = $phase;
        }
        $self->_live() if $self->{phase} =~ m/\Arun/x;
        $self->_look_on() if $self->{phase} =~ m/\Alook/x;
        $self->{wire}->turn(0.02);
        if ($done ne $self->{phase} && !$self->{wire}->count() && !@{ $self->{to_look} || [] } && $self->{phase} !~ m/\Arun/x) {
            $done = $self->{phase};
            $self->_say_done($done);
        }
    }
    return;
}

sub _phase {
    my ($self) = @_;
    open(my $fh, '<', "$self->{directory}/phase") or return 'drain 0';
    return scalar(<$fh>) // 'drain 0';
}

sub _say_done {
    my ($self, $phase) = @_;
    (my $name = "$self->{name}.$phase") =~ tr/ /-/;
    open(my $fh, '>', "$self->{directory}/$name") or die "$name: $!\n";
    close $fh or die "$name: $!\n";
    return;
}

# --- everybody does as he likes ---

sub _node { my ($self) = @_; return $self->{nodes}[ rand @{ $self->{nodes} } ] }

sub _some_roles { return join ' ', grep { rand() < 0.5 } @ROLES }

sub _live {
    my ($self) = @_;

    my $now = time();
    my $pause = @{ $self->{browsers} } / $self->{pace};
    for my $user (shuffle @{ $self->{browsers} }) {
        next if $user->{at} > $now || $self->{wire}->count() >= $MOST_UNDER_WAY;
        $user->{at} = $now + $pause * (0.3 + rand 1.4);
        my $pick = rand();
        if    ($pick < 0.10) { $self->_replay() }
        elsif ($pick < 0.14) { $self->_steal($user) }
        elsif ($pick < 0.17) { $self->_forge($user) }
        else                 { $self->_act($user) }
    }
    return;
}

sub _act {
    my ($self, $user) = @_;

    my $web = $user->{web};
    return if $web->under_way() > 3;
    return $web->under_way() || $self->_log_in($user) if !defined $web->token();
    # Its session is only ever polled, so it must become idle.
    return $self->_use($user, 'quiet') if $user->{kind} eq 'sleeper';
    my $habit = _one_of(@HABITS);
    $habit = 'page' if $user->{kind} eq 'stayer' && $habit =~ m/\Alog|destroy/x;
    if ($habit eq 'burst') {
        $self->_use($user, 'page', page => int rand 2) for 1 .. 3;
    }
    elsif ($habit eq 'slow') { $self->_use($user, 'page', pace => 0.05 + rand 0.5) }
    elsif ($habit eq 'late') { $self->_use($user, _one_of([ page => 3 ], [ renew => 1 ], [ theme => 1 ], [ roles => 1 ], [ login => 0.3 ]), late => 0.1 + rand 1.5) }
    else                     { $self->_use($user, $habit, page => int rand 2) }
    return;
}

sub _one_of {
    my (@weighted) = @_;
    my $sum = 0;
    $sum += $_->[1] for @weighted;
    my $at = rand $sum;
    for my $pair (@weighted) {
        return $pair->[0] if ($at -= $pair->[1]) < 0;
    }
    return $weighted[-1][0];
}

sub _log_in {
    my ($self, $user) = @_;
    $user->{since} = $self->{round};
    return $self->_use($user, 'login');
}

sub _use {
    my ($self, $user, $do, %option) = @_;

    my $web = $user->{web};
    my $held = $web->token();
    $option{roles} = _some_roles() if $do =~ m/\A(?:login|roles)\z/x;
    $option{theme} = 't' . int rand 1_000_000 if $do =~ m/\A(?:login|theme)\z/x;
    $option{spoofed} = 1 if rand() < 0.1;
    $web->ask($do, $option{node} // $self->_node(), %option, then => sub {
        my ($line) = @_;
        # The cookie that is over, or was replaced, is kept for a thief.
        $self->_keep($user, $held) if defined $held && $held ne ($web->token() // '');
        $option{then}->($line) if $option{then};
    });
    return;
}

sub _keep {
    my ($self, $user, $token) = @_;
    push @{ $self->{over} }, { web => $user->{web}, token => $token, round => $self->{round} };
    shift @{ $self->{over} } while @{ $self->{over} } > $COPIES_KEPT;
    return;
}

# --- thieves ---

# Cookies of sessions that are over, and old ones of those that are not.
sub _replay {
    my ($self) = @_;

    my @copies = (@{ $self->{over} }, @{ $self->{stolen} }) or return;
    my $copy = $copies[ rand @copies ];
    $copy->{web}->ask(_one_of([ page => 6 ], [ open => 1 ], [ closed => 1 ], [ renew => 0.1 ]), $self->_node(),
        who => 'thief', token => $copy->{token}, page => int rand 2, then => sub {
            my ($line) = @_;
            # Some thieves follow the rotation, so that it is the owner whose cookie gets old.
            $copy->{token} = $self->{token_of}{ $line->{set} } // $copy->{token} if $line->{set} && $copy->{follows};
        });
    return;
}

sub _steal {
    my ($self, $user) = @_;
    my $token = $user->{web}->token() // return;
    return if $user->{kind} ne 'normal';
    push @{ $self->{stolen} }, { web => $user->{web}, token => $token, round => $self->{round}, follows => int rand 2 };
    shift @{ $self->{stolen} } while @{ $self->{stolen} } > 6;
    return;
}

sub _forge {
    my ($self, $user) = @_;
    my $token = $user->{web}->token() // return;
    $user->{web}->ask('page', $self->_node(), $user->{web}->forged($token));
    return;
}

# --- a look at everything ---

sub _begin_look {
    my ($self) = @_;

    my @looks;
    for my $user (grep { defined $_->{web}->token() } @{ $self->{browsers} }) {
        my $do = $user->{kind} eq 'sleeper' ? 'quiet' : 'page';
        push @looks, map { my $node = $_; sub { $self->_use($user, $do, node => $node) if defined $user->{web}->token() } } @{ $self->{nodes} };
    }
    for my $copy (shuffle @{ $self->{over} }) {
        next if $copy->{round} < $self->{round} - 1;
        push @looks, map { my $node = $_; sub { $copy->{web}->ask('page', $node, who => 'thief', token => $copy->{token}) } } @{ $self->{nodes} };
    }
    $self->{to_look} = \@looks;
    return;
}

sub _look_on {
    my ($self) = @_;
    while (@{ $self->{to_look} } && $self->{wire}->count() < 12) {
        shift(@{ $self->{to_look} })->();
    }
    return;
}

1;
