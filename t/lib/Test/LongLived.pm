package Test::LongLived;

# What the tests of connections that last share: how long one still lives, what
# is left of its response, and what session_status counts.

use strict;
use warnings;

use Exporter qw(import);
use JSON::PP qw(decode_json);
use Test::More ();
use Time::HiRes qw(time);

use Test::Nginx;

our @EXPORT = qw(cut_in_time still_open gauge cuts);

# The promise is one second; a busy machine gets some more. What it took is told.
my $AT_MOST = 4;

# Reads until the connection ends; passes if that was soon. Returns what came.
sub cut_in_time {
    my ($socket, $phrase, $since) = @_;

    $since //= time();
    my $rest = $socket->read_all($AT_MOST);
    my $took = time() - $since;
    my $builder = Test::More->builder();
    $builder->ok(defined $rest && $took < $AT_MOST * ($ENV{TEST_NGINX_ASAN} ? 5 : 1), $phrase);
    $builder->note(sprintf '%s: after %.2f s', $phrase, $took);
    return $rest // '';
}

# True if the connection does not end for two rounds of looking.
sub still_open {
    my ($socket) = @_;
    $socket->read_with(sub { 0 }, 1.2);
    return !$socket->ended();
}

# How many connections that last the server knows, and the cut ones by reason.
sub _realm {
    my ($port) = @_;
    return decode_json(client(port => $port // 8080)->get('/status')->body())->{realms}[0];
}

sub gauge { return _realm(@_)->{long_lived} }

sub cuts {
    my $events = _realm(@_)->{events};
    return join ' ', map { m/\Acut_(.*)/x && $events->{$_} ? "$1:$events->{$_}" : () } sort keys %{$events};
}

1;
