package Bench::StoreReport;

# The rows of Bench::Stores: as text, and what they must be.

use strict;
use warnings;

# As Bench::Report::promises().
sub promises {
    my ($stores) = @_;
    my ($first, $hang) = @{$stores}{qw(first hang)};
    return (
        ['first sight of a session: CPU of the worker', $first->{added_us}, 5, 'us'],
        ["the same: memcached's CPU", $first->{first}{store_us}, 3, 'us'],
        ["the same: requests a second, over Lua's", $first->{times_lua}, 2, 'x', 'least'],
        ['p99 of others while the store hangs', $hang->{ratio}, 1.2, 'x'],
        map { ["durable logins, $_->{clients} clients, over LMDB", $_->{ratio}, 0.6, 'x', 'least'] }
            @{ $stores->{logins} },
    );
}

sub text {
    my ($stores) = @_;
    return _first_sight($stores->{first}) . _logins(@{ $stores->{logins} }) . _hang($stores->{hang});
}

sub _first_sight {
    my ($first) = @_;
    my $text = "\nSessions in memcached (64 connections; CPU per request, threads included)\n";
    for my $row ([bare => 'nginx, no check'], [known => 'session guard, in the zone'],
        [first => 'session guard, first sight'], [lua => "Lua's non-blocking client"]) {
        my ($name, $title) = @{$row};
        $text .= sprintf "  %-38s %7.2f us, memcached %5.2f us, %6.0f requests a second\n", $title,
            @{ $first->{$name} }{qw(us store_us per_second)};
    }
    return $text . sprintf "  added in the same round: first sight %.2f us over known, Lua %.2f us over no check;\n"
        . "  first sight has %.2f x Lua's requests a second, its worker could have %.2f x\n",
        @{$first}{qw(added_us lua_added_us times_lua cpu_times_lua)};
}

sub _logins {
    my (@logins) = @_;
    my $text = sprintf "\nDurable logins (LMDB, values of %d bytes)\n", $logins[0]{value_bytes};
    for my $row (@logins) {
        $text .= sprintf "  %3d clients: %6.0f a second, %5.1f to a commit, %5.1f us of CPU; "
            . "LMDB alone in such groups %6.0f: %.2f x, %.2f x while the thread writes\n",
            @{$row}{qw(clients per_second group us raw_per_second ratio store_ratio)};
    }
    return $text;
}

sub _hang {
    my ($hang) = @_;
    return sprintf "\nOther requests, p99: %.0f us; %.0f us while memcached is stopped and %d requests wait for it: %.2f x\n",
        @{$hang}{qw(normal_us hanging_us parked ratio)};
}

1;
