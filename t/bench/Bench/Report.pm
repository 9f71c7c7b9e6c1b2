package Bench::Report;

# The figures of a run: kept, compared with what they must be, written as text, JSON and a picture.

use strict;
use warnings;

use Cwd qw(abs_path);
use FindBin;
use JSON::PP;

use Bench::StoreReport;

my %TITLE = (
    bare => 'nginx, no check',
    bare_threads => 'nginx with a thread pool, no check',
    lua_empty => 'empty access_by_lua',
    lua_dict => 'Lua check, shared dict',
    guard_off => 'session guard, session off',
    guard => 'session guard',
    guard_1 => 'session guard, 1 session',
    guard_memcached => 'session guard with a store, 1 000 hot',
    guard_hot => 'session guard, 1 000 hot',
    guard_all => 'session guard, all, random',
    bare_b => "no check, a browser's headers",
    guard_b => "session guard, a browser's headers",
    proxy => 'proxy_pass, no check',
    proxy_lua => 'proxy_pass, Lua check',
    proxy_guard => 'proxy_pass, session guard',
    proxy_named => 'proxy_pass, session guard, identity',
    auth => 'auth_request to another nginx',
);

sub new {
    my ($class, %option) = @_;
    return bless { %option, data => {} }, $class;
}

sub set {
    my ($self, %values) = @_;
    @{ $self->{data} }{ keys %values } = values %values;
    return;
}

# What 6-quality promises: [name, figure, limit, unit], and 'least' if the limit is not the most.
sub promises {
    my ($self) = @_;
    my ($data, $cpu, $table) = @{ $self->{data} }{qw(data cpu table)};
    $data = $self->{data};
    my $instructions = $data->{instructions};
    my $million = $data->{million};
    my @promise;
    push @promise, ['instructions per request added (the gate)',
        $instructions->{guard} - $instructions->{bare}, 1700, ''],
        ['the same with a store, to nginx with threads',
            $instructions->{guard_memcached} - $instructions->{bare_threads}, 1700, '']
        if $instructions;
    push @promise,
        ['CPU, 1 000 hot sessions, over no check', $cpu->{guard_hot}{ratio}, 1.05, 'x'],
        ['the same with a store', $cpu->{guard_memcached}{ratio}, 1.05, 'x'],
        ['CPU, all sessions at random, over no check', $cpu->{guard_all}{ratio}, 1.10, 'x'],
        ['CPU with proxy_pass behind, over no check', $cpu->{proxy_guard}{ratio}, 1.03, 'x']
        if $cpu;
    push @promise,
        ['zone per session, all included', $table->{bytes_measured}, 320, 'bytes'],
        ['look-up of one at random', $table->{find_random_ns}{least}, 300, 'ns']
        if $table;
    push @promise,
        ['sessions refused while opening them', $million->{not_created}, 0, ''],
        ['sessions unknown afterwards', $million->{created} - $million->{known_afterwards}, 0, '']
        if $million;
    for my $what (grep { $data->{$_} } qw(reload resize)) {
        push @promise, ["requests refused during $what", $data->{$what}{refused}, 0, ''],
            ["sessions lost by $what", $data->{$what}{sessions_lost}, 0, ''];
    }
    push @promise, ['logins lost while resizing', $data->{logins}{refused} + $data->{logins}{sessions_lost}, 0, '']
        if $data->{logins};
    push @promise, Bench::StoreReport::promises($data->{stores}) if $data->{stores};
    return @promise;
}

sub _is_met {
    my ($promise) = @_;
    my (undef, $figure, $limit, undef, $least) = @{$promise};
    return $least ? $figure >= $limit : $figure <= $limit;
}

sub missed {
    my ($self) = @_;
    return scalar grep { !_is_met($_) } $self->promises();
}

