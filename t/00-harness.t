#!/usr/bin/perl

# The harness itself, on nginx without our module: what the other tests rely
# on must hold, and each assertion at a file's end must be able to fail.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use IO::Socket::UNIX;
use Socket qw(pack_sockaddr_un);
use Test::More;
use Time::HiRes qw(time);

use Test::Nginx qw(:DEFAULT http_start http_end http_content);

# our module has its own tests
local $ENV{TEST_NGINX_MODULE} = '';
delete local @ENV{qw(TEST_NGINX_USER TEST_NGINX_LEAVE TEST_NGINX_VERBOSE)};

my $token = join '', map { ('A' .. 'Z', 'a' .. 'z', 0 .. 9, '-', '_')[ rand 64 ] } 1 .. 64;
my $lib = abs_path(dirname(__FILE__) . '/lib');

my $t = Test::Nginx->new()->has(qw(http proxy fastcgi uwsgi scgi ssl v2 realip socket_ssl))
    ->has_daemon('curl');

my $calls = 0;
my $up = $t->recorder(8081, sub {
    my ($request) = @_;
    $calls++;
    my %answer = (
        '/login'     => [ 200, { 'Set-Cookie' => "id=$token; Path=/; HttpOnly; Max-Age=60" }, "in\n" ],
        '/logout'    => [ 200, { 'Set-Cookie' => 'id=; Max-Age=0' }, "out\n" ],
        '/twice'     => [ 200, [ 'X-Two' => 'a', 'X-Two' => 'b' ], "two\n" ],
        '/calls'     => [ 200, {}, "call $calls\n" ],
        '/chunked'   => [ 200, {}, [ 'one ', 'two' ], chunked => 1 ],
        '/cut'       => [ 200, {}, 'a body of some length', truncate => 6 ],
        '/gone'      => [ 200, {}, '', reset => 1 ],
        '/raw'       => [ 200, {}, '', raw => "HTTP/1.1 299 Odd\r\nContent-Length: 0\r\n\r\n" ],
        '/held'      => [ 200, {}, 'held', wait_file => 'let-go' ],
        '/held-body' => [ 200, {}, [ 'now ', { wait_file => 'let-go' }, 'then' ] ],
        '/late'      => [ 200, {}, 'late', delay => 300 ],
        '/none'      => [ 204, {} ],
        '/echo'      => [ 101, { Upgrade => 'websocket', Connection => 'upgrade' } ],
    );
    return $answer{ $request->path() };
});
my $app = [ 201, { 'X-From' => 'app' }, "from app\n" ];
my %app = (
    fastcgi => $t->recorder(8082, { default => $app }, protocol => 'fastcgi'),
    uwsgi   => $t->recorder(8083, { default => $app }, protocol => 'uwsgi'),
    scgi    => $t->recorder(8084, { default => $app }, protocol => 'scgi'),
);
$t->token_may_reach($up);

ssl_cert($t);
$t->write_file('plain.txt', 'a file');
$t->write_file_expand('nginx.conf', <<'EOC')->run();
%%TEST_GLOBALS%%
daemon off;
worker_processes 2;
events { }
http {
    %%TEST_GLOBALS_HTTP%%
    log_format where "$remote_addr $server_port $http_x";
    access_log %%TESTDIR%%/where.log where;
    map $http_upgrade $connection_upgrade { default upgrade; "" ""; }
    upstream app { server 127.0.0.1:8081; keepalive 4; }
    upstream fast { server 127.0.0.1:8082; keepalive 4; }
    server {
        listen 127.0.0.1:8080;
        listen %%PORT_8085%% http2;
        listen 127.0.0.1:8443 ssl http2;
        ssl_certificate     localhost.crt;
        ssl_certificate_key localhost.key;
        add_header X-Protocol $server_protocol;
        location / {
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Upgrade $http_upgrade;
        }
        location = /plain.txt { }
        location = /user      { return 200 "$remote_addr\n"; }
        location = /hop       { return 103; }
        location /fastcgi { fastcgi_pass fast; fastcgi_keep_conn on;
                            fastcgi_param REQUEST_METHOD $request_method;
                            fastcgi_param REQUEST_URI $request_uri; }
        location /uwsgi   { uwsgi_pass 127.0.0.1:8083; uwsgi_param CONTENT_LENGTH $content_length;
                            uwsgi_param REQUEST_METHOD $request_method;
                            uwsgi_param REQUEST_URI $request_uri; }
        location /scgi    { scgi_pass 127.0.0.1:8084; scgi_param CONTENT_LENGTH $content_length;
                            scgi_param SCGI 1; scgi_param REQUEST_METHOD $request_method;
                            scgi_param REQUEST_URI $request_uri; }
    }
}
EOC

