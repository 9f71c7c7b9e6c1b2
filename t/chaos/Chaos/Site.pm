package Chaos::Site;

# What chaos is made of: three nodes that share three memcached servers with two
# replicas (group "net"), one node with an LMDB file (group "file"), and one
# application behind them all that writes down whom it is told that it serves.
# The ways in which they are started, reloaded, resized and looked at.

use strict;
use warnings;

use IO::Socket::INET;
use JSON::PP qw(decode_json);
use Time::HiRes qw(time);

use Chaos::History;
use Chaos::Limits qw(%LIMIT);
use Test::Nginx;
use Test::Nginx::Memcached;
use Test::Nginx::Process qw(children title wait_until);

my %GROUP = (net => [qw(a b c)], file => [qw(d)]);
my @SERVERS = (8011 .. 8013);

sub new {
    my ($class, %option) = @_;

    my $self = bless { node => {}, port => {}, zone => {}, offset => {} }, $class;
    my $port = 8080;
    for my $name (map { @{ $GROUP{$_} } } qw(net file)) {
        my $t = $self->{node}{$name} = Test::Nginx->new()->has(qw(http proxy session_guard));
        $self->{port}{$name} = $port;
        $self->{zone}{$name} = '2m';
        $t->write_private_file('a.key', 'c7' x 32 . "\n");
        $t->make_directory('store');
        # Processes are killed on purpose, and locks are found with their dead holders.
        $t->expect_alert(qr/exited[ ]on[ ]signal[ ]9|repaired|shared[ ]memory[ ]zone.*was[ ]locked/x);
        $port += 10;
    }
    my $first = $self->{node}{a};
    $self->{directory} = $first->testdir() . '/history';
    $first->make_directory('history');
    $self->{history} = Chaos::History->writer("$self->{directory}/faults.history");
    $self->{app} = $first->recorder(8081, _application("$self->{directory}/app.history"));
    $self->{servers} = [ map { Test::Nginx::Memcached->new($first, $_, memory => $_ == $SERVERS[-1]) } @SERVERS ];
    $self->configure($_)->{node}{$_}->run() for $self->nodes();
    return $self;
}

# It says what the client tells it to say, late if so told.
sub _application {
    my ($path) = @_;
    my $history;
    return sub {
        my ($request) = @_;
        $history //= Chaos::History->writer($path);
        $history->add(app => id => $request->header('X-Ask'), at => sprintf('%.6f', time()),
            user => scalar $request->header('X-User'), roles => scalar $request->header('X-Roles'),
            session => scalar $request->header('X-Session'));
        my $say = $request->header('X-Say');
        my $late = $request->header('X-Late');
        return [ 200, { $say ? ('X-Accel-Session' => $say) : () }, "page\n", $late ? (delay => 1000 * $late) : () ];
    };
}

sub nodes  { my ($self, $group) = @_; return map { @{ $GROUP{$_} } } $group // qw(net file) }
sub node   { my ($self, $name) = @_; return $self->{node}{$name} }
sub server { my ($self, $i) = @_; return $self->{servers}[$i] }
sub servers { return 0 .. $#SERVERS }

# The ports as they are, for other processes.
sub ports {
    my ($self, $group) = @_;
    return { map { $_ => port($self->{port}{$_}) } $self->nodes($group) };
}

sub configure {
    my ($self, $name) = @_;

    my $wait = $LIMIT{exchange} . 's';
    my $store = $name eq 'd' ? 'lmdb store/a.mdb map_size=64m'
        : 'memcached ' . join(' ', map { $_->address() } @{ $self->{servers} }) . " replicas=2 timeout=$wait connect_timeout=$wait";
    $store =~ s{0[.](\d)s}{${1}00ms}gx;
    $store =~ s{store/}{$self->{node}{d}->testdir() . '/store/'}ex;
    $self->{node}{$name}->write_file_expand('nginx.conf', <<"EOC");
%%TEST_GLOBALS%%
daemon off;
worker_processes 2;
events { worker_connections 1024; }
http {
    %%TEST_GLOBALS_HTTP%%
    access_log off;
    session_realm a {
        zone $self->{zone}{$name}; key_file a.key; cookie a secure=off;
        identity X-User=\$session_user X-Roles=\$session_roles X-Session=\$session_id;
        idle_timeout $LIMIT{idle}s; absolute_timeout $LIMIT{absolute}s;
        rotate $LIMIT{rotate}s grace=$LIMIT{rotation_grace}s;
        revalidate $LIMIT{revalidate}s;
        store $store;
    }
    server {
        listen 127.0.0.1:$self->{port}{$name};
        session_on_store_error grace=$LIMIT{grace}s;
        add_header X-Is "\$session_user/\$session_roles/\$session_attr_theme";
        location /          { session a; session_control on; proxy_pass http://127.0.0.1:8081; }
        location /app/login { session a optional; session_control create; proxy_pass http://127.0.0.1:8081; }
        location /app/open  { session a optional; proxy_pass http://127.0.0.1:8081; }
        location = /closed  { session a; session_on_store_error closed; empty_gif; }
        location = /quiet   { session a; session_touch off; empty_gif; }
        location = /logout  { session a; session_logout; }
        location = /status  { session_status; add_header X-Worker \$pid; }
    }
}
EOC
    return $self;
}

# --- from the outside ---

# True if every worker of every node of a group says that its store is well and
# that it has nothing left to write; each is asked until it has answered.
sub is_at_rest {
    my ($self, $group) = @_;

    for my $name ($self->nodes($group)) {
        my $t = $self->{node}{$name};
        return 0 if grep { title($_) =~ m/shutting[ ]down/x } children($t->master());
        my %unheard = map { $_ => 1 } $t->workers();
        for (my $tries = 0; %unheard && $tries < 60; $tries++) {
            my $response = eval { client(port => $self->{port}{$name})->get('/status') } or return 0;
            return 0 if $response->status() != 200;
            my $store = decode_json($response->body())->{realms}[0]{store};
            return 0 if $store->{waiting} || $store->{retrying};
            return 0 if grep { ($_->{breaker} // 'closed') ne 'closed' } $store, @{ $store->{servers} || [] };
            return 0 if ($store->{feed_lag_ms} // 0) > 5000;
            delete $unheard{ $response->header('X-Worker') };
        }
        return 0 if %unheard;
    }
    return 1;
}

# How many times this node has written back what an empty server had lost.
sub written_back {
    my ($self, $name, $i) = @_;
    my $port = port($SERVERS[$i]);
    return scalar(() = $self->{node}{$name}->read_file('error.log') =~ m/port[ ]$port,[ ]came[ ]up[ ]empty/xg);
}

# --- time ---

# Moves the clocks of some nodes, one after the other; each is written down.
sub step {
    my ($self, $seconds, @nodes) = @_;

    for my $name (@nodes) {
        my $from = time();
        $self->{node}{$name}->advance($seconds);
        $self->{offset}{$name} = ($self->{offset}{$name} // 0) + $seconds;
        $self->note(clock => node => $name, from => $from, to => time(), offset => $self->{offset}{$name});
    }
    return;
}

sub note {
    my ($self, $kind, %field) = @_;
    $_ = sprintf '%.6f', $_ for grep { defined } @field{qw(from from2 till to)};
    $self->{history}->add($kind, %field);
    return;
}

1;
