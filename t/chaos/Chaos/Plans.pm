package Chaos::Plans;

# What goes wrong in a round, under load: faults that the documentation says
# nobody loses anything by, faults that make the store silent, and (overlap)
# several that may cost something, which the checker counts apart.

use strict;
use warnings;

use List::Util qw(shuffle);

my %PLAN = (
    clocks  => \&_clocks,
    workers => \&_workers,
    nodes   => \&_nodes,
    sizes   => \&_sizes,
    stopped => \&_stopped,
    emptied => \&_emptied,
    revived => \&_revived,
    outage  => \&_outage,
    cut_off => \&_cut_off,
    all_new => \&_all_new,
    overlap => \&_overlap,
);

sub names { my @names = sort keys %PLAN; return @names }

# What a run goes through again and again, in another order each time.
sub deck { return shuffle names() }

# $faults: Chaos::Faults; $asks: waits for so many answers.
sub play {
    my ($name, $faults, $asks) = @_;
    my $plan = $PLAN{$name} // die "there is no plan $name\n";
    $asks->(80);
    $plan->($faults, $asks, shuffle qw(a b c));
    $faults->mend();
    $asks->(80);
    return;
}

# The node with the file has faults of its own, whatever happens to the others.
sub _file {
    my ($faults, $asks) = @_;
    my @what = (
        sub { $faults->worker_killed('d') }, sub { $faults->node_killed('d') }, sub { $faults->node_restarted('d') },
        sub { $faults->reloaded('d') }, sub { $faults->resized('d') }, sub { $faults->clock_skewed('d', -25) },
    );
    $what[ rand @what ]->();
    $asks->(40);
    return;
}

sub _clocks {
    my ($faults, $asks, @nodes) = @_;
    $faults->clock_skewed($nodes[0], 25);
    $faults->everybody_forward(12);
    $asks->(40);
    $faults->clock_skewed($nodes[1], -25);
    _file($faults, $asks);
    return;
}

sub _workers {
    my ($faults, $asks, @nodes) = @_;
    for my $node (@nodes, 'd') {
        $faults->worker_killed($node);
        $asks->(30);
        $faults->reloaded($node) if rand() < 0.5;
        $asks->(30);
    }
    return;
}

sub _nodes {
    my ($faults, $asks, @nodes) = @_;
    $faults->node_killed($nodes[0]);
    $asks->(80);
    $faults->node_restarted($nodes[1]);
    $asks->(80);
    $faults->node_killed('d');
    $asks->(40);
    $faults->node_killed($_) for @nodes;
    return;
}

sub _sizes {
    my ($faults, $asks, @nodes) = @_;
    for my $node (@nodes, 'd') {
        $faults->resized($node);
        $asks->(40);
    }
    return;
}

sub _stopped {
    my ($faults, $asks) = @_;
    my ($i) = shuffle 0 .. 2;
    $faults->server_stopped($i);
    $asks->(150);
    $faults->mend();
    _file($faults, $asks);
    return;
}

sub _emptied {
    my ($faults, $asks) = @_;
    my ($i) = shuffle 0 .. 2;
    $faults->server_emptied($i);
    $asks->(100);
    $faults->mend();
    return;
}

# What happened while it was away it does not know; a node without a memory asks it and another.
sub _revived {
    my ($faults, $asks, @nodes) = @_;
    $faults->server_revived();
    $asks->(150);
    $faults->mend();
    $faults->node_killed($nodes[0]);
    $asks->(60);
    return;
}

sub _outage {
    my ($faults, $asks) = @_;
    $faults->server_stopped($_) for 0 .. 2;
    $faults->stalled('d');
    $asks->(60);
    $faults->everybody_forward(15);
    $asks->(40);
    $faults->everybody_forward(35);
    $asks->(60);
    return;
}

sub _cut_off {
    my ($faults, $asks, @nodes) = @_;
    $faults->cut_off($_) for $nodes[0], 'd';
    $asks->(100);
    $faults->everybody_forward(15);
    $asks->(40);
    $faults->everybody_forward(35);
    $asks->(100);
    return;
}

# All that is left is what the nodes know; one of them knows nothing, either.
sub _all_new {
    my ($faults, $asks, @nodes) = @_;
    $faults->server_emptied($_) for 0 .. 2;
    $asks->(30);
    $faults->node_killed($nodes[0]);
    $faults->mend();
    return;
}

sub _overlap {
    my ($faults, $asks, @nodes) = @_;
    my ($i, $j) = shuffle 0 .. 2;
    $faults->server_stopped($i);
    $asks->(40);
    $faults->worker_killed($nodes[0]);
    $faults->node_killed($nodes[1]);
    $faults->clock_skewed($nodes[2], 10);
    $faults->cut_off($nodes[0]);
    $asks->(40);
    $faults->server_emptied($j);
    $faults->reloaded($nodes[2]);
    $faults->resized($nodes[0]);
    $asks->(60);
    return;
}

1;