# --- ports, files, globals ---

is(port(8080), port(8080), 'a nominal port keeps its number');
my ($number, $other_number) = map { port($_) } 8080, 8085;
like($t->read_file('nginx.conf'), qr/listen\s127.0.0.1:$number;/x, 'an address gets the free port');
like($t->read_file('nginx.conf'), qr/listen\s$other_number\s/x, 'so does a %%PORT%%');
{
    # two test files at once: both would find the port free before either listens
    socket my $other, Socket::AF_UNIX(), Socket::SOCK_DGRAM(), 0;
    ok(!bind($other, pack_sockaddr_un("\0nginx-test-port-" . port(8080))), 'a port taken is claimed');
    my $taken = IO::Socket::INET->new(LocalAddr => '127.0.0.1:8099', Listen => 1);
    isnt(port(8099), 8099, 'a port in use is not given out');
}
is((stat $t->testdir() . '/guard.test')[7], 64, 'the file for the test clock has its size');
$t->advance(90)->advance(-30.5)->fail_random(1);
is_deeply([ unpack 'q< L< L<', $t->read_file('guard.test') ], [ 59_500, 1, 0 ], 'the clock moves both ways, random fails');
$t->write_private_file('app.keys', 'k');
is((stat $t->testdir() . '/app.keys')[2] & oct('777'), oct('600'), 'a private file is private');
SKIP: {
    skip 'not root', 2 if $>;
    my ($worker) = $t->workers();
    my $nobody = getpwnam 'nobody';
    is((stat "/proc/$worker")[4], $nobody, 'workers of root are nobody');
    is((stat $t->testdir())[4], $nobody, 'and may write in the test directory');
}
eval { $t->has('no_such_thing') };
like($@, qr/has[ ]no[ ]no_such_thing/x, 'what nginx has not fails the run');
eval { $t->has('session_guard') };
like($@, qr/not[ ]built/x, 'our module missing fails the run');

# --- raw requests ---

