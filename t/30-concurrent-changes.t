#!/usr/bin/perl

# Two nodes change one session without having heard of each other.
# Attacks and faults: a change that is lost without a word; a session that has
# ended on the other node and is changed here; two changes that undo each other
# for ever.

use strict;
use warnings;

use FindBin;
use JSON::PP qw(decode_json);
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;
use Test::Nginx::Port qw(port);
use Test::Guard;

# Two nginx with zones of their own, one memcached.
my %node = (a => Test::Nginx->new(), b => Test::Nginx->new());
my %port = (a => 8080, b => 8090);
my $up = $node{a}->has(qw(http proxy rewrite session_guard))->recorder(8081, sub {
    my ($request) = @_;
    my $say = $request->header('X-Say');
    return [ 200, { $say ? ('X-Accel-Session' => $say) : () }, "page\n" ];
});
my $memcached = port(8011);
$node{a}->start_daemon('memcached', '-u', 'nobody', '-l', '127.0.0.1', '-p', $memcached);
$node{a}->waitforsocket("127.0.0.1:$memcached");

for my $name (sort keys %node) {
    my $t = $node{$name};
    $t->write_private_file('a.key', join('', map { sprintf '%02x', $_ } 1 .. 32) . "\n");
    chown 0, 0, $t->testdir() . '/a.key' if $> == 0;
    $t->write_file_expand('nginx.conf', <<"EOC")->run();
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm a {
        zone 1m; key_file a.key; store memcached 127.0.0.1:8011 timeout=1s connect_timeout=1s;
        revalidate 1h; cookie a secure=off; idle_timeout off; absolute_timeout 8h;
    }
    server {
        listen 127.0.0.1:$port{$name};
        add_header X-Is "\$session_roles/\$session_attr_theme/\$session_attr_lang";
        location /        { session a; session_control on; proxy_pass http://127.0.0.1:8081; }
        location = /login { session a optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /logout { session a; session_logout; }
        location = /status { session_status; }
    }
}
EOC
}

# One browser, whose requests any node may get.
sub on {
    my ($client, $name, $say, $uri) = @_;
    $client->{port} = $port{$name};
    return $client->get($uri // '/', fetched(), $say ? ('X-Say' => $say) : ());
}

sub is_now {
    my ($client, $name) = @_;
    my $response = on($client, $name);
    return $response->status() == 200 ? $response->header('X-Is') : reason($response);
}

sub again {
    my ($name) = @_;
    my $status = client(port => $port{$name})->get('/status');
    return decode_json($status->body())->{realms}[0]{events}{store_change_again};
}

sub known_to_both {
    my $client = client();
    on($client, 'a', 'create; user="alice"; roles="editor"', '/login');
    is(is_now($client, $_), 'editor//', "known to $_") for qw(a b);
    return $client;
}

my $client = known_to_both();
on($client, 'a', 'update; data.theme="light"');
is(is_now($client, 'b'), 'editor//', 'b has not heard of it');
is(on($client, 'b', 'update; data.lang="de"')->status(), 200, 'and makes a change of its own');
is(is_now($client, 'b'), 'editor/light/de', 'which was made again, on top of the other');
is(again('b'), 1, 'once');
on($client, 'a', 'update; data.theme="dark"');
is(is_now($client, 'a'), 'editor/dark/de', 'the other way round, too');
$node{b}->stop();
$node{b}->run();
is(is_now($client, 'b'), 'editor/dark/de', 'the store has both');

# The same value twice is one change.
$client = known_to_both();
on($client, $_, 'update; data.theme="light"') for qw(a b);
is(is_now($client, $_), 'editor/light/', "the same change on both: $_") for qw(a b);

# Ended there, changed here.
$client = known_to_both();
my $late = $client->clone();
$client->{port} = $port{a};
is($client->post('/logout', '', fetched())->status(), 204, 'logged out on a');
is(on($late, 'b', 'update; data.theme="light"')->status(), 200, 'b lets a last request in, within its bound');
is(is_now($late, 'b'), 'ended', 'whose change brought the end here');
is(is_now($late, 'a'), 'ended', 'and nothing back there');

# Renewed there, changed here: the old handle has lost.
$client = known_to_both();
my $old = $client->clone();
on($client, 'a', 'update; roles="reader"');
isnt($client->cookie('a'), $old->cookie('a'), 'new rights on a, a new handle');
on($old, 'b', 'update; data.theme="light"');
is(is_now($old, 'b'), '//', 'the old handle has on b what both have, no more: no role');
is(is_now($client, 'b'), 'reader//', 'the new one has them there');
$_->advance(11) for values %node;
is(is_now($old, $_), 'regenerated', "the old one is over on $_") for qw(a b);

done_testing();
