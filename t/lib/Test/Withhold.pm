package Test::Withhold;

# Two equal servers, one of a realm with a store and one of a realm without:
# an answer that had to wait for a write must be, byte for byte, the one that
# did not.  Used by t/26*.

use strict;
use warnings;

use IO::Select;
use Digest::SHA ();
use JSON::PP qw(decode_json);
use Test::More ();
use Time::HiRes qw(time);

use Test::Guard;
use Test::Nginx;
use Test::Nginx::Memcached;
use Test::Nginx::Socket;

# The test build's store stalls for so long at most; requests would wait longer (timeout=10s).
my $STALL = 10;
our ($STORE, $PLAIN) = (8080, 8082);    # their ports; HTTP/2 four further

# Options: locations (text; REALM is replaced), http (more of the http level), http2.
sub new {
    my ($class, $t, %option) = @_;

    my $self = bless { t => $t, logins => [] }, $class;
    $self->{fence} = $t->recorder(8099, { '/login' => [ 200, { 'X-Accel-Session' => 'create; user="alice"' }, "in\n" ] });
    $t->write_private_file('a.key', join('', map { sprintf '%02x', $_ } 1 .. 32) . "\n");
    chown 0, 0, $t->testdir() . '/a.key' if $> == 0;
    my $store = Test::Nginx::Memcached->new($t, 8098)->address();
    my $servers = join "\n", map { _server(@{$_}, %option) } [ a => $STORE ], [ b => $PLAIN ];
    $t->write_file_expand('nginx.conf', <<"EOC");
%%TEST_GLOBALS%%
daemon off;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    session_realm a { zone 1m; key_file a.key; store memcached $store timeout=10s; revalidate 1h; cookie a secure=off; }
    session_realm b { zone 1m; key_file a.key; cookie b secure=off; }
    send_timeout 120s;
    @{[ map { "${_}_read_timeout 120s;" } qw(proxy fastcgi uwsgi scgi grpc) ]}
    @{[ $option{http} // '' ]}
$servers
}
EOC
    $t->run();
    return $self;
}

sub _server {
    my ($realm, $port, %option) = @_;

    my $http2 = $option{http2} ? sprintf 'listen 127.0.0.1:%d http2;', $port + 4 : '';
    (my $text = <<"EOC") =~ s/REALM/$realm/gx;
    server {
        listen 127.0.0.1:$port;
        $http2
        add_header X-User "\$session_user";
        location /fence         { session REALM optional; proxy_pass http://127.0.0.1:8099; }
        location = /fence/login { session REALM optional; session_control create; proxy_pass http://127.0.0.1:8099/login; }
        location = /logout      { session REALM; session_logout; }
        location = /status      { session_status; }
        $option{locations}
    }
EOC
    return $text;
}

sub _status { return decode_json(client(port => $STORE)->get('/status')->body())->{realms}[0] }
sub sessions { return _status()->{zone}{sessions} }
sub written  { return _status()->{store}{writes}{operations} }

# Has the code send something while the store stalls; it returns the sockets that must stay silent
# (or $is_silent says whether all is).
# They are looked at when the header of the answer has been dealt with, and what can be sent at once
# has been: $when says so (a login's session stands in the zone, if not told otherwise), and another
# request has gone all the way through the event loop since. Again, if that took so long that the store
# went on by itself.
sub silent {
    my ($self, $code, $when, $is_silent) = @_;

    my $silent;
    for my $try (1 .. 5) {
        my $before = $self->sessions();
        $self->{t}->store('stalls');
        my $started = time();
        my @sockets = $code->();
        my $stands = $self->{t}->wait_for($when // sub { $self->sessions() >= $before + @sockets });
        client(port => $STORE)->get('/fence') for 1 .. 2;
        $silent = $stands && ($is_silent ? $is_silent->() : !IO::Select->new(map { $_->handle() } @sockets)->can_read(0));
        $self->{t}->store('works');
        return ($silent, @sockets) if $silent || time() - $started < 0.9 * $STALL;
        Test::More::diag("too slow, once more (try $try)");
    }
    return (0);
}

# A login by a raw request (without Host and Connection, and without an end): waits, and is answered
# as it would be without a store.  Option: body.  Returns the response's bytes.
sub waits {
    my ($self, $phrase, $request, %option) = @_;

    my $raw = whole($request, %option);
    my $expected = exchange($PLAIN, $raw)->read_all();
    my ($silent, $socket) = $self->silent(sub { exchange($STORE, $raw) });
    Test::More::ok($silent, "$phrase: waits for the store");
    my $got = $socket ? $socket->read_all() : undef;
    $self->is_same($got, $expected, "$phrase: then is what it would have been");
    return $got // '';
}

sub whole {
    my ($request, %option) = @_;

    my ($line, @lines) = split m/\n/x, $request;
    my %fetched = fetched();
    push @lines, 'Host: localhost', map { "$_: $fetched{$_}" } sort keys %fetched;
    push @lines, 'Connection: close' unless grep { m/\AConnection:/xi } @lines;
    push @lines, 'Content-Length: ' . length $option{body} if defined $option{body};
    return join "\r\n", $line, @lines, '', $option{body} // '';
}

sub exchange {
    my ($nominal, $raw) = @_;
    my $socket = Test::Nginx::Socket->connect_to(port => port($nominal));
    $socket->send_bytes($raw);
    return $socket;
}

sub is_same {
    my ($self, $got, $expected, $phrase) = @_;

    $self->remember($got);
    my @normal = map { normal($_) } $got, $expected;
    return Test::More::ok(1, $phrase) if defined $got && $normal[0] eq $normal[1];
    # Megabytes do not help a reader.
    return Test::More::is(_short($normal[0]), _short($normal[1]), $phrase) || Test::More::diag('(they differ further on)');
}

# Where a chunk ends is a matter of when its bytes came.
sub normal {
    my ($raw) = @_;

    my ($head) = ($raw // '') =~ m/\A(.*?\r\n\r\n)/xs or return '(no answer, or without its end)';
    my $body = Test::Nginx::Http::http_content($raw);
    for ($head, $body) {    # a body may hold what came after it on the connection
        s/\b0{8}\d{12}\b/BOUNDARY/xg;    # of ranges: each has another
        s/^(Date:[ ])[^\r\n]*/$1.../xmg;
        s/^(Set-Cookie:[ ])[ab]=([^;]*)/$1 . 'x=' . (length($2) == 64 ? 'TOKEN' : $2)/xmge;
    }
    return $head . $body;
}

sub _short {
    my ($text) = @_;
    return length($text) . ' bytes, ' . Digest::SHA::sha1_hex($text) . ': ' . substr $text, 0, 800;
}

# Every session whose cookie somebody was given must be in the store.
sub remember {
    my ($self, $raw) = @_;

    my ($head) = ($raw // '') =~ m/\A(.*?)\r\n\r\n/xs;
    Test::Nginx::Leaks::note_reply($raw);
    push @{ $self->{logins} }, $1 while ($head // '') =~ m/^Set-Cookie:[ ]a=([\w-]{64});/xmgi;
    return;
}

# kill -9 at once: what was answered is there.
sub all_are_stored {
    my ($self) = @_;

    $self->{t}->kill_nginx();
    $self->{t}->run();
    my $known = grep { $self->user_of($_) eq 'alice' } @{ $self->{logins} };
    Test::More::cmp_ok($known, '>', 0, 'logins were answered');
    return Test::More::is($known, scalar @{ $self->{logins} }, 'and every one of them is in the store');
}

sub user_of {
    my ($self, $token) = @_;
    return client(port => $STORE)->get('/fence', Cookie => "a=$token", fetched())->header('X-User') // '';
}

1;
