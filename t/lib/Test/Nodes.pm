package Test::Nodes;

# Several nginx nodes of one application that share a store: each a Test::Nginx
# object with a zone and a port of its own, one recorder behind them all.

use strict;
use warnings;

use JSON::PP qw(decode_json);

use Test::Guard;
use Test::Nginx;

my $KEYS = join '', (map { sprintf '%02x', $_ } 1 .. 32), "\n";

# Options: names (list), realm (directives of session_realm; the store is one
# of them), locations (more of the server's), keys (text of the key file), workers (2 of each), zone (2m).
sub new {
    my ($class, %option) = @_;

    my $self = bless { names => $option{names} // [qw(a b)], node => {}, port => {}, realm => $option{realm},
        locations => $option{locations} // '', workers => $option{workers} // 2, zone => $option{zone} // '2m' }, $class;
    my $port = 8080;
    for my $name ($self->names()) {
        $self->{node}{$name} = Test::Nginx->new();
        $self->{port}{$name} = $port;
        $port += 10;
    }
    my ($first) = $self->names();
    $self->{up} = $self->{node}{$first}->has(qw(http proxy rewrite session_guard))->recorder(8081, sub {
        my ($request) = @_;
        my $say = $request->header('X-Say');
        return [ 200, { $say ? ('X-Accel-Session' => $say) : () }, "page\n" ];
    });
    $self->keys_are($option{keys} // $KEYS);
    return $self;
}

sub names { my ($self) = @_; return @{ $self->{names} } }

sub node {
    my ($self, $name) = @_;
    return $self->{node}{$name} // die "no node $name\n";
}

sub all { my ($self) = @_; return map { $self->node($_) } $self->names() }

# The realm's directives from the next run() or reload on.
sub realm_is {
    my ($self, $realm) = @_;
    $self->{realm} = $realm;
    return $self;
}

# The key file of these nodes, or of all.
sub keys_are {
    my ($self, $text, @names) = @_;

    for my $t (map { $self->node($_) } @names ? @names : $self->names()) {
        unlink $t->testdir() . '/a.key';
        $t->write_private_file('a.key', $text);
        chown 0, 0, $t->testdir() . '/a.key' if $> == 0;
    }
    return $self;
}

# Likewise, the size of its zone.
sub zone_is {
    my ($self, $zone) = @_;
    $self->{zone} = $zone;
    return $self;
}

sub configure {
    my ($self, @names) = @_;

    for my $name (@names ? @names : $self->names()) {
        $self->node($name)->write_file_expand('nginx.conf', <<"EOC");
%%TEST_GLOBALS%%
daemon off;
worker_processes $self->{workers};
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm a {
        zone $self->{zone}; key_file a.key; cookie a secure=off;
        $self->{realm}
    }
    server {
        listen 127.0.0.1:$self->{port}{$name};
        add_header X-Is "\$session_user/\$session_roles/\$session_attr_theme";
        add_header X-Status "\$session_status";
        location /         { session a; session_control on; proxy_pass http://127.0.0.1:8081; }
        location = /login  { session a optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location = /open   { session a optional; empty_gif; }
        location = /closed { session a; session_on_store_error closed; empty_gif; }
        location = /quiet  { session a; session_touch off; empty_gif; }
        location = /logout { session a; session_logout; }
        location = /status { session_status; }
        location = /free   { empty_gif; }
        $self->{locations}
    }
}
EOC
    }
    return $self;
}

sub run {
    my ($self, @names) = @_;
    $self->configure(@names);
    $self->node($_)->run() for @names ? @names : $self->names();
    return $self;
}

# Its zone is gone: it knows what the store knows.
sub restart {
    my ($self, @names) = @_;
    for my $name (@names ? @names : $self->names()) {
        $self->node($name)->stop();
        $self->run($name);
    }
    return $self;
}

# Moves the clocks of all nodes.
sub advance {
    my ($self, $seconds) = @_;
    $_->advance($seconds) for $self->all();
    return $self;
}

# --- one browser, whose requests any node may get ---

sub login {
    my ($self, $name, $say) = @_;
    my $client = client(port => $self->{port}{$name});
    $self->send($client, $name, 'POST', '/login', 'create; ' . ($say // 'user="alice"; roles="editor"'));
    return $client;
}

sub send {    ## no critic (ProhibitBuiltinHomonyms)
    my ($self, $client, $name, $method, $uri, $say) = @_;
    $client->{port} = $self->{port}{$name};
    return $client->request($method, $uri, ($method eq 'POST' ? { body => '' } : ()), fetched(), $say ? ('X-Say' => $say) : ());
}

sub get {
    my ($self, $client, $name, $uri) = @_;
    return $self->send($client, $name, 'GET', $uri // '/');
}

# Has the application say something about the session.
sub say {    ## no critic (ProhibitBuiltinHomonyms)
    my ($self, $client, $name, $say) = @_;
    return $self->send($client, $name, 'GET', '/', $say);
}

sub logout {
    my ($self, $client, $name) = @_;
    return $self->send($client, $name, 'POST', '/logout')->status();
}

# What the node takes the client for: user/roles/theme, or why not.
sub sees {
    my ($self, $name, $client, $uri) = @_;
    return $self->meaning($self->get($client, $name, $uri));
}

# Whoever is told that nobody knows must be able to come again.
sub meaning {
    my ($self, $response) = @_;
    if ($response->status() == 503) {
        my $good = !$response->set_cookies() && ($response->header('Retry-After') // '') eq '1';
        return reason($response) . ($good ? '' : ', wrongly');
    }
    return $response->status() == 200 ? $response->header('X-Is') : reason($response);
}

# How many of the clients the node sees so: "3 alice/editor/, 1 ended".
sub tally {
    my ($self, $name, @clients) = @_;
    my %count;
    $count{ $self->sees($name, $_) }++ for @clients;
    return join ', ', map { "$count{$_} $_" } sort keys %count;
}

# --- what an operator sees ---

sub status {
    my ($self, $name) = @_;
    my $response = client(port => $self->{port}{$name})->get('/status');
    return decode_json($response->body())->{realms}[0];
}

# True once the node has found all servers well.
sub is_well {
    my ($self, $name) = @_;
    return !grep { $_->{breaker} ne 'closed' } @{ $self->status($name)->{store}{servers} };
}

1;
