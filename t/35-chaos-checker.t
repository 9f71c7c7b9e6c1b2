#!/usr/bin/perl

# The checker of `make chaos` by itself: histories written by hand, each a few
# lines.  For every rule one that breaks it and one, as near as can be, that does
# not: a checker that finds nothing, or everything, would pass unnoticed otherwise.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin/chaos";
use Chaos::Checker;
use Chaos::History qw(format_line parse_line);
use Chaos::Limits qw(%LIMIT);

# --- lines of a history ---

my $number = 0;

# What a request is unless it is said: an owner's page view of no length, answered well.
sub ask {
    my ($do, $node, $sent, $token, %other) = @_;
    my %line = (id => 'x-' . ++$number, do => $do, node => $node, user => 'u', who => 'owner', sent => $sent, answered => $sent + 0.1,
        status => 200, (defined $token ? (token => $token) : ()), %other);
    $line{saw} //= 'u.1/r1 r2/t1' if $line{status} == 200 && defined $token && $do ne 'login';
    return \%line => 'ask';
}

sub login {
    my ($node, $sent, $session, %other) = @_;
    return ask(login => $node, $sent, undef, user => 'u.1', roles => 'r1 r2', theme => 't1', set => "$session.0", %other);
}

sub page     { my (@rest) = @_; return ask('page', @rest) }
sub refused  { my ($node, $sent, $token, $reason, %other) = @_; return ask('page', $node, $sent, $token, status => 401, reason => $reason, %other) }
sub no_store { my ($node, $sent, $token, %other) = @_; return ask('page', $node, $sent, $token, status => 503, reason => 'store_unavailable', %other) }
sub logout   { my ($node, $sent, $token, %other) = @_; return ask('logout', $node, $sent, $token, status => 204, set => 'expired', %other) }
sub roles    { my ($node, $sent, $token, $roles, $new) = @_; return ask('roles', $node, $sent, $token, roles => $roles, set => "$new.0") }
sub death    { my ($node, $at, $what) = @_; return { node => $node, from => $at, to => $at + 0.1, what => $what } => 'death' }
sub clock    { my ($node, $at, $offset) = @_; return { node => $node, from => $at, to => $at + 0.01, offset => $offset } => 'clock' }

sub fault {
    my ($name, $target, $from, $to) = @_;
    return { number => ++$number, name => $name, target => $target, from => $from, from2 => $from + 0.1, till => $to - 0.1, to => $to } => 'fault';
}

sub all_stopped { my ($from, $to) = @_; return map { fault('server_stopped', "m$_", $from, $to) } 0 .. 2 }

# What the checker finds in it, by way of the text that a run would have written.
sub found {
    my (@history) = @_;

    my $checker = Chaos::Checker->new();
    while (my ($line, $kind) = splice @history, 0, 2) {
        my $event = parse_line(format_line($kind, %{$line}));
        $checker->add({ %{$event}, line => format_line($kind, %{$line}) });
    }
    my @found = $checker->judge();
    $checker->describe($_) for @found;
    return join ', ', map { $_->{rule} } @found;
}

sub is_found     { my ($rule, $phrase, @history) = @_; return is(found(@history), $rule, "wrong: $phrase") }
sub is_all_right { my ($phrase, @history) = @_; return is(found(@history), '', "right: $phrase") }

my $ten = $LIMIT{replaced};
my $bound = $LIMIT{revalidate};

# --- who is let in ---

is_all_right('a login, a page, a logout', login(a => 1, 's'), page(b => 2, 's.0'), logout(c => 3, 's.0'), refused(c => 4, 's.0', 'ended'));
is_found(somebody_else => 'the application is told of another user', login(a => 1, 's'), page(b => 2, 's.0', id => 'k'),
    { id => 'k', at => 2.05, user => 'u.2', roles => 'r1' } => 'app');
is_found(somebody_else => 'nginx takes him for another user', login(a => 1, 's'), page(b => 2, 's.0', saw => 'u.2/r1 r2/t1'));
is_found(somebody_else => 'a client that names itself is believed', login(a => 1, 's', id => 'k'), { id => 'k', at => 1.05, user => 'mallory' } => 'app');
is_found(forged => 'a token that was never handed out', login(a => 1, 's'), page(b => 2, 's.forged', who => 'forger'));
is_all_right('the same, refused', login(a => 1, 's'), refused(b => 2, 's.forged', 'forged', who => 'forger'));

