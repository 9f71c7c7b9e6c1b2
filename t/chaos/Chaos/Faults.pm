package Chaos::Faults;

# What goes wrong, and how it is mended.  Each fault is written into the history
# before it begins, once it stands, before it is taken back, and once no trace of
# it is left.  Counts how often each kind happened.

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use Test::Nginx::Process qw(wait_until);

our @KINDS = qw(worker_killed node_killed node_restarted reloaded resized server_stopped server_emptied server_revived
    cut_off stalled clock_forward clock_back);

# $wait_for_asks: code that returns when so many more requests have been answered.
sub new {
    my ($class, $site, $wait_for_asks) = @_;
    return bless { site => $site, wait => $wait_for_asks, number => 0, open => [], count => { map { $_ => 0 } @KINDS } }, $class;
}

sub count { my ($self) = @_; return $self->{count} }

# --- processes ---

sub _death {
    my ($self, $what, $node, $code) = @_;
    my $from = time();
    $code->($self->{site}->node($node));
    $self->{site}->note(death => what => $what, node => $node, from => $from, to => time());
    $self->{count}{$what}++;
    return $self;
}

sub worker_killed {
    my ($self, $node) = @_;
    return $self->_death(worker_killed => $node, sub {
        my ($t) = @_;
        my @workers = $t->workers();
        $t->kill_worker($workers[ rand @workers ]);
        wait_until(sub { $t->workers() >= 2 }) or die "node $node gets no new worker\n";
    });
}

sub node_killed {
    my ($self, $node) = @_;
    return $self->_death(node_killed => $node, sub { $_[0]->kill_nginx()->run() });
}

sub node_restarted {
    my ($self, $node) = @_;
    return $self->_death(node_restarted => $node, sub { $_[0]->stop()->run() });
}

sub reloaded {
    my ($self, $node) = @_;
    return $self->_death(reloaded => $node, sub { $_[0]->try_reload() or die "node $node: reload refused\n" });
}

sub resized {
    my ($self, $node) = @_;
    my $site = $self->{site};
    $site->{zone}{$node} = { '2m' => '3m', '3m' => '4m', '4m' => '2m' }->{ $site->{zone}{$node} };
    $site->configure($node);
    return $self->_death(resized => $node, sub { $_[0]->try_reload() or die "node $node: resize refused\n" });
}

# --- stores ---

# $begin makes it so; $end takes it back; $heal (if any) waits for its traces to go.
sub _fault {
    my ($self, $name, $target, $begin, $end, $heal) = @_;

    my $fault = { line => { number => ++$self->{number}, name => $name, target => $target }, end => $end, heal => $heal };
    push @{ $self->{open} }, $fault;
    $self->_note($fault, 'from');
    $begin->();
    $self->_note($fault, 'from2');
    $self->{count}{$name}++;
    return $self;
}

sub _note {
    my ($self, $fault, $when) = @_;
    $fault->{line}{$when} = time();
    $self->{site}->note(fault => %{ $fault->{line} });
    return;
}

sub server_stopped {
    my ($self, $i) = @_;
    my $server = $self->{site}->server($i);
    return $self->_fault(server_stopped => "m$i", sub { $server->pause() }, sub { $server->resume() });
}

# Killed; when it comes back it is empty.
sub server_emptied {
    my ($self, $i) = @_;
    my $server = $self->{site}->server($i);
    my %before = map { $_ => $self->{site}->written_back($_, $i) } $self->{site}->nodes('net');
    my $fault = $self->_fault(server_emptied => "m$i", sub { $server->kill(); unlink glob $server->_memory() . '*' },
        sub { $server->start() });
    $self->{open}[-1]{empty} = { server => $i, before => \%before };
    return $fault;
}

# Shut down; when it comes back it has the data of then.
sub server_revived {
    my ($self) = @_;
    my ($i) = reverse $self->{site}->servers();
    my $server = $self->{site}->server($i);
    return $self->_fault(server_revived => "m$i", sub { $server->shut() }, sub { $server->start() });
}

# A node whose store answers nothing: as cut off by the network, or hanging.
sub cut_off {
    my ($self, $node) = @_;
    my $t = $self->{site}->node($node);
    return $self->_fault(cut_off => $node, sub { $t->store('fails') }, sub { $t->store('works') });
}

sub stalled {
    my ($self, $node) = @_;
    my $t = $self->{site}->node($node);
    return $self->_fault(stalled => $node, sub { $t->store('stalls') }, sub { $t->store('works') });
}

# --- mending ---

# Takes back every fault that lasts; those of stores are over when all nodes are
# at rest, what an empty server lost has been written back, and its word counts again.
sub mend {
    my ($self) = @_;

    my @open = @{ $self->{open} } or return $self;
    for my $fault (@open) {
        $self->_note($fault, 'till');
        $fault->{end}->();
    }
    $self->_refill(grep { $_ } map { $_->{empty} } @open);
    $self->_at_rest();
    $self->_note($_, 'to') for @open;
    $self->{open} = [];
    return $self;
}

sub _at_rest {
    my ($self) = @_;

    for my $group (qw(net file)) {
        wait_until(sub { $self->{site}->is_at_rest($group) || (sleep(0.1), 0)[1] }, 60)
            or die "the nodes of $group do not come to rest after a fault\n";
    }
    return;
}

# Ends are written back at once, sessions a quarter of a minute after a node has
# seen that the server is new; after a minute, what the server does not have is not
# there.  In steps, so that nobody's old token is older than its grace for that.
sub _refill {
    my ($self, @empty) = @_;

    return if !@empty;
    for (1 .. 20) {
        $self->everybody_forward(16);
        $self->{wait}->(20);
        last if wait_until(sub { !$self->_not_written_back(@empty) || (sleep(0.1), 0)[1] }, 2);
    }
    my @lost = $self->_not_written_back(@empty);
    die "not written back what an empty server lost: @lost\n" if @lost;
    for (1 .. 4) {
        $self->{wait}->(20);
        $self->everybody_forward(15);
    }
    return;
}

sub _not_written_back {
    my ($self, @empty) = @_;
    my $site = $self->{site};
    return map { my $empty = $_; grep { $site->written_back($_, $empty->{server}) == $empty->{before}{$_} } $site->nodes('net') } @empty;
}

# --- clocks ---

sub everybody_forward {
    my ($self, $seconds) = @_;
    $self->{site}->step($seconds, $self->{site}->nodes());
    $self->{count}{clock_forward}++;
    return $self;
}

# One node's alone, and all the same again.
sub clock_skewed {
    my ($self, $node, $seconds) = @_;
    $self->{site}->step($seconds, $node);
    $self->{count}{ $seconds > 0 ? 'clock_forward' : 'clock_back' }++;
    $self->{wait}->(40);
    $self->{site}->step(-$seconds, $node);
    $self->{count}{ $seconds > 0 ? 'clock_back' : 'clock_forward' }++;
    return $self;
}

1;
