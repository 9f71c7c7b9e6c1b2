package Chaos::Checker;

# Judges a history: what each answer should have been, known from the outside.  It
# shares no code with what it judges; its rules are in Chaos::Admitted,
# Chaos::Refused and Chaos::Cookies, what they are about in Chaos::Sessions and
# Chaos::Timeline.  No rule depends on speed: of each request it knows when it was
# sent and when it was answered, and that it was decided in between.

use strict;
use warnings;

use List::Util qw(min);

use Chaos::Admitted;
use Chaos::Cookies;
use Chaos::History;
use Chaos::Refused;
use Chaos::Sessions;
use Chaos::Timeline;

my @ALWAYS = (Chaos::Refused::rules(), Chaos::Cookies::rules());
my @ADMITTED = Chaos::Admitted::rules();

# Rounds are shorter, and so are the lives of sessions: nodes' clocks run ahead.
my $REMEMBERED = 600;

our @CLASSES = qw(wrong_admission wrong_refusal lost cookie);

sub new {
    my ($class) = @_;
    my $timeline = Chaos::Timeline->new();
    return bless { timeline => $timeline, sessions => Chaos::Sessions->new($timeline), asks => [], apps => {}, round => { number => 0, plan => 'none' },
        count => { requests => 0, map { $_ => 0 } @CLASSES }, apart => {}, outcome => {}, findings => [] }, $class;
}

# Events in any order; what they mean is found out by judge().
sub add {
    my ($self, @events) = @_;

    for my $event (@events) {
        my $kind = $event->{kind};
        if    ($kind eq 'ask')   { push @{ $self->{asks} }, $event }
        elsif ($kind eq 'app')   { push @{ $self->{apps}{ $event->{id} } }, $event }
        elsif ($kind eq 'round') { $self->{round} = $event }
        elsif ($kind ne 'run')   { $self->{timeline}->add($event) }
    }
    return $self;
}

# Judges the requests that came since the last time, when none is under way; what
# is wrong: { class, rule, text, ask, because, round }.
sub judge {
    my ($self) = @_;

    my @asks = sort { $a->{sent} <=> $b->{sent} } splice @{ $self->{asks} };
    for my $ask (@asks) {
        $self->_complete($ask);
        $self->{sessions}->add($ask);
    }
    my @found = map { $self->_judge($_) } @asks;
    push @{ $self->{findings} }, @found;
    if (@asks) {
        $self->{sessions}->forget($asks[0]{sent} - $REMEMBERED);
        $self->{timeline}->forget($asks[0]{sent} - 3 * $REMEMBERED);
    }
    return @found;
}

sub _complete {
    my ($self, $ask) = @_;

    my @apps = sort { $a->{at} <=> $b->{at} } @{ delete $self->{apps}{ $ask->{id} } || [] };
    $ask->{apps} = \@apps;
    $ask->{decided} = min($ask->{answered}, map { $_->{at} } @apps);
    my ($seen) = ($ask->{saw} // '') =~ m{\A([^/]*)}x;
    $ask->{admitted} = 1 if ($ask->{status} == 200 && ($seen // '') ne '') || grep { ($_->{user} // '') ne '' } @apps;
    $self->{outcome}{ join ' ', $ask->{status}, Chaos::Refused::reason($ask) // () }++;
    return;
}

sub _judge {
    my ($self, $ask) = @_;

    $self->{count}{requests}++;
    my @found;
    for my $rule (@ALWAYS, $ask->{admitted} ? @ADMITTED : ()) {
        my ($class, $name, $code) = @{$rule};
        my ($text, @because) = $code->($self->{sessions}, $self->{timeline}, $ask);
        next if !defined $text;
        if ($text =~ m/\Aapart:[ ](.*)/x) {
            $self->{apart}{$1}++;
            next;
        }
        $self->{count}{$class}++;
        push @found, { class => $class, rule => $name, text => $text, ask => $ask, because => \@because, round => $self->{round} };
        last if $class eq 'wrong_admission';
    }
    return @found;
}

sub is_good { my ($self) = @_; return !@{ $self->{findings} } }

# One finding, with the few lines of the history that matter.
sub describe {
    my ($self, $finding) = @_;

    my $ask = $finding->{ask};
    my @lines = ($ask, @{ $finding->{because} });
    my $session = $ask->{session};
    push @lines, $session->{born}{ask}, $session->{in} if $session;
    push @lines, grep { $_->{node} eq $ask->{node} && $_->{answered} <= $ask->{sent} } @{ $session->{asks} }[ -1, -2 ] if $session && @{ $session->{asks} } > 1;
    my $from = $ask->{sent} - 60;
    push @lines, $self->{timeline}->events($from, $ask->{answered});
    my %seen;
    my @sorted = sort { ($a->{sent} // $a->{from}) <=> ($b->{sent} // $b->{from}) } grep { !$seen{$_}++ } @lines;
    return join '', "$finding->{class}, $finding->{rule}: $finding->{text}\n",
        "  round $finding->{round}{number}, plan $finding->{round}{plan}\n",
        map { ($_ == $ask ? '=>' : '  ') . "  $_->{line}" } @sorted;
}

1;
