package Bench::Measure;

# What is measured, and how. CPU: short bursts of a fixed number of requests, one case after the
# other, many rounds, each round compared within itself, so that a busy machine hurts all alike.
# Instructions: callgrind, twice with different numbers of requests; the difference per request.

use strict;
use warnings;

use Exporter qw(import);
use JSON::PP qw(decode_json);
use List::Util qw(sum max);
use Time::HiRes qw(time sleep);

use Test::Nginx::Process qw(spawn reap end_process);

our @EXPORT_OK = qw(median);

# Of the rounds asked for, on a machine too slow or busy for all of them in time.
my $FEWEST_ROUNDS = 5;

sub new {
    my ($class, %option) = @_;
    return bless {%option}, $class;
}

# The same, but answers other than 200 are for the caller to count.
sub tolerant {
    my ($self) = @_;
    return bless { %{$self}, tolerant => 1 }, ref $self;
}

# The same, with clients on any core.
sub unpinned {
    my ($self) = @_;
    return bless { %{$self}, pin => 0 }, ref $self;
}

sub command_line {
    my ($self, $program, @words) = @_;
    my @pin = $self->{pin} ? qw(taskset -c 1) : ();
    return (@pin, "$self->{folder}/$program", @words);
}

# The client's or lookup's JSON. Dies when an answer is missing or not as expected.
sub run_json {
    my ($self, $program, @words) = @_;
    my @command = $self->command_line($program, @words);
    open my $pipe, '-|', @command or die "$program: $!\n";
    my $text = do { local $/ = undef; <$pipe> };
    close $pipe or die "@command failed\n";
    return decode_json($text);
}

sub load {
    my ($self, $mode, $server, %option) = @_;
    my $result = $self->run_json('client', $mode, "port=$server->{port}",
        map { "$_=$option{$_}" } sort keys %option);
    my $good = $result->{statuses}{200} // 0;
    my $strange = $result->{requests} - $good;
    if ($strange && !$self->{tolerant}) {
        die "$server->{name}: $strange of $result->{requests} answers were not 200\n";
    }
    return $result;
}

sub median {
    my @sorted = sort { $a <=> $b } @_;
    return $sorted[@sorted / 2] if @sorted % 2;
    return ($sorted[@sorted / 2 - 1] + $sorted[@sorted / 2]) / 2;
}

