package Test::Nginx::AtEnd;

# The assertions that every test file ends with, and what a test may leave
# out of them.  A base class of Test::Nginx; keeps its state there.

use strict;
use warnings;

use Test::More ();

use Test::Nginx::Leaks;

sub assertions { return 3 }

# For all test objects of a file together, since they share one plan.
sub assert_all {
    my (@tests) = @_;

    my (@alerts, @reports, @leaks);
    for my $test (@tests) {
        my $directory = $test->{testdir};
        my @not_nginx = ('error-conf-test.log', map { $_->file() } @{ $test->{recorders} || [] });
        push @alerts, Test::Nginx::Leaks::alerts($directory, $test->{expected}, \@not_nginx);
        push @alerts, @{ $test->{complaints} || [] };
        push @reports, Test::Nginx::Leaks::sanitizer_reports($directory);
        push @leaks, Test::Nginx::Leaks::leaks($directory, $test->{may_hold});
    }
    my $builder = Test::More->builder();
    my $todo = grep { $_->{todo_alerts} } @tests;
    $builder->todo_start('alerts') if $todo;
    Test::More::is(join("\n", @alerts), '', 'no alert, no emerg in any log');
    $builder->todo_end() if $todo;
    Test::More::is(join("\n", @reports), '', 'no sanitizer report');
    Test::More::is(join("\n", @leaks), '', 'no token in any file');
    return;
}

# Alerts are known not to be absent: a TODO.
sub todo_alerts {
    my ($self) = @_;
    $self->{todo_alerts} = 1;
    return $self;
}

# A line of alert or emerg that this test provokes.
sub expect_alert {
    my ($self, $pattern) = @_;
    push @{ $self->{expected} }, $pattern;
    return $self;
}

# A value that no log may hold; tokens from Set-Cookie are known by themselves.
sub secret {
    my ($self, @values) = @_;
    Test::Nginx::Leaks::note_secret($_) for @values;
    return $self;
}

# A recorder, or a file by name, that may be given tokens by this test.
sub token_may_reach {
    my ($self, @where) = @_;
    push @{ $self->{may_hold} }, map { ref $_ ? $_->file() : $_ } @where;
    return $self;
}

1;
