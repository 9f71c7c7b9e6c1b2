package Chaos::Admitted;

# The rules for requests that were let in: who may be, as whom, and with what.
# Each is given the sessions, the timeline and the request, and says what is wrong
# in words, or nothing.

use strict;
use warnings;

use List::Util qw(all any max min);

use Chaos::Limits qw(%LIMIT);

# In the order of their names in a report: [ class, rule, code ].
sub rules {
    return (
        [ wrong_admission => somebody_else => \&_somebody_else ],
        [ wrong_admission => forged        => \&_forged ],
        [ wrong_admission => ended         => \&_ended ],
        [ wrong_admission => replaced      => \&_replaced ],
        [ wrong_admission => rotated_away  => \&_rotated_away ],
        [ wrong_admission => idle          => \&_idle ],
        [ wrong_admission => absolute      => \&_absolute ],
        [ wrong_admission => grace_over    => \&_grace_over ],
        [ wrong_admission => wider_roles   => \&_wider_roles ],
        [ lost            => lost_roles    => \&_lost_roles ],
        [ lost            => lost_theme    => \&_lost_theme ],
    );
}

# The identity is the session's own: what the application was told, and what nginx says of itself.
sub _somebody_else {
    my ($sessions, $timeline, $ask) = @_;

    my $own = $ask->{session} ? $ask->{session}{family}{user} : '';
    for my $told (@{ $ask->{apps} || [] }) {
        my $user = $told->{user} // '';
        return "the application was told of \"$user\", the cookie is \"$own\"'s" if $user ne $own && $user ne '';
        return 'the application was told of roles of nobody' if $user eq '' && ($told->{roles} // '') ne '';
        next if $user eq '';
        my $id = $told->{session} // '';
        my $known = $sessions->{public}{$id} //= $ask->{session}{name};
        return "two sessions have the public id $id" if $known ne $ask->{session}{name};
    }
    my ($seen) = ($ask->{saw} // '') =~ m{\A([^/]*)}x;
    return "nginx says \"$seen\", the cookie is \"$own\"'s" if ($seen // '') ne '' && $seen ne $own;
    return;
}

sub _forged {
    my ($sessions, $timeline, $ask) = @_;
    return 'a token that was never handed out' if $ask->{who} eq 'forger';
    return 'without a session' if !$ask->{session};
    return;
}

# Ended means ended, here at once and elsewhere in time.  A logout with a token
# that was just replaced ends the successor, too; who has lost the successor's
# session has none.
sub _ended {
    my ($sessions, $timeline, $ask) = @_;

    my $session = $ask->{session};
    my ($end) = $sessions->known($session->{ends}, $ask);
    return ("it has ended", $end->{ask}) if $end;
    for my $other (@{ $session->{asks} }) {
        last if $other->{sent} > $ask->{sent};
        next if ($other->{reason} // '') ne 'ended' || $other->{status} != 401;
        my $change = $other->{change} //= $sessions->change($other, 1);
        return ("another request was told that it has ended", $other) if $sessions->known([$change], $ask);
    }
    my $replaced = $session->{born}{ask};
    my $parent = $session->{parent} or return;
    for my $by_old ($sessions->known($parent->{ends}, $ask)) {
        my $birth = $session->{born};
        next if $by_old->{replaced} || !$birth->{certain} || !$timeline->must_know($by_old->{node}, $birth, $by_old->{sent});
        return ("it has ended with the one it was made from", $by_old->{ask}) if $sessions->most_age($birth, $by_old->{ask}) < $LIMIT{replaced} - 1;
    }
    return;
}

sub _replaced {
    my ($sessions, $timeline, $ask) = @_;

    for my $replaced ($sessions->known($ask->{session}{replaced}, $ask)) {
        my $age = $sessions->least_age($replaced, $ask);
        return (sprintf('replaced %.1f s ago', $age), $replaced->{ask}) if $age > $LIMIT{replaced} + $LIMIT{precision};
        my ($end) = $sessions->known($replaced->{child}{ends}, $ask);
        return ('the one it was replaced by has ended', $end->{ask}) if $end && !$end->{replaced} && @{ $ask->{session}{replaced} } == 1;
    }
    return;
}

# A token from before the last rotation, when the grace is over.  That the next one
# was seen is written without anybody waiting, and of nodes that see it at once the
# one that counts may be any: so what was seen for some seconds counts, and only if
# no store was in trouble then.
my $TO_BE_HEARD = 5;

sub _rotated_away {
    my ($sessions, $timeline, $ask) = @_;

    my $asks = $ask->{session}{asks};
    my ($first) = sort { $a->{answered} <=> $b->{answered} } grep { $_->{admitted} && $_->{place} > $ask->{place} } @{$asks};
    my $heard = $first ? $first->{answered} + $TO_BE_HEARD : 0;
    return if !$first || $heard > $ask->{sent} || $timeline->in_trouble($ask->{node}, $first->{sent}, $heard);
    my @seen = grep { $_->{admitted} && $_->{place} > $ask->{place} && $_->{sent} <= $heard } @{$asks};
    return if any { $timeline->died($_->{node}, $_->{sent}, $heard) || $timeline->maybe_silent($_->{node}, $first->{sent}, $ask->{answered}) } @seen, $ask;
    return if !$timeline->must_know($ask->{node}, { node => $first->{node}, sent => $first->{sent}, answered => $heard }, $ask->{sent});
    my $last = max(map { $timeline->clock_most(@{$_}{qw(node sent answered)}) } @seen);
    my $age = $timeline->clock_least(@{$ask}{qw(node sent answered)}) - $last;
    return (sprintf('rotated away: the next token was used %.1f s ago', $age), $first) if $age > $LIMIT{rotation_grace} + 2 * $LIMIT{precision};
    return;
}

my %NO_ACTIVITY = map { $_ => 1 } qw(quiet);

# Whoever of the family may have been let in at the same time or before has moved it.
sub _idle {
    my ($sessions, $timeline, $ask) = @_;

    my $family = $ask->{session}{family};
    my $last = $timeline->clock_most(@{ $ask->{session}{born} }{qw(node sent answered)});
    for my $other (reverse @{ $family->{asks} }) {
        next if $other == $ask || $other->{sent} > $ask->{answered} || $NO_ACTIVITY{ $other->{do} } || $other->{status} == 401;
        $last = max($last, $timeline->clock_most(@{$other}{qw(node sent answered)}));
        last if $last > $ask->{sent} + 1000;
    }
    my $idle = $timeline->clock_least(@{$ask}{qw(node sent answered)}) - $last;
    return sprintf 'idle for %.1f s', $idle if $idle > $LIMIT{idle} + $LIMIT{precision};
    return;
}

sub _absolute {
    my ($sessions, $timeline, $ask) = @_;
    my $in = $ask->{session}{in};
    my $age = $timeline->clock_least(@{$ask}{qw(node sent answered)}) - $timeline->clock_most(@{$in}{qw(node sent answered)});
    return (sprintf('%.1f s after its login', $age), $in) if $age > $LIMIT{absolute} + $LIMIT{precision};
    return;
}

# While the store says nothing, known sessions go on, but not for ever.
sub _grace_over {
    my ($sessions, $timeline, $ask) = @_;

    my $node = $ask->{node};
    my $since = $timeline->silent_since($node, $ask->{sent}, $ask->{decided}) // return;
    # What was opened or changed on this node meanwhile counts from then.
    for my $session (@{ $ask->{session}{family}{sessions} }) {
        my @here = grep { $_->{node} eq $node && $_->{sent} <= $ask->{answered} } $session->{born}, @{ $session->{replaced} };
        $since = max($since, map { $_->{answered} } @here);
    }
    $since = max($since, map { $_->{answered} } grep { $_->{node} eq $node && $_->{sent} <= $ask->{answered} } @{ $ask->{session}{family}{changed} || [] });
    my $grace = $ask->{do} eq 'closed' ? 0 : $LIMIT{grace};
    my $age = $timeline->clock_least($node, $ask->{sent}) - $timeline->clock_most($node, $since, $since);
    return sprintf 'the store has been silent for %.1f s', $age if $age > $LIMIT{revalidate} + $grace + $LIMIT{precision};
    return;
}

# --- roles and theme ---

sub _set { return { map { $_ => 1 } split m/[ ]/x, $_[0] } }

sub _within {
    my ($few, $many) = @_;
    my $all = _set($many);
    return all { $all->{$_} } split m/[ ]/x, $few;
}

sub _seen_roles {
    my ($ask) = @_;
    my (undef, $roles) = split m{/}x, $ask->{saw} // '', -1;
    return map { $_ // '' } (defined $ask->{saw} ? $roles : ()), map { $_->{roles} } @{ $ask->{apps} || [] };
}

# Never wider than they may have been at that time: for a replaced token, those
# that it had and its successor has.
sub _wider_roles {
    my ($sessions, $timeline, $ask) = @_;

    my $session = $ask->{session};
    my @own = $sessions->may_be($session, 'roles', $ask);
    my @children = map { $_->{child} } $sessions->known($session->{replaced}, $ask);
    my @after = map { $sessions->may_be($_, 'roles', $ask) } map { _with_descendants($_, 0) } @children;
    for my $seen (_seen_roles($ask)) {
        return "roles \"$seen\" of \"" . join('" or "', map { $_->[0] } @own) . '"' if !any { _within($seen, $_->[0]) } @own;
        return ("roles \"$seen\", though it was replaced by one with \"" . join('" or "', map { $_->[0] } @after) . '"', $children[0]{born}{ask})
            if @children && !any { _within($seen, $_->[0]) } @after;
    }
    return;
}

sub _with_descendants {
    my ($session, $depth) = @_;
    return $session if $depth > 6;
    return ($session, map { $_->{child} ? _with_descendants($_->{child}, $depth + 1) : () } @{ $session->{replaced} });
}

# What was acknowledged is there, as long as the session has not been replaced.
sub _is_lost {
    my ($sessions, $ask, $what, $seen) = @_;

    my $session = $ask->{session};
    return if Chaos::Sessions::possible($session->{replaced}, $ask) || !defined $seen;
    my @may = $sessions->may_be($session, $what, $ask);
    return if any { $_->[0] eq $seen } @may;
    return ("$what \"$seen\", not \"" . join('" or "', map { $_->[0] } @may) . '"', map { $_->[1]{ask} } @may);
}

sub _lost_roles {
    my ($sessions, $timeline, $ask) = @_;
    return _is_lost($sessions, $ask, 'roles', (_seen_roles($ask))[0]);
}

sub _lost_theme {
    my ($sessions, $timeline, $ask) = @_;
    my (undef, undef, $theme) = split m{/}x, $ask->{saw} // return, -1;
    return _is_lost($sessions, $ask, 'theme', $theme);
}

1;
