#!/usr/bin/perl

# limit_sessions on one node.
# Attacks and faults: a password that is shared, or stolen and used beside its owner; logins in
# parallel by several workers that together exceed the limit; an owner who is locked out although
# their other sessions are over; a limit that a renewal, a reload or a killed worker makes forget.

use strict;
use warnings;

use FindBin;
use JSON::PP qw(decode_json);
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Nginx::Process qw(children title);
use Test::Guard;

my $t = Test::Nginx->new()->has(qw(http proxy rewrite session_guard));
my $up = $t->recorder(8081, sub {
    my ($request) = @_;
    my $say = $request->header('X-Say');
    return [ 200, { $say ? ('X-Accel-Session' => $say) : () }, "page\n" ];
});

sub configuration {
    my ($limits) = @_;
    return <<"EOC";
%%TEST_GLOBALS%%
daemon off;
worker_processes 4;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    upstream app { server 127.0.0.1:8081; }
    session_realm a { zone 1m; cookie a secure=off; idle_timeout 15m; $limits }
    server {
        listen 127.0.0.1:8080;
        add_header X-User "\$session_user";
        add_header X-Reason "\$session_reason" always;
        location / { session a; session_control on; proxy_pass http://app; }
        location = /login  { session a optional; session_control create; proxy_pass http://app; }
        location = /logout { session a; session_logout; }
        location = /status { session_status; }
    }
}
EOC
}

sub reload_with {
    my ($limits) = @_;
    $t->write_file_expand('nginx.conf', configuration($limits));
    return $t->try_reload();
}

$t->write_file_expand('nginx.conf', configuration('limit_sessions 3; limit_sessions 1 role=admin evict=deny;'))->run();

sub login {
    my ($user, $more) = @_;
    my $client = client();
    $client->{answer} = $client->request('POST', '/login', { body => '' }, fetched(),
        'X-Say' => qq(create; user="$user") . ($more // ''));
    return $client;
}

sub says { my ($client, $say) = @_; return $client->get('/', fetched(), 'X-Say' => $say) }

# "valid", or why not.
sub state {
    my ($client) = @_;
    my $response = $client->get('/', fetched());
    return $response->status() == 200 ? 'valid' : reason($response);
}
sub states { return join ' ', map { state($_) } @_ }

sub status { return decode_json(client()->get('/status')->body())->{realms}[0] }

# --- the oldest goes ---

my @alice = map { login('alice') } 1 .. 3;
is(states(@alice), 'valid valid valid', 'three sessions');
my $bob = login('bob');
push @alice, login('alice');
is(states(@alice), 'ended valid valid valid', 'a fourth ends the first');
is(state($bob), 'valid', 'of nobody else');
is(status()->{events}{over_limit}, 1, 'and is counted');
is(status()->{zone}{sessions}, 4, 'what the zone keeps for it is no session');

is($alice[3]->request('POST', '/logout', { body => '' }, fetched())->status(), 204, 'logged out');
push @alice, login('alice');
is(states(@alice), 'ended valid valid none valid', 'who has gone does not count');

says($alice[1], 'renew');
push @alice, login('alice');
is(states(@alice), 'ended ended valid none valid valid', 'a renewed session is as old as its login');
says($alice[2], 'update; data.theme="dark"');
says($alice[2], 'update; roles="editor"');
is(state($alice[2]), 'valid', 'changed twice');
push @alice, login('alice');
is(state($alice[2]), 'ended', 'and is the oldest still');

# A login in the browser that has a session already replaces that one.
my $again = $alice[6];
$again->request('POST', '/login', { body => '' }, fetched(), 'X-Say' => 'create; user="alice"');
is(states(@alice[ 4 .. 6 ]), 'valid valid valid', 'logged in once more in the same browser: nobody else goes')
    or diag(states(@alice));

# --- deny ---

my $root = login('root', '; roles="admin"');
is(state($root), 'valid', 'an admin');
my $second = login('root', '; roles="admin"');
is($second->{answer}->status(), 403, 'a second time');
is($second->{answer}->header('Session-Status'), 'limited', 'it says why');
is($second->{answer}->header('X-Reason'), 'limited', '$session_reason, too');
is($second->{answer}->header('Set-Cookie'), undef, 'no cookie');
is(state($root), 'valid', 'the first stays');
is(status()->{events}{limited}, 1, 'counted');
my $token = $root->cookie('a');
$root->request('POST', '/login', { body => '' }, fetched(), 'X-Say' => 'create; user="root"; roles="admin"');
isnt($root->cookie('a'), $token, 'in the same browser it replaces its own, which denies nothing');
is(state($root), 'valid', 'and is good');
is(login('root')->{answer}->status(), 200, 'without the role three may be');
$root->request('POST', '/logout', { body => '' }, fetched());
is(login('eve', '; roles="admin"')->{answer}->status(), 200, 'another admin may come');

# The one whose sessions are all idle by now is not locked out.
my $idle = login('carol', '; roles="admin"');
$t->advance(16 * 60);
is(login('carol', '; roles="admin"')->{answer}->status(), 200, 'an idle session denies nobody');

# --- many at once ---

sub at_once {
    my ($count, $user, $more) = @_;
    my @clients = map { client() } 1 .. $count;
    my @started = map { $_->start('POST', '/login', { body => '' }, fetched(),
        'X-Say' => qq(create; user="$user") . ($more // '')) } @clients;
    $clients[$_]->{answer} = $clients[$_]->finish($started[$_]) for 0 .. $#clients;
    return @clients;
}

for my $round (1 .. 5) {
    my @many = at_once(24, "crowd$round");
    is((grep { $_->{answer}->status() == 200 } @many) + 0, 24, "24 logins at once by four workers, $round: all are let in");
    is((grep { state($_) eq 'valid' } @many) + 0, 3, 'three are left');
    my @admins = at_once(24, "admins$round", '; roles="admin"');
    is((grep { $_->{answer}->status() == 200 } @admins) + 0, 1, 'of 24 of whom one may be, one is let in');
    is((grep { state($_) eq 'valid' } grep { $_->{answer}->status() == 200 } @admins) + 0, 1, 'and stays');
}

# --- reload, another limit, another size, a killed worker ---

my @dave = map { login('dave') } 1 .. 3;
ok(reload_with('limit_sessions 2;'), 'a lower limit');
is(states(@dave), 'valid valid valid', 'ends nobody by itself');
push @dave, login('dave');
is(states(@dave), 'ended ended valid valid', 'but at the next login');
$t->write_file_expand('nginx.conf', configuration('limit_sessions 2;') =~ s/zone 1m/zone 2m/xr);
ok($t->try_reload(), 'a larger zone');
push @dave, login('dave');
is(states(@dave), 'ended ended ended valid valid', 'knows who is there');

sub workers { return grep { title($_) !~ m/shutting/x } children($t->master()) }
my @workers = workers();
kill 'KILL', $workers[0];
$t->expect_alert(qr/exited[ ]on[ ]signal[ ]9/x);
ok($t->wait_for(sub { my @now = workers(); @now == @workers && !grep { $_ == $workers[0] } @now }), 'a worker was killed');
push @dave, login('dave');
is(states(@dave), 'ended ended ended ended valid valid', 'that is not forgotten');

done_testing();