is_found(ended => 'let in after the logout, on the same node', login(a => 1, 's'), logout(a => 3, 's.0'), page(a => 3.2, 's.0'));
is_all_right('sent before the logout was answered', login(a => 1, 's'), logout(a => 3, 's.0'), page(a => 3.05, 's.0'));
is_found(ended => 'on another node, after the bound', login(a => 1, 's'), logout(a => 3, 's.0'), page(b => 3.5 + $bound, 's.0'));
is_all_right('on another node, within the bound', login(a => 1, 's'), logout(a => 3, 's.0'), page(b => 3 + $bound, 's.0'));
is_found(ended => 'within the bound by our clock, but not by the node\'s', login(a => 1, 's'), logout(a => 3, 's.0'), clock('b', 3.3, 30), page(b => 3.5, 's.0'));
is_all_right('the node\'s clock stepped back', login(a => 1, 's'), logout(a => 3, 's.0'), clock('b', 3.3, -30), page(b => 20, 's.0'));
is_all_right('on another node, while the store was silent', login(a => 1, 's'), all_stopped(2, 30), logout(a => 3, 's.0'), page(b => 20, 's.0'));
is_found(ended => 'one of three servers was stopped: no excuse', login(a => 1, 's'), fault('server_stopped', 'm1', 2, 30), logout(a => 3, 's.0'), page(b => 20, 's.0'));
is_found(ended => 'long after the outage', login(a => 1, 's'), all_stopped(2, 10), logout(a => 3, 's.0'), page(b => 20, 's.0'));
is_all_right('logged out in an outage, on a node that was killed in it', login(a => 1, 's'), all_stopped(2, 10), logout(a => 3, 's.0'),
    death('a', 5, 'node_killed'), page(b => 20, 's.0'));
is_found(ended => 'killed, but the store was well', login(a => 1, 's'), logout(a => 3, 's.0'), death('a', 5, 'node_killed'), page(a => 20, 's.0'));
is_all_right('a logout that was not answered', login(a => 1, 's'), logout(a => 3, 's.0', status => 0, set => undef), death('a', 3, 'worker_killed'), page(b => 20, 's.0'));
is_found(ended => 'let in again by a node that has said that it is over', login(a => 1, 's'), logout(a => 3, 's.0', status => 0, set => undef),
    death('a', 3, 'worker_killed'), refused(b => 4, 's.0', 'ended'), page(b => 5, 's.0'));
is_found(ended => 'a login ends the session that came with it', login(a => 1, 's'), ask(login => a => 3, 's.0', user => 'u.2', roles => '', theme => '', set => 't.0'),
    page(a => 5, 's.0'));

# --- a token that was replaced ---

my @renewed = (login(a => 1, 's'), ask(renew => a => 2, 's.0', set => 't.0'));
is_all_right('an old token passes for a moment, its successor goes on', @renewed, page(a => 5, 's.0'), page(b => 30, 't.0'));
is_found(replaced => 'for longer than that', @renewed, page(a => 5 + $ten, 's.0'));
is_found(replaced => 'its successor has ended', @renewed, logout(a => 3, 't.0'), page(a => 4, 's.0'));
is_found(ended => 'the successor of one that was logged out', @renewed, logout(a => 3, 's.0'), page(a => 4, 't.0'));
is_found(given_to_old => 'it is given a new one', @renewed, page(a => 4, 's.0', set => 's.1'));

my @demoted = (login(a => 1, 's'), roles(a => 2, 's.0', 'r2 r3', 't'));
is_all_right('the roles that both have', @demoted, page(a => 3, 's.0', saw => 'u.1/r2/t1'), page(a => 3, 't.0', saw => 'u.1/r2 r3/t1'));
is_found(wider_roles => 'the roles from before', @demoted, page(a => 3, 's.0', saw => 'u.1/r1 r2/t1'));
is_found(wider_roles => 'the successor\'s roles', @demoted, page(a => 3, 's.0', saw => 'u.1/r2 r3/t1'));
is_found(wider_roles => 'more than anybody gave', login(a => 1, 's'), page(a => 2, 's.0', saw => 'u.1/r1 r2 r5/t1'));
is_found(wider_roles => 'at the application', login(a => 1, 's'), page(a => 2, 's.0', id => 'k'), { id => 'k', at => 2.05, user => 'u.1', roles => 'r1 r5' } => 'app');
is_found(lost_roles => 'fewer than were given', login(a => 1, 's'), page(a => 2, 's.0', saw => 'u.1/r1/t1'));
is_found(lost_theme => 'a change that was acknowledged', login(a => 1, 's'), ask(theme => a => 2, 's.0', theme => 't2'), page(a => 3, 's.0'));
is_all_right('another node, within the bound', login(a => 1, 's'), ask(theme => a => 2, 's.0', theme => 't2'), page(b => 2.5, 's.0'), page(b => 2.5, 's.0', saw => 'u.1/r1 r2/t2'));

