package Chaos::History;

# What happened in a run, one line an event: "kind name=value ...", times in
# seconds since 1970 by one clock that nobody moves.  Several processes write,
# each to a file of its own; a run's lines are read in any order.  No token ever
# stands here: a session is a number, its token that number and another.
#
# Kinds, and what each has:
#   ask     id node user who do token sent answered status; reason set saw roles
#           theme late page (see Chaos::Browser, which writes them)
#   app     id at user roles session: what the application was told of the asker
#   clock   node from to offset: the node's clock was moved between these times,
#           and is this many seconds ahead of ours since
#   fault   number name target from till; from2: it stood by then; to: it was
#           over, and its traces were gone, by then (not there: it lasts)
#   death   node what from to: processes of the node were killed or replaced
#   slow    target from to: the machine, or a server, answered a mere ping late
#   round   number plan from to

use strict;
use warnings;

use Exporter qw(import);

our @EXPORT_OK = qw(format_line parse_line);

sub format_line {
    my ($kind, %field) = @_;
    return join(' ', $kind, map { "$_=" . _quoted($field{$_}) } grep { defined $field{$_} } sort keys %field) . "\n";
}

sub _quoted {
    my ($value) = @_;
    $value =~ s/([^\w.,:\/\@*+-])/sprintf '%%%02x', ord $1/gex;
    return $value;
}

# A hash with its kind, or nothing if it is no whole line.
sub parse_line {
    my ($line) = @_;

    return unless $line =~ s/\n\z//x;
    my ($kind, @pairs) = split m/[ ]/x, $line;
    my %field = (kind => $kind);
    for my $pair (@pairs) {
        my ($name, $value) = split m/=/x, $pair, 2;
        $value =~ s/%([[:xdigit:]]{2})/chr hex $1/gex if index($value, '%') >= 0;
        $field{$name} = $value;
    }
    return \%field;
}

# --- writing: one file a process ---

sub writer {
    my ($class, $path) = @_;
    open(my $fh, '>>:raw', $path) or die "$path: $!\n";
    return bless { fh => $fh, path => $path }, $class;
}

# One write a line, so that a reader never sees two halves of different ones.
sub add {
    my ($self, $kind, %field) = @_;
    my $line = format_line($kind, %field);
    my $done = syswrite $self->{fh}, $line;
    die "$self->{path}: $!\n" unless defined $done && $done == length $line;
    return;
}

# --- reading: what was added to a directory's files since the last time ---

sub reader {
    my ($class, @paths) = @_;
    return bless { paths => \@paths, seen => {} }, $class;
}

sub news {
    my ($self) = @_;

    my @lines;
    for my $path (map { -d ? glob "$_/*.history" : $_ } @{ $self->{paths} }) {
        open(my $fh, '<:raw', $path) or die "$path: $!\n";
        seek $fh, $self->{seen}{$path} // 0, 0;
        while (my $line = <$fh>) {
            my $event = parse_line($line) or last;
            $event->{line} = $line;
            $self->{seen}{$path} = tell $fh;
            push @lines, $event;
        }
        close $fh;
    }
    return @lines;
}

1;
