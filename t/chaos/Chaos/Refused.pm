package Chaos::Refused;

# The rules for requests that were not let in: each refusal needs a cause, and an
# outage is none for more than 503.  As in Chaos::Admitted, a rule says what is
# wrong, or nothing.  What may be lost by the documentation's own words is named
# with "apart:" in front.

use strict;
use warnings;

use List::Util qw(any max);

use Chaos::Limits qw(%LIMIT);

my %CAUSE = (
    ended            => \&_has_ended,
    regenerated      => \&_was_replaced,
    expired_idle     => \&_is_idle,
    expired_absolute => \&_is_too_old,
    absent           => \&_is_gone,
    anonymous        => \&_is_anonymous,
);

sub rules {
    return (
        [ wrong_refusal => unanswered      => \&_unanswered ],
        [ wrong_refusal => server_error    => \&_server_error ],
        [ wrong_refusal => unavailable     => \&_unavailable ],
        [ wrong_refusal => known_session   => \&_known_session ],
        [ wrong_refusal => known_end       => \&_known_end ],
        [ wrong_refusal => refused         => \&_refused ],
        [ lost          => lost_session    => \&_lost_session ],
        [ wrong_refusal => logout_refused  => \&_logout_refused ],
        [ wrong_admission => reached       => \&_reached ],
    );
}

# Only who was on a process that died may be left without an answer; and who takes
# long, when his session ends meanwhile.
my $LONG = 0.4;

sub _unanswered {
    my ($sessions, $timeline, $ask) = @_;
    return if $ask->{status} && !$ask->{cut};
    return if $timeline->was_cut($ask->{node}, $ask->{sent} - 0.05, $ask->{answered} + 0.05);
    return if $ask->{session} && $ask->{answered} - $ask->{sent} > $LONG && (_is_anonymous($sessions, $timeline, $ask)
        || Chaos::Sessions::possible($ask->{session}{replaced}, $ask));
    return $ask->{cut} && $ask->{status} ? 'half an answer' : 'no answer';
}

sub _server_error {
    my ($sessions, $timeline, $ask) = @_;
    my $status = $ask->{status};
    return if !$status || $status == 200 || $status == 204 || $status == 401 || $status == 503;
    return "status $status";
}

# 503 is for when the store may have been silent; a login never needs it.
sub _unavailable {
    my ($sessions, $timeline, $ask) = @_;
    return if $ask->{status} != 503;
    return 'a login needs no store' if $ask->{do} eq 'login';
    return 'a request without a session needs no store' if !$ask->{session};
    return if $timeline->maybe_silent($ask->{node}, $ask->{sent}, $ask->{answered});
    return 'the store was well';
}

# A session that this node let in while all was well goes on for the grace: if
# nothing has happened to it since, and its token is the newest.
sub _known_session {
    my ($sessions, $timeline, $ask) = @_;

    my $session = $ask->{session};
    return if $ask->{status} != 503 || !$session || $ask->{who} eq 'forger' || $ask->{do} !~ m/\A(?:page|quiet)\z/x;
    for my $other (reverse @{ $session->{asks} }) {
        next if $other->{answered} > $ask->{sent};
        return if $other->{place} ne $ask->{place} || $other->{do} !~ m/\A(?:page|quiet)\z/x || $other->{set};
        next if $other->{node} ne $ask->{node};
        return if !$other->{admitted} || $timeline->maybe_silent($ask->{node}, $other->{sent}, $other->{answered});
        return if $timeline->died($ask->{node}, $other->{sent}, $ask->{answered});
        return if any { $_->{sent} <= $ask->{answered} && $_->{answered} >= $other->{sent} && ($_->{place} ne $ask->{place} || $_->{do} !~ m/page|quiet|open|closed/x) }
            @{ $session->{family}{asks} };
        return if _is_idle($sessions, $timeline, $ask);
        my $change = { node => $other->{node}, sent => $other->{sent}, answered => $other->{answered} };
        return if $sessions->most_age($change, $ask) >= $LIMIT{grace} - $LIMIT{precision};
        return ('it was let in here a moment ago, and the grace is not over', $other);
    }
    return;
}

# An end counts at once on the node where it was made, store or not.  (Its note
# makes room for others one day: this is about the last half minute.)
sub _known_end {
    my ($sessions, $timeline, $ask) = @_;

    return if $ask->{status} != 503 || !$ask->{session} || $ask->{who} eq 'forger';
    my ($end) = grep { $_->{certain} && !$_->{replaced} && $_->{node} eq $ask->{node} && $_->{answered} < $ask->{sent}
        && $_->{sent} > $ask->{sent} - 30 && !$timeline->died($ask->{node}, $_->{sent}, $ask->{answered}) } @{ $ask->{session}{ends} };
    return $end ? ('it was ended here, which needs no store to be known', $end->{ask}) : ();
}

sub reason {
    my ($ask) = @_;
    return $ask->{reason} // 'none' if $ask->{status} == 401;
    return 'anonymous' if $ask->{do} eq 'open' && $ask->{status} == 200 && !$ask->{admitted};
    return;
}

sub _refused {
    my ($sessions, $timeline, $ask) = @_;

    my $reason = reason($ask) // return;
    return if $ask->{who} eq 'forger' || $reason eq 'absent' || !defined $ask->{token} && $reason =~ m/\A(?:none|anonymous)\z/x;
    return "a genuine token is called $reason" if !$CAUSE{$reason} || !$ask->{session};
    return if $CAUSE{$reason}->($sessions, $timeline, $ask);
    return 'apart: replaced a moment ago, and nobody can be asked about its successor' if $reason eq 'regenerated'
        && Chaos::Sessions::possible($ask->{session}{replaced}, $ask) && $timeline->maybe_silent($ask->{node}, $ask->{sent}, $ask->{answered});
    return "$reason, without a cause";
}