is_all_right('two nodes change it over a partition: either counts', login(a => 1, 's'), fault('cut_off', 'a', 2, 10), ask(theme => a => 3, 's.0', theme => 't2'),
    ask(theme => b => 5, 's.0', theme => 't3'), page(c => 20, 's.0', saw => 'u.1/r1 r2/t2'), page(b => 20, 's.0', saw => 'u.1/r1 r2/t3'));

# --- rotation ---

my $grace = $LIMIT{rotation_grace};
my @rotated = (login(a => 1, 's'), page(a => 100, 's.0', set => 's.1'), page(a => 101, 's.1'));
is_all_right('the old token is good for the grace', @rotated, page(a => 110, 's.0', set => 's.1'));
is_found(rotated_away => 'and for longer', @rotated, page(a => 105 + $grace, 's.0'));
is_all_right('then it ends the session for both', @rotated, refused(a => 105 + $grace, 's.0', 'ended'), refused(a => 140, 's.1', 'ended'));
is_found(refused => 'which it must not do within the grace', @rotated, refused(a => 110, 's.0', 'ended'));
is_all_right('a response that was lost: the new one was never shown', login(a => 1, 's'), page(a => 100, 's.0', set => 's.1'), page(a => 200, 's.0', set => 's.1'));
is_found(two_successors => 'parallel requests are given different ones', login(a => 1, 's'), page(a => 100, 's.0', set => 's.1'), page(b => 100, 's.0', set => 's.2'));

# --- time ---

is_found(idle => 'nobody was here for so long', login(a => 1, 's'), page(a => $LIMIT{idle} + 5, 's.0'));
is_found(idle => 'polling does not count', login(a => 1, 's'), ask(quiet => a => 300, 's.0'), page(a => $LIMIT{idle} + 5, 's.0'));
is_all_right('activity does', login(a => 1, 's'), page(a => 300, 's.0'), page(a => $LIMIT{idle} + 5, 's.0'));
is_found(refused => 'idle, though it was used', login(a => 1, 's'), page(a => 300, 's.0'), refused(a => $LIMIT{idle} + 5, 's.0', 'expired_idle'));
is_found(absolute => 'too old', login(a => 1, 's'), (map { page(a => 300 * $_, 's.0') } 1 .. 5), page(a => $LIMIT{absolute} + 5, 's.0'));
is_found(refused => 'too old too early', login(a => 1, 's'), refused(a => 50, 's.0', 'expired_absolute'));
is_all_right('the clock says so', login(a => 1, 's'), clock('a', 20, 2000), refused(a => 50, 's.0', 'expired_absolute'));

# --- refused without a cause ---

is_found(refused => 'thrown out: ended', login(a => 1, 's'), refused(b => 5, 's.0', 'ended'));
is_found(refused => 'thrown out: replaced', login(a => 1, 's'), refused(b => 5, 's.0', 'regenerated'));
is_found(refused => 'a genuine token is called forged', login(a => 1, 's'), refused(b => 5, 's.0', 'forged'));
is_found(refused => 'let in as nobody', login(a => 1, 's'), ask(open => b => 5, 's.0', saw => '//'));
is_found(lost_session => 'nobody has it any more', login(a => 1, 's'), refused(b => 5, 's.0', 'absent'));
is_found(lost_session => 'an outage is no reason to say so', login(a => 1, 's'), all_stopped(3, 10), refused(b => 5, 's.0', 'absent'));
is_all_right('opened in an outage, asked elsewhere: apart', all_stopped(0, 10), login(a => 1, 's'), refused(b => 11, 's.0', 'absent'));
is_found(lost_session => 'all servers were emptied, and a node knew it', login(a => 1, 's'), page(b => 2, 's.0'), (map { fault('server_emptied', "m$_", 3, 9) } 0 .. 2),
    refused(c => 12, 's.0', 'absent'));