sub write {    ## no critic (ProhibitBuiltinHomonyms)
    my ($self) = @_;
    my $data = $self->{data};
    $data->{promises} = [
        map { { name => $_->[0], figure => $_->[1] + 0, limit => $_->[2], unit => $_->[3],
                least => $_->[4] ? JSON::PP::true : JSON::PP::false,
                met => _is_met($_) ? JSON::PP::true : JSON::PP::false } } $self->promises()
    ];
    $self->_file('report.json', JSON::PP->new->pretty->canonical->encode($data));
    my $text = $self->text();
    $self->_file('report.txt', $text);
    print $text;
    $self->chart() if $data->{cpu};
    print "build/bench: report.txt, report.json, chart.svg\n";
    return;
}

sub _file {
    my ($self, $name, $text) = @_;
    open my $file, '>', "$self->{folder}/$name" or die "$self->{folder}/$name: $!\n";
    print {$file} $text;
    close $file or die "$name: $!\n";
    return;
}

sub text {
    my ($self) = @_;
    my $data = $self->{data};
    my $text = sprintf "nginx %s, %s, %d cores, load %s at the start; %d s\n",
        @{ $data->{machine} }{qw(nginx cpu cores load_at_start)}, $data->{seconds};
    if ($data->{cpu}) {
        $text .= $self->_cpu_text() . $self->_instructions_text() . $self->_table_text() . $self->_events_text();
    }
    $text .= Bench::StoreReport::text($data->{stores}) if $data->{stores};
    $text .= join '', "\nin the error logs:\n", map { "  $_" } @{ $data->{complaints} } if @{ $data->{complaints} };
    return $text . $self->_promises_text();
}

sub _cpu_text {
    my ($self) = @_;
    my $data = $self->{data};
    my $text = "\nCPU of the worker per request (43 bytes, 64 connections; median of $data->{rounds} rounds; ratio in the same round)\n";
    my $cpu = $data->{cpu};
    for my $name (qw(bare lua_empty lua_dict guard_1 guard_hot guard_memcached guard_all auth bare_b guard_b proxy
        proxy_lua proxy_guard)) {
        my $case = $cpu->{$name};
        $text .= sprintf "  %-38s %7.2f us", $TITLE{$name}, $case->{cpu_us};
        $text .= sprintf "  %6.3f x  (quartiles %.3f-%.3f)  %+6.2f us", @{$case}{qw(ratio ratio_low ratio_high added_us)}
            if $case->{base} ne $name;
        $text .= "\n";
    }
    return $text;
}

sub _instructions_text {
    my ($self) = @_;
    my $data = $self->{data};
    my $text = "\nInstructions per request in user space (callgrind)\n";
    my $instructions = $data->{instructions};
    for my $pair ([bare => 'bare'], [lua_empty => 'bare'], [lua_dict => 'bare'], [guard_off => 'bare'], [guard => 'bare'],
        [bare_threads => 'bare'], [guard_memcached => 'bare_threads'], [bare_b => 'bare_b'], [guard_b => 'bare_b'], [proxy => 'proxy'],
        [proxy_guard => 'proxy'], [proxy_named => 'proxy']) {
        my ($name, $base) = @{$pair};
        $text .= sprintf "  %-38s %7.0f", $TITLE{$name}, $instructions->{$name};
        $text .= sprintf "  %+7.0f", $instructions->{$name} - $instructions->{$base} if $base ne $name;
        $text .= "\n";
    }
    return $text . sprintf "  %-38s %7.0f\n", 'begin(): cookie to verdict, in it', $data->{begin_instructions};
}

