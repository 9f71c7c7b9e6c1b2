package Chaos::Cookies;

# The rules for Set-Cookie: who is given which token, and when a cookie may be
# taken away.  As in Chaos::Admitted, a rule says what is wrong, or nothing.

use strict;
use warnings;

use Chaos::Refused;

my %OPENS = map { $_ => 1 } qw(login roles renew reauth);

# A page view that is refused for one of these may lose its cookie.
my %CLEARS = map { $_ => 1 } qw(malformed forged absent expired_idle expired_absolute ended ambiguous);

sub rules {
    return (
        [ cookie => cleared        => \&_cleared ],
        [ cookie => given          => \&_given ],
        [ cookie => opened         => \&_opened ],
        [ cookie => two_successors => \&_two_successors ],
        [ cookie => given_to_old   => \&_given_to_old ],
    );
}

sub _cleared {
    my ($sessions, $timeline, $ask) = @_;

    return if ($ask->{set} // '') ne 'expired' || $ask->{do} eq 'logout' && $ask->{status} == 204;
    return if $ask->{do} eq 'destroy' && $ask->{status} == 200;
    my $reason = Chaos::Refused::reason($ask) // "status $ask->{status}";
    return if $ask->{page} && $CLEARS{$reason};
    return "taken away: $reason" . ($ask->{page} ? '' : ', and no page view');
}

sub _token { my ($ask) = @_; return ($ask->{set} // 'expired') eq 'expired' ? undef : $ask->{set} }

# A token comes with what was let in, or with a login.
sub _given {
    my ($sessions, $timeline, $ask) = @_;
    return if !_token($ask) || $ask->{status} == 200 && ($ask->{admitted} || $ask->{do} eq 'login');
    return "a token with status $ask->{status}";
}

# A new session comes with what asks for one, and is nobody's yet.
sub _opened {
    my ($sessions, $timeline, $ask) = @_;

    my $token = _token($ask);
    return $ask->{do} eq 'login' && $ask->{status} == 200 && !$ask->{cut} ? 'a login without a new session' : () if !defined $token;
    my ($name) = Chaos::Sessions::parts($token);
    return if $ask->{session} && $ask->{do} ne 'login' && $name eq $ask->{session}{name};
    return "a new session by $ask->{do}" if !$OPENS{ $ask->{do} };
    return ('a session that there was before', $sessions->find($name)->{born}{ask}) if !$ask->{opened};
    return;
}

# All parallel holders of a token are handed the same next one, whatever node they ask.
sub _two_successors {
    my ($sessions, $timeline, $ask) = @_;

    my $token = _token($ask) // return;
    my ($name, $place) = Chaos::Sessions::parts($token);
    my $session = $ask->{session};
    return if !$session || $name ne $session->{name};
    return 'a token that is older than its own' if $place <= $ask->{place};
    my $first = $session->{set}{ $ask->{place} } //= $ask;
    return ("another next token than $first->{set}", $first) if $first->{set} ne $token;
    return;
}

# Who comes with a token that was replaced may be a thief: he is never given the new one.
sub _given_to_old {
    my ($sessions, $timeline, $ask) = @_;
    return if !_token($ask) || !$ask->{session} || $ask->{do} eq 'login';
    my ($replaced) = $sessions->known($ask->{session}{replaced}, $ask) or return;
    return ('a token for a session that was replaced', $replaced->{ask});
}

1;