is_all_right('and none did: apart', login(a => 1, 's'), page(b => 2, 's.0'), (map { fault('server_emptied', "m$_", 3, 9) } 0 .. 2),
    death('b', 4, 'node_killed'), refused(c => 12, 's.0', 'absent'));

# --- outages ---

is_found(unavailable => '503, though the store is well', login(a => 1, 's'), no_store(b => 5, 's.0'));
is_found(unavailable => 'one server of three is stopped', login(a => 1, 's'), fault('server_stopped', 'm0', 3, 10), no_store(b => 5, 's.0'));
is_all_right('the store is silent, and the node does not know it', login(a => 1, 's'), all_stopped(3, 10), no_store(b => 5, 's.0'));
is_found(known_session => 'the node does know it', login(a => 1, 's'), page(b => 2.5, 's.0'), all_stopped(3, 10), no_store(b => 5, 's.0'));
is_all_right('but the grace is over', login(a => 1, 's'), page(b => 2.5, 's.0'), all_stopped(3, 90), no_store(b => 60, 's.0'));
is_found(grace_over => 'let in when the grace is over', login(a => 1, 's'), page(b => 2.5, 's.0'), all_stopped(3, 90), page(b => 60, 's.0'));
is_found(grace_over => 'where there is none', login(a => 1, 's'), page(b => 2.5, 's.0'), all_stopped(3, 90), ask(closed => b => 10, 's.0'));
is_all_right('a node that was cut off, and its neighbour', login(a => 1, 's'), page(b => 2.5, 's.0'), fault('cut_off', 'b', 3, 90), no_store(b => 60, 's.0'), page(a => 60, 's.0'));
is_found(unavailable => 'the neighbour was not', login(a => 1, 's'), fault('cut_off', 'b', 3, 90), no_store(c => 60, 's.0'));
is_found('unavailable, server_error' => 'a login needs no store', all_stopped(0, 90), login(a => 5, 's', status => 503, set => undef), ask(page => a => 6, undef, status => 502));
is_found(known_end => 'who was logged out here is over here', login(a => 1, 's'), all_stopped(2, 90), logout(a => 5, 's.0'), no_store(a => 6, 's.0'));
is_found('refused, logout_refused' => 'a logout is none', login(a => 1, 's'), logout(a => 5, 's.0', status => 401, set => undef, reason => 'none'));

# --- answers and cookies ---

is_found(unanswered => 'no answer', login(a => 1, 's'), page(a => 3, 's.0', status => 0));
is_all_right('its worker was killed', login(a => 1, 's'), death('a', 3, 'worker_killed'), page(a => 3, 's.0', status => 0));
is_found(unanswered => 'a reload is no excuse', login(a => 1, 's'), death('a', 3, 'reloaded'), page(a => 3, 's.0', status => 0));
is_all_right('a long one is cut off by a logout', login(a => 1, 's'), page(a => 3, 's.0', status => 0, answered => 5), logout(b => 4, 's.0'));
is_found('reached' => 'refused, and the application was asked', login(a => 1, 's'), logout(a => 3, 's.0'), refused(a => 5, 's.0', 'ended', id => 'k'), { id => 'k', at => 5.05 } => 'app');
is_found(cleared => 'an outage takes a cookie away', login(a => 1, 's'), all_stopped(3, 10), no_store(b => 5, 's.0', page => 1, set => 'expired'));
is_found(cleared => 'an old token\'s refusal does', @renewed, refused(a => 20, 's.0', 'regenerated', page => 1, set => 'expired'));
is_found(cleared => 'not a page view', login(a => 1, 's'), logout(a => 2, 's.0'), refused(a => 5, 's.0', 'ended', page => 0, set => 'expired'));
is_all_right('a page view', login(a => 1, 's'), logout(a => 2, 's.0'), refused(a => 5, 's.0', 'ended', page => 1, set => 'expired'));
is_found(given => 'a refusal with a token', login(a => 1, 's'), logout(a => 2, 's.0'), refused(a => 5, 's.0', 'ended', set => 's.1'));
is_found(opened => 'a page that opens a session', login(a => 1, 's'), page(a => 2, 's.0', set => 't.0'));
is_found(opened => 'a login into a session that there was', login(a => 1, 's'), login(b => 2, 's'));
is_found(opened => 'a login into none', login(a => 1, 's', set => undef));

done_testing();
