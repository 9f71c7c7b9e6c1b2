package Chaos::Timeline;

# What happened to the nodes and stores of a run, as questions that a judge asks.
# Every event has a time before which it had not begun and one after which it was
# over, so there are two kinds of answers: what may have been, and what was for
# sure.  Knows nothing of sessions.

use strict;
use warnings;

use List::Util qw(any max min);

use Chaos::Limits qw(%LIMIT);

# What a machine that answers nothing for a moment makes of a store that is well:
# breakers open, and close again after a few seconds.
my $AFTER_SLOWNESS = 5;

# How long a change needs at most, where nothing fails, to be heard and asked about elsewhere.
my $TO_BE_HEARD = 5;

my $NEVER = 9e15;

sub new {
    my ($class) = @_;
    return bless { clock => {}, fault => {}, death => {}, slow => {} }, $class;
}

sub add {
    my ($self, $event) = @_;

    my $kind = $event->{kind};
    if    ($kind eq 'clock') { push @{ $self->{clock}{ $event->{node} } }, $event }
    elsif ($kind eq 'death') { push @{ $self->{death}{ $event->{node} } }, $event }
    elsif ($kind eq 'fault') { $self->{fault}{ $event->{number} } = $event }
    elsif ($kind eq 'slow')  { push @{ $self->{slow}{ $event->{target} } }, [ $event->{from}, $event->{to} + $AFTER_SLOWNESS ] }
    delete $self->{derived};
    return;
}