# Absent is what a session is that nobody has any more.
sub _lost_session {
    my ($sessions, $timeline, $ask) = @_;

    return if (reason($ask) // '') ne 'absent' || $ask->{who} eq 'forger' || !$ask->{session};
    return if _is_gone($sessions, $timeline, $ask);
    my $born = $ask->{session}{born};
    return ('apart: opened in an outage, and not written yet', $born->{ask})
        if $timeline->maybe_silent($born->{node}, $born->{sent}, $born->{answered});
    return ('apart: two servers were emptied, and no node had it for sure', $born->{ask}) if _was_wiped($timeline, $ask);
    return ('a session that nobody has any more', $born->{ask});
}

# When two servers are empty, what is left is what the nodes know.
sub _was_wiped {
    my ($timeline, $ask) = @_;

    my $session = $ask->{session};
    for my $window ($timeline->wiped($session->{born}{sent}, $ask->{answered})) {
        my ($from, $to) = @{$window};
        my @knew = grep { $_->{admitted} && $_->{answered} < $from } @{ $session->{asks} };
        return 1 if !any { !$timeline->zone_lost($_->{node}, $_->{sent}, $to) && !$timeline->maybe_silent($_->{node}, $_->{sent}, $_->{answered}) } @knew;
    }
    return 0;
}

# A logout is answered as one, whatever the session or the store was.
sub _logout_refused {
    my ($sessions, $timeline, $ask) = @_;
    return if $ask->{do} ne 'logout' || !$ask->{status} || $ask->{status} == 204;
    return "status $ask->{status}";
}

sub _reached {
    my ($sessions, $timeline, $ask) = @_;
    return if !@{ $ask->{apps} || [] } || $ask->{status} != 401;
    return 'refused, and the application was asked all the same';
}

# --- causes: what may have happened until the answer ---

sub _family_ends {
    my ($ask, $code) = @_;
    return any { $_->{sent} <= $ask->{answered} && $_->{ask} != $ask && $code->($_) } @{ $ask->{session}{family}{ends} };
}

sub _has_ended {
    my ($sessions, $timeline, $ask) = @_;
    return 1 if _family_ends($ask, sub { 1 });
    return any { $sessions->may_have_been_copied($_, $ask) } @{ $ask->{session}{family}{sessions} };
}

# At once by a login, or where its time lies ahead by the node's clock; else ten seconds after, or when its successor is no more.
sub _was_replaced {
    my ($sessions, $timeline, $ask) = @_;

    my $session = $ask->{session};
    return 1 if _family_ends($ask, sub { $_[0]{replaced} });
    my @replaced = Chaos::Sessions::possible($session->{replaced}, $ask) or return 0;
    return 1 if @{ $session->{family}{sessions} } > 4 || $sessions->may_be_copy($ask) || _has_ended($sessions, $timeline, $ask);
    return 1 if $sessions->first_shown($session, $ask->{place} + 1);
    return 1 if any { $timeline->may_lie_ahead($_, $ask) } @replaced;
    return any { $sessions->most_age($_, $ask) >= $LIMIT{replaced} - $LIMIT{precision} || _is_idle($sessions, $timeline, $ask) } @replaced;
}

# Since the last activity that this node must have heard of.
sub _is_idle {
    my ($sessions, $timeline, $ask) = @_;

    my $session = $ask->{session};
    my $last = $timeline->clock_least(@{ $session->{born} }{qw(node sent answered)}) - $LIMIT{precision};
    my $looked = 0;
    for my $other (reverse @{ $session->{asks} }) {
        next if $other->{answered} > $ask->{sent} || !$other->{admitted} || $other->{do} eq 'quiet' || Chaos::Sessions::possible($session->{replaced}, $other);
        my $here = $other->{node} eq $ask->{node} && !$timeline->zone_lost($ask->{node}, $other->{sent}, $ask->{answered});
        next if !$here && $timeline->maybe_silent($other->{node}, $other->{sent} - $LIMIT{precision}, $other->{answered} + 5);
        $last = max($last, $timeline->clock_least(@{$other}{qw(node sent answered)}) - ($here ? $LIMIT{precision} : $LIMIT{behind}));
        last if ++$looked > 60;
    }
    return $timeline->clock_most(@{$ask}{qw(node sent answered)}) - $last >= $LIMIT{idle};
}

sub _is_too_old {
    my ($sessions, $timeline, $ask) = @_;
    my $in = $ask->{session}{in};
    return $timeline->clock_most(@{$ask}{qw(node sent answered)}) - $timeline->clock_least(@{$in}{qw(node sent answered)}) >= $LIMIT{absolute} - $LIMIT{precision};
}

sub _is_gone {
    my ($sessions, $timeline, $ask) = @_;
    return 1 if !$ask->{session}{born}{certain} || @{ Chaos::Sessions::possible($ask->{session}{replaced}, $ask) ? [1] : [] };
    return _has_ended($sessions, $timeline, $ask) || _is_idle($sessions, $timeline, $ask) || _is_too_old($sessions, $timeline, $ask);
}

sub _is_anonymous {
    my ($sessions, $timeline, $ask) = @_;
    my $born = $ask->{session}{born};
    return 1 if $timeline->maybe_silent($ask->{node}, $ask->{sent}, $ask->{answered})
        || $timeline->maybe_silent($born->{node}, $born->{sent}, $born->{answered});
    return _is_gone($sessions, $timeline, $ask) || _was_replaced($sessions, $timeline, $ask) || _was_wiped($timeline, $ask);
}

1;
