package Test::Journal;

# Users who log in and out as fast as they can, in processes of their own, and
# write down what they were told; nginx may be killed under them at any instant.
# What was answered in good time is a promise, everything else is open.

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use Test::Guard;
use Test::Nginx::Client ();

# A request waits for LMDB for a second at most: what is answered sooner is answered by the store.
my $GOOD_TIME = 0.8;

# The server must have /login, /logout and /. Options: processes (2).
sub start {
    my ($class, $t, %option) = @_;

    my $self = bless { t => $t, number => ++$t->{journals}, processes => $option{processes} // 2 }, $class;
    for my $process (1 .. $self->{processes}) {
        my $name = "journal-$self->{number}.$process";
        $t->write_file($name, '');
        $t->token_may_reach($name);
        push @{ $self->{pids} }, $t->start_daemon(sub { _live($t->testdir() . "/$name") });
    }
    return $self;
}

# Logins so far, or logouts, or requests without an answer ("in", "out", "none").
sub count {
    my ($self, $what) = @_;
    my @lines = grep { m/\A$what\b/x } $self->_lines();
    return scalar @lines;
}

sub _lines {
    my ($self) = @_;
    return map { split m/\n/x, $self->{t}->read_file("journal-$self->{number}.$_") } 1 .. $self->{processes};
}

sub end {
    my ($self) = @_;
    $self->{t}->stop_daemon($_, 'KILL') for @{ $self->{pids} };
    return $self;
}

# Tokens of those who were told that they are logged in, and of those who were told that they are not.
sub promises {
    my ($self) = @_;

    my (%in, %out);
    for my $line ($self->_lines()) {
        my ($what, $token) = $line =~ m/\A(\w+)[ ]([\w-]{64})\z/x or next;
        $in{$token} = 1 if $what eq 'in';
        delete $in{$token} if $what eq 'leaving';
        $out{$token} = 1 if $what eq 'out';
    }
    return ([ keys %in ], [ keys %out ]);
}

# --- in a process of its own ---

sub _live {
    my ($path) = @_;

    open(my $journal, '>>', $path) or die "$path: $!\n";
    $journal->autoflush(1);
    while (1) {
        my $client = Test::Nginx::Client::client();
        my $told = _ask($client, '/login');
        my $token = $client->cookie('a');
        if (!$told || !$token) {
            print {$journal} "none\n";
            sleep(0.02);
            next;
        }
        print {$journal} "in $token\n" if $told eq 'in time';
        next if rand() < 0.6;
        print {$journal} "leaving $token\n";
        $told = _ask($client, '/logout') // 'none';
        print {$journal} $told eq 'in time' ? "out $token\n" : "$told\n";
    }
    return;
}

# Undef if it was not answered, or not well.
sub _ask {
    my ($client, $uri) = @_;

    my $started = time();
    my $response = eval { $client->post($uri, '', fetched()) };
    return if !$response || $response->status() !~ m/\A20/x || !$response->complete();
    return time() - $started < $GOOD_TIME ? 'in time' : 'late';
}

1;