# What was over long ago.  Clocks are remembered: they are looked up quickly, and
# are right from the first step on only.
sub forget {
    my ($self, $before) = @_;

    delete @{ $self->{fault} }{ grep { ($self->{fault}{$_}{to} // $NEVER) < $before } keys %{ $self->{fault} } };
    @{$_} = grep { $_->{to} >= $before } @{$_} for values %{ $self->{death} };
    @{$_} = grep { $_->[1] >= $before } @{$_} for values %{ $self->{slow} };
    delete $self->{derived};
    return;
}

# All that overlaps two times, to be shown.
sub events {
    my ($self, $from, $to) = @_;
    return grep { $_->{from} <= $to && ($_->{to} // $NEVER) >= $from }
        values %{ $self->{fault} }, map { @{$_} } values %{ $self->{clock} }, values %{ $self->{death} };
}

sub group { my ($node) = @_; return $node eq 'd' ? 'file' : 'net' }

# --- clocks ---

# The least and the most that the node's clock was ahead between two times.
sub _ahead {
    my ($self, $node, $from, $to) = @_;

    my $steps = $self->{clock}{$node} or return (0, 0);
    my ($low, $high) = (0, scalar @{$steps});
    while ($low < $high) {    # the first step that is not over at $from
        my $middle = int(($low + $high) / 2);
        if ($steps->[$middle]{to} <= $from) { $low = $middle + 1 }
        else                                { $high = $middle }
    }
    my @may = $low ? $steps->[ $low - 1 ]{offset} : 0;
    for (; $low < @{$steps} && $steps->[$low]{from} <= $to; $low++) { push @may, $steps->[$low]{offset} }
    return (min(@may), max(@may));
}

# What the node's clock showed at least, and at most, between two times.
sub clock_least { my ($self, $node, $from, $to) = @_; return $from + ($self->_ahead($node, $from, $to // $from))[0] }
sub clock_most  { my ($self, $node, $from, $to) = @_; return $to + ($self->_ahead($node, $from, $to))[1] }

# Whether a change may lie ahead of a request, by the clocks of their nodes.
sub may_lie_ahead {
    my ($self, $change, $ask) = @_;
    my $least = max(0, $ask->{sent} - $change->{answered});
    my ($low) = $self->_ahead(@{$ask}{qw(node sent answered)});
    my (undef, $high) = $self->_ahead(@{$change}{qw(node sent answered)});
    return $low - $high + $least < 0;
}

# --- processes ---

my %LOSES_ZONE = map { $_ => 1 } qw(node_killed node_restarted);
my %CUTS = (%LOSES_ZONE, worker_killed => 1);

# Whether processes of the node may have gone between two times; of which kinds.
sub died {
    my ($self, $node, $from, $to, $kinds) = @_;
    return any { $_->{from} <= $to && $_->{to} >= $from && (!$kinds || $kinds->{ $_->{what} }) } @{ $self->{death}{$node} || [] };
}

sub zone_lost { my ($self, @when) = @_; return $self->died(@when, \%LOSES_ZONE) }
sub was_cut   { my ($self, @when) = @_; return $self->died(@when, \%CUTS) }

# --- stores ---

# The intervals in which a node's store may have been silent, and those in which it was.
sub _silence {
    my ($self, $node) = @_;
    return $self->{derived}{$node} //= { may => [ sort { $a->[0] <=> $b->[0] } $self->_may_be_silent($node) ], sure => [ $self->_surely_silent($node) ],
        trouble => [ $self->_in_trouble($node) ] };
}

sub _own { my ($self, $node) = @_; return grep { $_->{target} eq $node } values %{ $self->{fault} } }

sub _of_servers {
    my ($self) = @_;
    my %by;
    push @{ $by{ $_->{target} } }, $_ for grep { $_->{target} =~ m/\Am\d\z/x } values %{ $self->{fault} };
    return \%by;
}

sub _window { my ($fault) = @_; return [ $fault->{from}, $fault->{to} // $NEVER ] }
sub _stands { my ($fault) = @_; return [ $fault->{from2} // $NEVER, $fault->{till} // $NEVER ] }

sub _common {
    my ($these, $those) = @_;
    my @common;
    for my $x (@{$these}) {
        push @common, grep { $_->[0] < $_->[1] } map { [ max($x->[0], $_->[0]), min($x->[1], $_->[1]) ] } @{$those};
    }
    return \@common;
}

# Two servers of three: both replicas of some sessions.
sub _may_be_silent {
    my ($self, $node) = @_;

    my @may = (map({ _window($_) } $self->_own($node)), @{ $self->{slow}{machine} || [] });
    return @may if group($node) eq 'file';
    my $by = $self->_of_servers();
    my @lists = map { [ @{ $self->{slow}{$_} || [] }, map { _window($_) } @{ $by->{$_} || [] } ] } map { "m$_" } 0 .. 2;
    for my $i (0 .. $#lists) {
        push @may, @{ _common($lists[$i], $lists[$_]) } for $i + 1 .. $#lists;
    }
    return @may;
}

sub _surely_silent {
    my ($self, $node) = @_;

    my @sure = map { _stands($_) } grep { $_->{name} eq 'cut_off' } $self->_own($node);
    return @sure if group($node) eq 'file';
    my $by = $self->_of_servers();
    my ($first, @rest) = map { [ map { _stands($_) } @{ $by->{"m$_"} || [] } ] } 0 .. 2;
    $first = _common($first, $_) for @rest;
    return (@sure, @{$first});
}

sub _in_trouble {
    my ($self, $node) = @_;
    my $by = group($node) eq 'net' ? $self->_of_servers() : {};
    return (map({ _window($_) } $self->_own($node), map { @{$_} } values %{$by}), map { @{$_} } values %{ $self->{slow} });
}

sub _meeting {
    my ($list, $from, $to) = @_;
    return grep { $_->[0] <= $to && $_->[1] >= $from } @{$list};
}

# The node's store may have been silent at some time between these two: the
# windows, each [from, to].
sub maybe_silent { my ($self, $node, $from, $to) = @_; return _meeting($self->_silence($node)->{may}, $from, $to) }

# The same of a store of which a part was in trouble.
sub in_trouble { my ($self, $node, $from, $to) = @_; return _meeting($self->_silence($node)->{trouble}, $from, $to) }

# Since when the store was silent for sure, all the time until these two times; undef if it was not.
sub silent_since {
    my ($self, $node, $from, $to) = @_;
    my @whole = grep { $_->[0] <= $from && $_->[1] >= $to } @{ $self->_silence($node)->{sure} };
    return min(map { $_->[0] } @whole);
}

# Windows in which servers that had been emptied may have held nothing, two or more at a time.
sub wiped {
    my ($self, $from, $to) = @_;
    my $by = $self->_of_servers();
    my @lists = map { [ map { _window($_) } grep { $_->{name} eq 'server_emptied' } @{ $by->{$_} } ] } sort keys %{$by};
    my @both;
    for my $i (0 .. $#lists) {
        push @both, @{ _common($lists[$i], $lists[$_]) } for $i + 1 .. $#lists;
    }
    return _meeting(\@both, $from, $to);
}

# --- who knows of what ---

# Whether a change, answered at one node, must be known to another (or the same)
# when a request is sent there.  A change: { node, sent, answered }.
sub must_know {
    my ($self, $node, $change, $sent) = @_;

    return 0 if $sent < $change->{answered};
    return 1 if $node eq $change->{node} && !$self->zone_lost($node, $change->{sent}, $sent);
    return 0 if group($node) ne group($change->{node}) || $change->{late};
    my $since = $change->{answered};
    for my $window (map { $self->maybe_silent($_, $change->{sent}, $sent) } $node, $change->{node}) {
        return 0 if $window->[1] >= $sent;
        $since = max($since, $window->[1]);
    }
    # The first request after it may still be one that nginx's clock, which it reads once a round, calls early.
    return $self->clock_least($node, $sent) - $self->clock_most($node, $since, $since) > $LIMIT{revalidate} + 0.2;
}

# Who was answered late may have been told without the store.
sub is_late {
    my ($change) = @_;
    my $took = $change->{answered} - $change->{sent} - ($change->{ask}{late} // 0) - 3 * ($change->{ask}{pace} // 0);
    return $took > $LIMIT{in_time}{ group($change->{node}) };
}

# Whether what was answered may be lost all the same: it was made while the store
# was in trouble, or a moment before all was lost, or answered late, and processes of its
# node went before that was over.
sub may_be_lost {
    my ($self, $change) = @_;

    my ($node, $from) = @{$change}{qw(node sent)};
    for my $window ($self->in_trouble($node, $from, $change->{answered})) {
        return 1 if $self->died($node, $from, $window->[1]);
    }
    # Told to nodes that had no time to ask, and then no server has it.
    for my $window ($self->wiped($from, $change->{answered} + $TO_BE_HEARD)) {
        return 1 if $self->died($node, $from, $window->[1]);
    }
    return is_late($change) && $self->died($node, $from, $NEVER) ? 1 : 0;
}

1;