sub _table_text {
    my ($self) = @_;
    my $table = $self->{data}{table};
    my $text = sprintf "\nThe table alone, %d sessions (record of %d bytes)\n", @{$table}{qw(sessions record_bytes)};
    $text .= sprintf "  zone per session: %.1f bytes measured, %d computed; with 2 bytes more in the record %d\n",
        @{$table}{qw(bytes_measured bytes_computed bytes_longer_record)};
    $text .= sprintf "  a Lua shared dict, key of 64 and value of 200 bytes: %.1f bytes each\n", $self->{data}{lua_bytes};
    $text .= "  find(), CPU of one look-up: least (median) of the rounds\n";
    for my $row (['1 000 hot', 'find_hot_ns'], ['all at random', 'find_random_ns'],
        ['1 000 hot, on every core at once', 'find_hot_all_cores_ns'],
        ['all at random, on every core at once', 'find_random_all_cores_ns'],
        ['begin(), 1 000 hot', 'begin_hot_ns'], ['for comparison: one dependent read of such memory', 'one_read_ns']) {
        $text .= sprintf "    %-50s %6.0f ns (%.0f)\n", $row->[0], @{ $table->{ $row->[1] } }{qw(least median)};
    }
    return $text;
}

sub _events_text {
    my ($self) = @_;
    my $data = $self->{data};
    my $text = sprintf "\n%d sessions opened by the control header in a zone of %d bytes: %d refused, %d known afterwards, %.0f a second\n",
        $data->{sessions}, @{ $data->{million} }{qw(zone not_created known_afterwards per_second)};
    for my $what (qw(reload resize)) {
        $text .= sprintf "%s under load, %d times: %d requests, %d not answered 200, %d sent again (idle connection closed), %d of %d sessions lost\n",
            $what, @{ $data->{$what} }{qw(times requests refused sent_again sessions_lost sessions_tried)};
    }
    $text .= sprintf "logins during 2 changes of size: %d, %d refused, %d of the sessions lost\n",
        @{ $data->{logins} }{qw(requests refused sessions_lost)};
    return $text;
}

sub _promises_text {
    my ($self) = @_;
    my $text = "\n";
    for my $promise ($self->promises()) {
        my ($name, $figure, $limit, $unit, $least) = @{$promise};
        my $missed = $limit ? sprintf '%.0f %%', 100 * abs $figure / $limit - 1 : $figure;
        $text .= sprintf "  %-44s %10s  must be %s %-5s %-6s %s\n", $name, _number($figure), $least ? '>=' : '<=', $limit,
            $unit, _is_met($promise) ? 'met' : "MISSED by $missed";
    }
    return $text;
}

sub _number {
    my ($value) = @_;
    return $value == int $value ? $value : sprintf $value < 10 ? '%.3f' : '%.1f', $value;
}

# gnuplot reads chart.dat: one block for each panel, a line for each bar.
sub chart {
    my ($self) = @_;
    my ($cpu, $instructions, $table) = @{ $self->{data} }{qw(cpu instructions table)};
    my @cpu = map { [$TITLE{$_}, $cpu->{$_}{cpu_us}, /guard/ ? 2 : 1] }
        qw(bare lua_empty lua_dict guard_hot guard_all proxy proxy_lua proxy_guard);
    my @added = map { [$TITLE{$_}, $instructions->{$_} - $instructions->{bare}, /guard/ ? 2 : 1] } qw(lua_empty lua_dict guard);
    my @memory = (['session guard', $table->{bytes_measured}, 2], ['Lua shared dict', $self->{data}{lua_bytes}, 1]);
    my @look = (['1 000 hot', $table->{find_hot_ns}{least}, 2],
        [sprintf('%d at random', $table->{sessions}), $table->{find_random_ns}{least}, 2],
        ['one dependent read', $table->{one_read_ns}{least}, 1]);
    my $text = join "\n\n", map { join '', map { sprintf qq("%s" %.4f %d\n), @{$_} } reverse @{$_} } \@cpu, \@added, \@memory, \@look;
    $self->_file('chart.dat', $text);
    my $folder = abs_path($self->{folder});
    system('gnuplot', '-e', "folder='$folder'", "$FindBin::Bin/chart.gp") == 0 or die "gnuplot failed\n";
    return;
}

1;