sub quantile {
    my ($share, @values) = @_;
    my @sorted = sort { $a <=> $b } @values;
    return $sorted[$share * $#sorted];
}

# @cases: { name, server, base (a name), load => { client options } }. Adds to each: us (all rounds),
# cpu_us (median), ratio (median of the rounds' ratios to base), ratio_low, ratio_high (quartiles).
sub cpu_rounds {
    my ($self, $rounds, $burst, @cases) = @_;
    my %case = map { $_->{name} => $_ } @cases;
    my $deadline = time + $self->{cpu_seconds};
    for my $round (0 .. $rounds) {
        last if $round > $FEWEST_ROUNDS && time > $deadline;
        my @order = $round % 2 ? reverse @cases : @cases;
        push @order, splice @order, 0, $round % @order;
        for my $case (@order) {
            my $us = $self->_burst($case, $burst, $round + 1);
            push @{ $case->{us} }, $us if $round;    # the first is for warming up
        }
        $self->{progress}->("round $round of $rounds") if $round;
    }
    for my $case (@cases) {
        $case->{cpu_us} = median(@{ $case->{us} });
        my $base = $case{ $case->{base} }{us};
        my @ratio = map { $case->{us}[$_] / $base->[$_] } 0 .. $#{$base};
        my @added = map { $case->{us}[$_] - $base->[$_] } 0 .. $#{$base};
        $case->{ratio} = median(@ratio);
        $case->{added_us} = median(@added);
        @{$case}{qw(ratio_low ratio_high)} = map { quantile($_, @ratio) } 0.25, 0.75;
    }
    return;
}

sub _burst {
    my ($self, $case, $burst, $seed) = @_;
    my $servers = $self->{servers};
    my $count = int $burst / ($case->{weight} // 1);
    my $before = $servers->cpu_us($case->{server});
    $self->load('get', $case->{server}, count => $count, seed => $seed, tokens => $self->{tokens},
        %{ $case->{load} });
    return ($servers->cpu_us($case->{server}) - $before) / $count;
}

# Instructions per request of one kind of server in user space; with `functions`, also where they go:
# { name => [self, inclusive] }, per request. What has its time by the clock (the sweep, the thread that
# follows a store's feed) is left out of the total: beside requests that valgrind slows down it would
# count fifty times what it is.
sub instructions {
    my ($self, $kind, %option) = @_;
    my @total;
    my @function;
    # The first thousands are left to Lua's compiler.
    my @counts = (3000, 3000 + ($option{requests} // 4000));
    for my $count (@counts) {
        my $output = "$self->{folder}/callgrind.$count";
        unlink $output;
        my $server = $self->{servers}->start("callgrind-$kind", kind => $kind,
            callgrind => $output, tokens => $self->{tokens}, memcached => $self->{memcached}, zone => '256k');
        my $tokens = $self->{tokens};
        if ($server->{kind}{guard}) {
            $tokens = "$self->{folder}/tokens.callgrind";
            $self->load('create', $server, count => 50, connections => 1, tokens => $tokens);
        }
        $self->load('get', $server, count => $count, tokens => $tokens, connections => 1,
            hot => 1, %{ $option{load} // {} });
        $self->{servers}->stop("callgrind-$kind");
        my $by_the_clock = _annotated($output, 'yes');
        push @total, _total($output) - sum(0, map { $_->[1] }
            grep { $_->[0] =~ /^(?:ngx_event_expire_timers|start_thread)$/ } @{$by_the_clock});
        push @function, _functions($output) if $option{functions};
        unlink $output;
    }
    my $requests = $counts[1] - $counts[0];
    my %result = (total => ($total[1] - $total[0]) / $requests);
    for my $name (keys %{ $function[1] // {} }) {
        my ($late, $early) = ($function[1]{$name}, $function[0]{$name} // [0, 0]);
        $result{functions}{$name} = [map { ($late->[$_] - $early->[$_]) / $requests } 0, 1];
    }
    return \%result;
}

# The same for begin() alone, by the table's own program.
sub instructions_of_begin {
    my ($self) = @_;
    my @total;
    for my $count (1000, 3000) {
        my $output = "$self->{folder}/callgrind.begin.$count";
        system('valgrind', '--tool=callgrind', '--quiet', "--callgrind-out-file=$output",
            "$self->{folder}/lookup", 'loop', $count) == 0
            or die "callgrind of lookup failed\n";
        push @total, _total($output);
        unlink $output;
    }
    return ($total[1] - $total[0]) / 2000;
}

sub _total {
    my ($output) = @_;
    open my $file, '<', $output or die "$output: $!\n";
    my ($total) = map { /^(?:totals|summary):\s+(\d+)/ ? $1 : () } <$file>;
    close $file;
    return $total // die "no total in $output\n";
}

sub _functions {
    my ($output) = @_;
    my %found;
    for my $inclusive (0, 1) {
        for my $line (@{ _annotated($output, $inclusive ? 'yes' : 'no') }) {
            my ($name, $count) = @{$line};
            $found{$name} //= [0, 0];
            # Lines inlined from a header are listed apart: their own costs add up, sums do not.
            my $entry = $found{$name};
            $entry->[$inclusive] = $inclusive ? max($entry->[1], $count) : $entry->[0] + $count;
        }
    }
    return \%found;
}

# [name, instructions] of each function; with `inclusive` yes, of what it calls, too.
sub _annotated {
    my ($output, $inclusive) = @_;
    my @found;
    open my $pipe, '-|', 'callgrind_annotate', '--auto=no', '--threshold=100', "--inclusive=$inclusive", $output
        or die "callgrind_annotate: $!\n";
    while (my $line = <$pipe>) {
        my ($count, $name) = $line =~ /^\s*([\d,]+)\s+(?:\([^)]*%\)\s+)?[^:]*:(.*?)(?:\s\[[^\]]*\])?$/ or next;
        $count =~ tr/,//d;
        push @found, [$name, $count];
    }
    close $pipe;
    return \@found;
}

# Runs the code while clients send requests (mode get or create) for so many seconds; returns the
# client's result.
sub while_loaded {
    my ($self, $mode, $server, $seconds, $code, %option) = @_;
    my $result = $self->in_background($mode, $server, seconds => $seconds, count => 1_000_000_000,
        tokens => $self->{tokens}, connections => 32, %option);
    sleep 0.3;
    $code->();
    return $result->();
}

# Starts a client and goes on; what it returns waits for the client's result.
sub in_background {
    my ($self, $mode, $server, %option) = @_;
    my $output = "$self->{folder}/loaded.json";
    unlink $output;
    my @command = $self->command_line('client', $mode, "port=$server->{port}",
        map { "$_=$option{$_}" } sort keys %option);
    my $pid = spawn({ stdout => $output }, @command);
    return sub {
        reap($pid, ($option{seconds} // 0) + 30) or end_process($pid, 5, 'TERM', 'KILL');
        open my $file, '<', $output or die "$output: $!\n";
        my $text = do { local $/ = undef; <$file> };
        close $file;
        return decode_json($text);
    };
}

1;
