package Chaos::Sessions;

# What must have become of each session, as far as the answers to its users tell:
# when it was opened, replaced, ended, by which requests, and with which roles and
# theme.  A request that was not answered may have done what it asked for; one
# that was answered has, unless the documentation says that it may be lost.
#
# A session here is a handle; the ones it was regenerated into are its children,
# all of them together a family.

use strict;
use warnings;

use List::Util qw(max min);

use Chaos::Limits qw(%LIMIT);
use Chaos::Timeline;

sub new {
    my ($class, $timeline) = @_;
    return bless { timeline => $timeline, session => {}, public => {} }, $class;
}

sub find {
    my ($self, $name) = @_;
    return $self->{session}{ $name // '' };
}

# "p:7.2": session p:7, place 2 in the row of its tokens.
sub parts {
    my ($token) = @_;
    return ($token // '') =~ m/\A(.+)[.](\w+)\z/x;
}

# In the order in which the requests were sent.
sub add {
    my ($self, $ask) = @_;

    my ($name, $place) = parts($ask->{token});
    my $session = $self->{session}{ $name // '' };
    $ask->{place} = $place;
    $ask->{session} = $session;
    if ($session) {
        push @{ $session->{family}{asks} }, $ask;
        push @{ $session->{asks} }, $ask if $place ne 'forged';
    }
    my ($new) = $ask->{set} && $ask->{set} ne 'expired' ? parts($ask->{set}) : ();
    $self->_begin($ask, $new, $session) if defined $new && !$self->{session}{$new};
    $self->_note_change($ask, $session) if $session && $ask->{who} ne 'forger';
    return;
}

sub change {
    my ($self, $ask, $answered) = @_;
    my $change = { node => $ask->{node}, sent => $ask->{sent}, answered => $ask->{answered}, ask => $ask };
    $change->{late} = 1 if Chaos::Timeline::is_late($change);
    $change->{certain} = $answered && !$self->{timeline}->may_be_lost($change) ? 1 : 0;
    return $change;
}

sub _begin {
    my ($self, $ask, $new, $parent) = @_;

    my $is_login = $ask->{do} eq 'login';
    my $family = $is_login || !$parent ? { user => $ask->{user}, asks => [], ends => [], sessions => [], from => $ask->{sent} } : $parent->{family};
    my $session = { name => $new, family => $family, born => $self->change($ask, $ask->{status} == 200), asks => [],
        ends => [], replaced => [], set => {}, parent => $is_login ? undef : $parent };
    $session->{in} = $is_login ? $ask : $family->{sessions}[0]{in};
    push @{ $family->{sessions} }, $session;
    $self->{session}{$new} = $session;
    $ask->{opened} = $session;
    return;
}

# What this request did, or may have done, to the session that it came with.
sub _note_change {
    my ($self, $ask, $session) = @_;

    my ($do, $status) = @{$ask}{qw(do status)};
    return if $status == 401 || $status == 403;
    if ($do eq 'logout' || $do eq 'destroy') {
        my $done = $do eq 'logout' ? $status == 204 : $status == 200 && ($ask->{set} // '') eq 'expired';
        push @{ $session->{ends} }, $self->change($ask, $done);
    }
    elsif ($do eq 'login') {
        push @{ $session->{ends} }, { %{ $self->change($ask, $ask->{opened}) }, replaced => 1 };
    }
    elsif ($do =~ m/\A(?:roles|renew|reauth)\z/x) {
        # Answered well, and without a new token: applied in place to what the session had become, or not at all.
        my $regenerated = $ask->{opened} || $status != 200;
        push @{ $session->{replaced} }, { %{ $self->change($ask, $ask->{opened}) }, child => $ask->{opened} } if $regenerated;
    }
    push @{ $session->{family}{changed} }, $ask if $do =~ m/\A(?:roles|theme)\z/x;
    push @{ $session->{family}{ends} }, $session->{ends}[-1] if $do =~ m/\Alog|destroy/x;
    return;
}

# Families of which nobody has shown a token for so long are not remembered.
sub forget {
    my ($self, $before) = @_;
    for my $name (keys %{ $self->{session} }) {
        my $family = $self->{session}{$name}{family};
        my $last = $family->{asks}[-1] // $family->{sessions}[0]{in};
        delete $self->{session}{$name} if $last->{sent} < $before;
    }
    return;
}

# --- what is true of a session when a request is sent, or may be until it is answered ---

# The changes that the node must know, and those that it may.
sub known {
    my ($self, $changes, $ask) = @_;
    return grep { $_->{certain} && $_->{ask} != $ask && $self->{timeline}->must_know($ask->{node}, $_, $ask->{sent}) } @{$changes};
}

sub possible {
    my ($changes, $ask) = @_;
    return grep { $_->{sent} <= $ask->{answered} && $_->{ask} != $ask } @{$changes};
}

# Seconds between a change and a request, by the nodes' own clocks: at least, at most.
sub least_age {
    my ($self, $change, $ask) = @_;
    return $self->{timeline}->clock_least($ask->{node}, $ask->{sent}) - $self->{timeline}->clock_most(@{$change}{qw(node sent answered)});
}

sub most_age {
    my ($self, $change, $ask) = @_;
    return $self->{timeline}->clock_most(@{$ask}{qw(node sent answered)}) - $self->{timeline}->clock_least(@{$change}{qw(node sent answered)});
}

# --- roles and theme: a list of what each may be ---

# As the session was opened.
sub _at_birth {
    my ($self, $session, $what) = @_;

    return @{ $session->{"first_$what"} } if $session->{"first_$what"};
    my $ask = $session->{born}{ask};
    my @may = $ask->{do} eq 'login' || $ask->{do} eq $what ? ($ask->{$what} // '')
        : map { $_->[0] } $self->may_be($session->{parent}, $what, $ask);
    $session->{"first_$what"} = \@may;
    return @may;
}

# All that this session's roles (or theme) may be for a request: [ value, since ];
# the last one first.  Nothing is left out that a node may still not know to be over.
sub may_be {
    my ($self, $session, $what, $ask) = @_;

    my @may;
    my $over;    # since a change that the node must know, only what ran beside it counts
    for my $change (reverse @{ $self->_changes_of($session, $what) }) {
        next if $change->{sent} > $ask->{answered} || $change->{ask} == $ask;
        return @may if $over && $change->{answered} <= $over;
        push @may, [ $change->{value}, $change ];
        $over //= $change->{sent} if $change->{certain} && !$change->{loose}
            && $self->{timeline}->must_know($ask->{node}, $change, $ask->{sent});
    }
    return @may if $over && $session->{born}{answered} <= $over;
    return (@may, map { [ $_, $session->{born} ] } $self->_at_birth($session, $what));
}

# Made at another session of the family, or while nobody could agree on what came
# later, a change may or may not be found in this one.
sub _changes_of {
    my ($self, $session, $what) = @_;

    my @asks = grep { $_->{do} eq $what && !$_->{opened} } @{ $session->{family}{changed} || [] };
    return $session->{"changes_$what"}[1] if ($session->{"changes_$what"}[0] // -1) == @asks;
    my @changes;
    for my $ask (@asks) {
        my $change = { %{ $self->change($ask, $ask->{status} == 200) }, value => $ask->{$what} };
        $change->{loose} = 1 if $ask->{session} != $session || $what eq 'roles' || @{ $session->{replaced} } && $session->{replaced}[0]{sent} <= $ask->{answered};
        push @changes, $change;
    }
    $self->_loosen(@changes);
    $session->{"changes_$what"} = [ scalar @asks, \@changes ];
    return \@changes;
}

# Over a partition the later of two counts as a whole; of several that nodes make
# of one session at once, one may be made on top of what it did not mean.
sub _loosen {
    my ($self, @changes) = @_;
    for my $change (@changes) {
        my @windows = $self->{timeline}->maybe_silent(@{$change}{qw(node sent answered)});
        my ($from, $to) = (min($change->{sent}, map { $_->[0] } @windows), max($change->{answered}, map { $_->[1] } @windows));
        my @beside = grep { $_ != $change && $_->{sent} <= $to && $_->{answered} >= $from } @changes;
        $_->{loose} = 1 for @beside ? ($change, @beside) : ();
    }
    return;
}

# --- the row of a session's tokens ---

# When a token of this place was first shown, as early as it may have been by any clock.
sub first_shown {
    my ($self, $session, $place) = @_;
    my $shown = $session->{shown} //= { upto => 0, at => {} };
    for my $ask (@{ $session->{asks} }[ $shown->{upto} .. $#{ $session->{asks} } ]) {
        my $at = $self->{timeline}->clock_least(@{$ask}{qw(node sent answered)});
        my $first = $shown->{at}{ $ask->{place} };
        $shown->{at}{ $ask->{place} } = [ min($at, $first ? $first->[0] : $at), min($ask->{sent}, $first ? $first->[1] : $ask->{sent}) ];
    }
    $shown->{upto} = @{ $session->{asks} };
    return $shown->{at}{$place};
}

# Whether this request came with a token that may have been rotated away for
# longer than the grace: then it may end the session.
sub may_be_copy {
    my ($self, $ask) = @_;

    return 0 if ($ask->{place} // 'forged') eq 'forged';
    my $after_next = $self->first_shown($ask->{session}, $ask->{place} + 2);
    return 1 if $after_next && $after_next->[1] <= $ask->{answered};
    my $next = $self->first_shown($ask->{session}, $ask->{place} + 1);
    return 0 if !$next || $next->[1] > $ask->{answered};
    return $self->{timeline}->clock_most(@{$ask}{qw(node sent answered)}) - $next->[0] >= $LIMIT{rotation_grace} - $LIMIT{precision};
}

# Whether a copied cookie may have ended the session before this request was answered.
sub may_have_been_copied {
    my ($self, $session, $ask) = @_;
    for my $other (@{ $session->{asks} }) {
        last if $other->{sent} > $ask->{answered};
        return $other if $other->{copy} //= $self->may_be_copy($other) || undef;
    }
    return;
}

1;