like(http_get('/plain.txt'), qr/200[ ]OK.*a[ ]file\z/xs, 'http_get');
unlike(http_head('/plain.txt'), qr/a[ ]file/x, 'http_head has no body');
like(http_get('/plain.txt', SSL => 1), qr/a[ ]file/x, 'http_get over TLS');
like(http_post('/post', 'x=1'), qr/recorded/x, 'http_post');
is($up->last()->body(), 'x=1', 'its body is recorded');
my $half = http("GET /plain.txt HTTP/1.0\r\n", start => 1);
like(http("Host: localhost\r\n\r\n", socket => $half), qr/a[ ]file/x, 'a request in two pieces');
is(http_content("H: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n"), 'abcde', 'chunks are joined');
is(http_content("H: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), 'abc[no-last-chunk]', 'a missing last chunk shows');

# --- recorder ---

$up->clear();
my $c = client();
is($c->get('/a?b=c', 'X-One' => 'one', 'X-More' => [ 1, 2 ])->body(), "recorded\n", 'default answer');
my $request = $up->last();
is($request->method() . ' ' . $request->uri(), 'GET /a?b=c', 'method and URI recorded');
is($request->header('x-one'), 'one', 'a header recorded');
is_deeply([ $request->header('X-More') ], [ 1, 2 ], 'a repeated header recorded in its order');
like($request->raw(), qr{\AGET[ ]/a[?]b=c[ ]HTTP/1.1\r\n.*\r\n\r\n\z}xs, 'the raw request recorded');
my $long = join '', map { chr rand 256 } 1 .. 200_000;
$c->post('/bytes', $long);
ok($up->last()->body() eq $long, 'a long body of any bytes is recorded exactly');
is($up->count(), 2, 'requests are counted');
is($up->clear()->count(), 0, 'and forgotten');
is($up->last(), undef, 'with no last one');
my ($first) = $c->get('/calls')->body() =~ m/(\d+)/x;
is($c->get('/calls')->body(), 'call ' . ($first + 1) . "\n", 'the callback keeps its variables');
is_deeply([ $c->get('/twice')->header('X-Two') ], [ 'a', 'b' ], 'a repeated response header');
is(scalar $c->get('/twice')->header('X-Two'), 'a, b', 'joined in scalar context');
is($c->get('/chunked')->body(), 'one two', 'a chunked answer');
my $cut = $c->get('/cut');
is($cut->body(), 'a body', 'a body cut short');
ok(!$cut->complete(), 'is not complete');
is($c->get('/gone')->status(), 502, 'no answer at all');
is($c->get('/raw')->status(), 299, 'raw bytes as an answer');
is($c->get('/none')->status(), 204, 'an answer without a body');
is($c->head('/calls')->body(), '', 'HEAD');
my $begun = time();
$c->get('/late');
cmp_ok(time() - $begun, '>=', 0.3, 'a delayed answer is late');

my $held = $c->start(GET => '/held');
ok($t->wait_for(sub { $up->last()->path() eq '/held' }), 'a held request is under way');
is($c->get('/calls')->status(), 200, 'one answer held does not hold up another');
my $held_body = $c->start(GET => '/held-body');
$t->write_file('let-go', '');
is($c->finish($held)->body(), 'held', 'an answer waits for a file');
is($c->finish($held_body)->body(), 'now then', 'so does half of a body');

my ($upgraded, $socket) = $c->upgrade('/echo');
is($upgraded->status(), 101, 'an upgrade');
$socket->send_bytes('hello');
is($socket->read_until(qr/hello/), 'hello', 'then bytes are echoed');
is($up->upgraded(), 'hello', 'and recorded');
my $closed = $up->closed();
$socket->close_now();
ok($t->wait_for(sub { $up->closed() > $closed }), 'the end of a connection is recorded');

for my $protocol (sort keys %app) {
    my $long_value = 'v' x 300;
    my $response = $c->post("/$protocol?x", 'the body', 'X-Some-Name' => $long_value);
    is($response->status(), 201, "$protocol: status");
    is($response->body(), "from app\n", "$protocol: body");
    is($response->header('X-From'), 'app', "$protocol: header");
    my $seen = $app{$protocol}->last();
    is($seen->uri(), "/$protocol?x", "$protocol: parameter recorded");
    is($seen->header('X-Some-Name'), $long_value, "$protocol: header recorded");
    is($seen->body(), 'the body', "$protocol: body recorded");
}
$c->get('/fastcgi') for 1 .. 2;
# three requests, and each of the two workers has a connection of its own
cmp_ok($app{fastcgi}->opened(), '<=', 2, 'fastcgi: the connection is kept');

# --- client ---

for my $ssl (0, 1) {
    my $kind = $ssl ? 'TLS' : 'plain';
    my $user = client(ssl => $ssl);
    my $login = $user->get('/login');
    is_deeply(
        $login->set_cookie('id')->{attributes},
        { path => '/', httponly => 1, 'max-age' => 60 }, "$kind: attributes of a cookie"
    );
    is($user->cookie('id'), $token, "$kind: a cookie is kept");
    $user->get('/a');
    is($up->last()->header('Cookie'), "id=$token", "$kind: and sent");
    my $thief = $user->clone();
    $user->get('/a', Cookie => [ 'a=1', 'b=2' ]);
    like($up->last()->header('Cookie'), qr/\Aa=1[;,][ ]b=2\z/x, "$kind: cookies of the test's own");
    $user->get('/a', { no_cookies => 1 });
    is($up->last()->header('Cookie'), undef, "$kind: none");
    $user->get('/logout');
    is($user->cookie('id'), undef, "$kind: Max-Age=0 takes the cookie away");
    is($thief->cookie('id'), $token, "$kind: but not a clone's");

    my $kept = client(ssl => $ssl, keepalive => 1);
    my @sockets = map { $kept->get('/plain.txt'); $kept->{socket} } 1, 2;
    ok($sockets[0] && $sockets[0] == $sockets[1], "$kind: keepalive keeps the connection");
}
is(client(local => '127.0.0.2')->get('/user')->body(), "127.0.0.2\n", 'a client with another address');
is(client(version => '1.0')->get('/user')->header('X-Protocol'), 'HTTP/1.0', 'a client of HTTP/1.0');
is(client(port => 8086)->{port}, 8086, 'a client of another port');
eval { client(port => 8086)->get('/') };
like($@, qr/cannot[ ]connect/x, 'no server there: an error');
my $stuck = $c->start(GET => '/late');
my $none = $c->finish($stuck, 0.05);
is($none->status() . $none->reason(), '0timeout', 'an answer that does not come in time');

for my $user (client(ssl => 1), client(port => 8085)) {
    my $kind = $user->{ssl} ? 'TLS' : 'plain';
    my $login = $user->h2(GET => '/login');
    is($login->status(), 200, "HTTP/2 $kind: status");
    is($login->version(), '2', "HTTP/2 $kind: version");
    is($login->header('X-Protocol'), 'HTTP/2.0', "HTTP/2 $kind: as nginx sees it");
    is($login->body(), "in\n", "HTTP/2 $kind: body");
    is($user->cookie('id'), $token, "HTTP/2 $kind: a cookie is kept");
    $user->h2(POST => '/form', { body => 'a=1' }, 'X-One' => 1);
    is($up->last()->header('Cookie'), "id=$token", "HTTP/2 $kind: and sent");
    is($up->last()->body(), 'a=1', "HTTP/2 $kind: a body is sent");
    is($user->h2(HEAD => '/plain.txt')->status(), 200, "HTTP/2 $kind: HEAD");
}
is(client(port => 8086)->h2(GET => '/')->status(), 0, 'HTTP/2: no server there');

# --- nginx's processes and configurations ---

my @before = $t->workers();
is(scalar @before, 2, 'both workers are seen');
$t->kill_worker($before[0]);
ok($t->wait_for(sub { $t->workers() == 2 }), 'a killed worker is replaced');
eval { $t->kill_worker($$) };
like($@, qr/no[ ]worker/x, 'nothing but a worker is killed');
eval { $t->signal_daemon(1, 'CONT') };
like($@, qr/not[ ]started[ ]by[ ]this/x, 'nor signalled, but own daemons');

my %old = map { $_ => 1 } $t->workers();
$t->reload();
is(scalar(grep { $old{$_} } $t->workers()), 0, 'after a reload only new workers take requests');
is($c->get('/user')->status(), 200, 'and do so');

my ($ok, $said) = $t->nginx_t_http('server { listen 127.0.0.1:8080; }');
ok($ok, 'a good configuration is accepted') or diag($said);
($ok, $said) = $t->test_conf_fails("events { }\nnonsense 5;\n");
ok(!$ok, 'a bad one is refused');
like($said, qr/unknown[ ]directive[ ]"nonsense".*:2/x, 'with its reason');
unlike($t->read_file('error.log'), qr/nonsense/x, 'which is no emerg of the running server');
like($t->dump_config(), qr/configuration[ ]file/x, 'the configuration is dumped');
is($t->master(), $t->read_file('nginx.pid') + 0, 'and the running server keeps its pid file');

my $good = $t->read_file('nginx.conf');
$t->write_file('nginx.conf', "rubbish;\n")->expect_alert(qr/unknown[ ]directive[ ]"rubbish"/x);
ok(!$t->try_reload(), 'a reload that is refused is told of');
$t->write_file('nginx.conf', $good);
is($t->stop()->workers(), 0, 'stopped');
is($t->run()->workers(), 2, 'and started again');
$t->kill_nginx();
is($t->run()->workers(), 2, 'and again after a power cut');

my $daemon = $t->start_daemon('sleep', 1000);
ok(kill(0, $daemon), 'a daemon runs');
$t->signal_daemon($daemon, 'STOP')->stop_daemon($daemon);
ok(!kill(0, $daemon), 'and is ended, though stopped');

# --- the assertions at the end can fail ---

# Runs a test of its own in another process; returns its exit status and output.
my $children = tempdir(CLEANUP => 1);

sub child {
    my ($body, %environment) = @_;

    my $file = "$children/child.t";
    open(my $out, '>', $file) or die "$file: $!\n";
    print {$out} <<"EOT";
use strict; use warnings; use Test::More; use Test::Nginx;
my \$conf = "%%TEST_GLOBALS%%\\ndaemon off; events { } http { %%TEST_GLOBALS_HTTP%%\\n"
    . 'server { listen 127.0.0.1:8080; location / { proxy_pass http://127.0.0.1:8081; } } }';
my \$t = Test::Nginx->new();
$body
EOT
    close $out;
    local @ENV{ keys %environment } = values %environment;
    local $ENV{TMPDIR} = $children;
    chmod oct('755'), $children;
    my $output = qx{$^X -I$lib $file 2>&1};
    return wantarray ? ($? >> 8, $output) : $output;
}

sub left {
    my @left = glob "$children/nginx-test-*";
    return scalar @left;
}

my $run = 'my $up = $t->recorder(8081, { "/login" => [ 200, { "Set-Cookie" => "id=" . "Tk4" x 21 . "x" }, "" ] });'
    . ' $t->write_file_expand("nginx.conf", $conf)->run(); my $c = client(); $c->get("/login");';

my ($status, $output) = child("\$t->plan(1); $run pass('one');");
is($status, 0, 'a good test with a plan passes') or diag($output);
like($output, qr/\A1[.][.]4\n.*ok[ ]4[ ]-[ ]no[ ]token/xs, 'with the assertions at its end');
($status, $output) = child("$run pass('one'); done_testing();");
is($status, 0, 'a good test without a plan passes') or diag($output);
like($output, qr/ok[ ]4[ ]-[ ]no[ ]token.*1[.][.]4/xs, 'with the assertions at its end');
is(left(), 0, 'and its directory is removed');

my %red = (
    'an alert' => [ 'no alert', '$t->write_file("x.log", "2026/01/01 00:00:00 [alert] 1#1: x\n");' ],
    'an emerg' => [ 'no alert', '$t->write_file("nginx.conf", "y;")->try_reload();' ],
    'a crashed worker' => [ 'no alert', 'my ($w) = $t->workers(); kill KILL => $w; $t->wait_for(sub { $t->read_file("error.log") =~ /alert/ });' ],
    'nginx that does not quit' => [ 'no alert', 'my $s = http("GET / HTTP/1.1\r\n", start => 1);' ],
    'a sanitizer report' => [ 'no sanitizer', '$t->write_file("asan.77", "==77==ERROR: AddressSanitizer: x\n");' ],
    'undefined behaviour' => [ 'no sanitizer', '$t->write_file("stderr.log", "x.cc:1:2: runtime error: y\n");' ],
    'a token in a log' => [ 'no token', '$t->write_file("own.log", "cookie " . $c->cookie("id"));' ],
    'part of a token' => [ 'no token', '$t->write_file("own.log", substr $c->cookie("id"), 5, 44);' ],
    'a token in hexadecimal' => [ 'no token', 'use MIME::Base64; $t->write_file("own.log", unpack "H*", decode_base64($c->cookie("id")));' ],
    'a token at the upstream' => [ 'no token', '$c->get("/a");' ],
    'a token in the access log' => [ 'no token', '$c->get("/a?" . $c->cookie("id"), Cookie => undef);' ],
    'a token seen by http_get' => [ 'no token', 'http_get("/login") =~ /id=(\w+)/; $t->write_file("a.jsonl", $1);' ],
    'a token in a file of a directory' => [ 'no token', '$t->write_file("cache/1/x", $c->cookie("id"));' ],
    'a secret of the test' => [ 'no token', '$t->secret("hunter2hunter2")->write_file("own.log", "a hunter2hunter2");' ],
);
for my $case (sort keys %red) {
    my ($assertion, $deed) = @{ $red{$case} };
    ($status, $output) = child("$run $deed pass('x'); done_testing();", TEST_NGINX_TIMEOUT_FACTOR => '0.3', TEST_NGINX_QUIET => 1);
    like($output, qr/^not[ ]ok[ ]\d+[ ]-[ ]\Q$assertion\E/xm, "$case is found") or diag($output);
    is($status, 1, "$case: and alone") or diag($output);
}
cmp_ok(left(), '==', scalar keys %red, 'the directories of failed tests stay');

my %green = (
    'an alert expected' => '$t->write_file("x.log", "2026/01/01 00:00:00 [alert] 1#1: x\n")->expect_alert(qr/1#1: x/);',
    'alerts as a TODO'  => '$t->write_file("x.log", "2026/01/01 00:00:00 [alert] 1#1: x\n")->todo_alerts();',
    'a token where it may be' => '$c->get("/a"); $t->token_may_reach($up);',
    'a worker killed by the test' => '$t->kill_worker($t->workers());',
    'a fast stop with a request half sent' => 'my $s = http("GET / HTTP/1.1\r\n", start => 1); $t->stop_fast();',
);
for my $case (sort keys %green) {
    ($status, $output) = child("$run $green{$case} pass('x'); done_testing();");
    is($status, 0, "$case passes") or diag($output);
}

# --- what a test leaves behind ---

($status, $output) = child('$t->write_file_expand("nginx.conf", "wrong;"); $t->run();', TEST_NGINX_QUIET => 1);
isnt($status, 0, 'nginx that does not start fails the run');
like($output, qr/did[ ]not[ ]start[ ][(]ended.*unknown[ ]directive[ ]"wrong"/xs, 'with its reason');
($status, $output) = child('pass("x"); done_testing();', TEST_NGINX_BINARY => '/nowhere/nginx');
like($output, qr{no[ ]nginx[ ]at[ ]/nowhere/nginx}x, 'no server fails the run');
isnt($status, 0, 'with a status');

for my $end ('die "in the middle";', 'kill TERM => $$; sleep 5;', 'kill KILL => $$;') {
    (undef, $output) = child(
        "$run \$| = 1; print qq(pids \@{[ \$t->master(), \$t->workers(), \$up->pid() ]}\\n); $end", TEST_NGINX_QUIET => 1);
    my ($pids) = $output =~ m/^pids[ ](.*)/xm;
    my @pids = split m/[ ]/x, $pids // '';
    is(scalar @pids, 3, "$end servers run") or diag($output);
    ok($t->wait_for(sub { !grep { Test::Nginx::Process::title($_) =~ m/nginx|perl/x } @pids }), "$end leaves no process");
}

($status, $output) = child(<<'EOT');
(my $daemonised = $conf) =~ s/daemon off;/daemon on;/;
$t->plan(3)->write_file_expand('nginx.conf', $daemonised)->run();
my $old = $t->master();
my $both;
$t->upgrade_binary(sub { $both = kill 0, $old, $t->master() });
isnt($t->master(), $old, 'another master');
is($both, 2, 'both at once');
like(http_get('/'), qr/502/, 'serves');
EOT
is($status, 0, 'a binary upgrade') or diag($output);

done_testing();
