package Test::Nginx;

use strict;
use warnings;

use Exporter qw(import);
use File::Basename qw(dirname);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use Test2::API ();
use Test::More ();

use parent qw(Test::Nginx::Server Test::Nginx::Daemons Test::Nginx::AtEnd);

use Test::Nginx::Client qw(client);
use Test::Nginx::Conf;
use Test::Nginx::Http qw(
    log_core log_in log_out http http_get http_head http_post
    http_start http_end http_content http_gzip_request http_gzip_like
);
use Test::Nginx::Port qw(port);
use Test::Nginx::Process qw(spawn reap);

our @EXPORT = qw(
    log_in log_out http http_get http_head http_post port client ssl_cert
);
our @EXPORT_OK = qw(
    http_start http_end http_content http_gzip_request http_gzip_like
);
our %EXPORT_TAGS = (gzip => [qw(http_gzip_request http_gzip_like)]);

my @instances;    # of this process, until the end

# --- life and end of a test ---

# Options: user (of the workers; "root" for no change).
sub new {
    my ($class, %option) = @_;

    my $self = bless {
        owner        => $$,
        user         => $option{user},
        testdir      => tempdir('nginx-test-XXXXXXXX', TMPDIR => 1),
        load         => [],
        daemons      => [],
        expected     => [],
        may_hold     => ['conf-test.conf'],
        with_globals => 0,
    }, $class;
    push @instances, $self;
    Test2::API::test2_stack()->root()->follow_up(\&_assert_at_end) if @instances == 1;

    Test::Nginx::Conf::configure_arguments();    # dies if there is no nginx
    chmod oct('755'), $self->{testdir};
    $self->_give($self->{testdir});
    $self->write_file('guard.test', "\0" x 64);
    return $self;
}

# The workers' user must be able to write what nginx and our module keep.
sub _give {
    my ($self, $path) = @_;

    my $user = Test::Nginx::Conf::worker_user($self->{user}) or return;
    my ($name) = split m/\s+/x, $user;
    my ($uid, $gid) = (getpwnam $name)[ 2, 3 ];
    die "there is no user $name\n" unless defined $uid;
    chown $uid, $gid, $path;
    return;
}

sub plan {
    my ($self, $count) = @_;
    Test::More::plan(tests => $count + Test::Nginx::AtEnd::assertions());
    return $self;
}

# At done_testing, or at the end of a test with a plan.
my $asserted;

sub _assert_at_end {
    return if $asserted || !@instances || $instances[0]{owner} != $$;
    $asserted = 1;
    local $?;

    _stop_all();
    Test::Nginx::AtEnd::assert_all(@instances);
    return;
}

# The servers that a test object runs may serve the nginx of another.
sub _stop_all {
    $_->stop() for @instances;
    $_->stop_daemons() for @instances;
    return;
}

END {
    if (@instances && $instances[0]{owner} == $$) {
        my $status = $?;
        my $builder = Test::More->builder();
        _assert_at_end() if $status == 0 && $builder->expected_tests();
        _stop_all();
        my $good = $status == 0 && $builder->is_passing();
        $_->_clean($good) for @instances;
        $? = $status;    ## no critic (RequireLocalizedPunctuationVars)
    }
}

for my $signal (qw(INT TERM HUP)) {
    $SIG{$signal} = sub { exit 130 };    ## no critic (RequireLocalizedPunctuationVars)
}

# A failed test's directory stays, and the end of its error log is shown.
sub _clean {
    my ($self, $good) = @_;

    my $builder = Test::More->builder();
    if (!$good && !$ENV{TEST_NGINX_QUIET}) {
        $builder->diag("$_:\n", $self->_tail($_)) for grep { -s "$self->{testdir}/$_" } qw(error.log stderr.log);
    }
    if (!$good || $ENV{TEST_NGINX_LEAVE}) {
        $builder->diag("left: $self->{testdir}");
        return;
    }
    remove_tree($self->{testdir}, { safe => 0, error => \my $ignored });
    return;
}

sub _tail {
    my ($self, $name) = @_;

    return '' unless -e "$self->{testdir}/$name";
    my @lines = split m/^/xm, $self->read_file($name);
    splice @lines, 0, -30 if @lines > 30;
    return join '', @lines;
}

# --- what the test needs ---

# What is missing fails the run; nothing is skipped.
sub has {
    my ($self, @features) = @_;

    for my $feature (@features) {
        my $how = Test::Nginx::Conf::has_module($feature);
        if (($how // '') eq 'dynamic') {
            $self->_load($feature);
        }
        elsif (!$how && !Test::Nginx::Conf::has_feature($feature)) {
            my $nginx = Test::Nginx::Conf::binary();
            die $feature eq 'session_guard'
                ? "our module is not built: set TEST_NGINX_MODULE, or run make\n"
                : "$nginx has no $feature: see $nginx -V\n";
        }
    }
    return $self;
}

# One of nginx's own dynamic modules.
sub _load {
    my ($self, $feature) = @_;

    my ($directory) = Test::Nginx::Conf::configure_arguments() =~ m/--modules-path=(\S+)/x;
    for my $name ("ngx_http_${feature}_module", "ngx_${feature}_module", "ngx_http_${feature}_filter_module") {
        my $file = ($directory // '') . "/$name.so";
        next unless -e $file;
        push @{ $self->{load} }, $file;
        return;
    }
    die "the module of nginx for $feature is not installed\n";
}

sub has_module {
    my ($self, $name) = @_;
    return Test::Nginx::Conf::has_module($name) ? 1 : 0;
}

sub has_feature {
    my ($self, $name) = @_;
    return Test::Nginx::Conf::has_feature($name) ? 1 : 0;
}

sub has_version {
    my ($self, $needed) = @_;
    return Test::Nginx::Conf::has_version($needed) ? 1 : 0;
}

sub has_daemon {
    my ($self, $name) = @_;

    die "$name is not installed\n"
        unless grep { -x "$_/$name" } split(m/:/x, $ENV{PATH}), '/usr/sbin';
    return $self;
}

# A self-signed certificate, once: localhost.crt and localhost.key.
sub ssl_cert {
    my ($self) = @_;

    my $base = "$self->{testdir}/localhost";
    return $self if -e "$base.crt";
    my @command = (
        qw(openssl req -x509 -nodes -days 30 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1),
        '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1',
        '-keyout', "$base.key", '-out', "$base.crt",
    );
    my $log = "$self->{testdir}/openssl.out";
    my $pid = spawn({ stdout => $log, stderr => $log }, @command);
    reap($pid, 20);
    die "openssl made no certificate:\n" . $self->_tail('openssl.out') unless -s "$base.crt";
    $self->_give("$base.$_") for qw(crt key);    # workers read them if named by variables
    return $self;
}

# --- files ---

sub testdir { my ($self) = @_; return $self->{testdir} }

sub read_file {
    my ($self, $name) = @_;

    open(my $fh, '<:raw', "$self->{testdir}/$name") or die "cannot open $name: $!\n";
    return do { local $/ = undef; <$fh> } // '';
}

sub write_file {
    my ($self, $name, $content, %option) = @_;

    my $path = "$self->{testdir}/$name";
    my $directory = dirname($path);
    $self->make_directory(substr $directory, 1 + length $self->{testdir}) unless -d $directory;
    # the umask makes it private from the first moment
    my $mask = umask($option{private} ? oct('077') : oct('022'));
    my $opened = open(my $fh, '>:raw', $path);
    umask $mask;
    die "cannot write $name: $!\n" unless $opened;
    print {$fh} $content;
    close $fh or die "cannot write $name: $!\n";
    $self->_give($path);
    return $self;
}

# Readable by its owner only, as a key file must be.
sub write_private_file {
    my ($self, $name, $content) = @_;
    return $self->write_file($name, $content, private => 1);
}

# A directory that the workers may write to.
sub make_directory {
    my ($self, $name) = @_;

    make_path("$self->{testdir}/$name");
    $self->_give("$self->{testdir}/$name");
    return $self;
}

sub write_file_expand {
    my ($self, $name, $content) = @_;

    $self->{with_globals} = $content =~ m/%%TEST_GLOBALS%%/x if $name eq 'nginx.conf';
    return $self->write_file($name, $self->_expand($content));
}

sub _expand {
    my ($self, $content, $suffix) = @_;

    my %value = (
        TEST_GLOBALS        => Test::Nginx::Conf::globals($self->_globals_options($suffix)),
        TEST_GLOBALS_HTTP   => Test::Nginx::Conf::globals_http($self->{testdir}),
        TEST_GLOBALS_STREAM => $ENV{TEST_NGINX_GLOBALS_STREAM} // '',
        TESTDIR             => $self->{testdir},
    );
    $content =~ s/%%(TEST_GLOBALS(?:_HTTP|_STREAM)?|TESTDIR)%%/$value{$1}/gx;
    $content =~ s/127[.]0[.]0[.]1:(8\d\d\d)\b/'127.0.0.1:' . port($1)/gex;
    $content =~ s/%%PORT_(\d+)%%/port($1)/gex;
    $content =~ s/%%PORT_(\d+)_UDP%%/port($1, udp => 1)/gex;
    return $content;
}

sub _globals_options {
    my ($self, $suffix) = @_;
    return (
        directory => $self->{testdir},
        user      => $self->{user},
        load      => $self->{load},
        suffix    => $suffix,
    );
}

sub user {
    my ($self, $user) = @_;
    $self->{user} = $user;
    $self->_give($self->{testdir});
    return $self;
}

1;

__END__

=head1 NAME

Test::Nginx - runs nginx for a test, as the tests of nginx's own suite expect

=head1 SYNOPSIS

    use strict;
    use warnings;
    use Test::More;
    use Test::Nginx;

    my $t = Test::Nginx->new()->has(qw(http proxy ssl session_guard));
    my $up = $t->recorder(8081, {
        '/login' => [ 200, { 'X-Accel-Session' => 'create; user="alice"' }, 'hello' ],
    });
    $t->ssl_cert()->write_file_expand('nginx.conf', <<'EOC')->run();
    %%TEST_GLOBALS%%
    daemon off;
    events { }
    http {
        %%TEST_GLOBALS_HTTP%%
        session_realm app { zone 1m; idle_timeout 15m; }
        server {
            listen 127.0.0.1:8443 ssl http2;
            ssl_certificate localhost.crt;
            ssl_certificate_key localhost.key;
            location = /login { session app optional; session_control create; proxy_pass http://127.0.0.1:8081; }
            location /        { session app; proxy_pass http://127.0.0.1:8081; }
        }
    }
    EOC

    my $alice = client(ssl => 1);
    $alice->get('/login');
    is($alice->get('/')->status, 200, 'a session is let in');
    $t->advance(16 * 60);
    is($alice->get('/')->status, 401, 'an idle session is refused');
    is($up->count, 2, 'a refused request does not reach the upstream');

    done_testing();

C<< ->plan(N) >> in place of done_testing is as good; N does not count the
assertions that every file ends with: no alert or emerg in any log, no
sanitizer's report, no token in any file.  nginx is stopped before them.

=head1 ENVIRONMENT

    TEST_NGINX_BINARY          the server, /usr/sbin/nginx
    TEST_NGINX_MODULE          our module; build/test/*.so; empty: none
    TEST_NGINX_ASAN            1: sanitizers' options, times five times as long
    TEST_NGINX_TIMEOUT_FACTOR  another factor for all times
    TEST_NGINX_LEAVE           1: the test directory stays
    TEST_NGINX_VERBOSE         1: shows what goes over the wire
    TEST_NGINX_USER            workers' user, if root: "nobody nogroup"
    TEST_NGINX_LOG_LEVEL       notice; with debug the token check must fail,
                               since nginx writes request headers then
    TEST_NGINX_GLOBALS, TEST_NGINX_GLOBALS_HTTP    more configuration

What is missing (nginx, one of its modules, ours, a daemon) fails the run.

=head1 THE TEST OBJECT

    new(user => ...)                 "root": workers keep root
    has(names) has_daemon(name)      die if missing; load dynamic modules
    has_module has_feature has_version    true or false
    plan(n)
    testdir read_file(name) write_file(name, text)
    write_file_expand(name, text)    %%TEST_GLOBALS%%, %%TEST_GLOBALS_HTTP%%,
                                     %%TESTDIR%%, %%PORT_8080%%, %%PORT_8080_UDP%%,
                                     127.0.0.1:8xxx becomes a free port
    write_private_file(name, text)   mode 0600, of the workers' user
    make_directory(name)             one that workers may write to
    ssl_cert()                       localhost.crt, localhost.key
    run try_run(why) reload try_reload stop stop_fast kill_nginx
    upgrade_binary(code)             USR2; needs "daemon on"
    signal(name) master workers
    kill_worker(pid) signal_worker(pid, 'STOP')
    nginx_t(conf), test_conf_fails(conf)    (accepted?, what nginx -t says)
    nginx_t_http(text)               the same for the inside of http { }
    start_daemon(command or code)    its pid; run_daemon for nginx's interface
    signal_daemon(pid, 'STOP') stop_daemon(pid, 'KILL') stop_daemons
    wait_for(code, seconds) waitforfile(path, pid) waitforsocket("addr:port")
    advance(seconds)                 moves the module's clock
    fail_random(1), fail_random(0)
    todo_alerts expect_alert(qr/.../)
    secret(value)                    must be in no file either
    token_may_reach(recorder or file name)

reload() returns when the new workers have taken over; the old ones may still
be finishing.

=head1 FUNCTIONS

http, http_get, http_head, http_post, port, log_in, log_out, and on request
http_start, http_end, http_content, http_gzip_request, http_gzip_like: one raw
reply each, undef after 8 seconds without its end.  Options: SSL, start,
socket, PeerAddr, sleep, body, aborted.

=head1 CLIENT

    my $c = client(port => 8443, ssl => 1);

Options: port (nominal), ssl (1 or IO::Socket::SSL's options), name (Host),
host (address), local (own address, such as 127.0.0.2), keepalive, no_cookies,
version ("1.0").

    get(uri, headers) head(uri, headers) post(uri, body, headers)
    request(method, uri, headers)
    start(method, uri, headers)      a request under way; several at once
    finish(pending, seconds)         its response
    upgrade(uri, headers)            (response, socket after 101)
    h2(method, uri, headers)         by curl, over HTTP/2
    clone                            same settings, copy of the cookies
    cookie(name) cookies set_cookie(name, value) delete_cookie clear_cookies
    disconnect                       ends the kept connection

Headers are pairs; a list as value makes several lines, undef none; Cookie
takes the jar's place.  A hash reference before them sets options for this
request: body, keepalive, no_cookies, version.  The jar keeps names and values
only: attributes are for the test to look at.

A response has status (0: none came, see reason), reason, version, header(name),
headers, body, complete, head, raw, set_cookies, set_cookie(name); a cookie is
{ name, value, raw, attributes => { 'max-age' => ... } }.

A socket has send_bytes, read_until(qr/.../, seconds), read_all(seconds),
read_with(code, seconds), ended, was_reset, timed_out, close_now, handle.

=head1 RECORDER

    my $up = $t->recorder(8081, $answer, protocol => 'http', name => 'app');

Protocols: http, fastcgi, uwsgi, scgi, grpc.  $answer is a table by path (default =>
for the rest) or code that gets the request and returns an answer; without one
it is 200.  The code runs in another process: its variables last, but the test
does not see them.  An answer:

    [ status, { Name => value } or [ Name => value, ... ], body, options ]

The body is a string, or a list of strings and { delay => milliseconds } or
{ wait_file => 'name' } (until the test writes that file; 10 s at most).
Options:

    delay, wait_file    before anything is sent
    reset => 1          closes without an answer
    raw => bytes        these in place of a response
    chunked => 1        each string of the body a chunk
    length => n         this Content-Length; undef: none
    truncate => n       closes after n bytes of the body
    close => 1          closes afterwards
    reason => text
    upgrade => code     status 101: gets bytes, returns bytes; default: echo

Methods: requests, last, count, wait_for(n), clear, partial (bytes of requests
never whole), upgraded (bytes after a 101), opened, closed (connections), pid,
file.  A request: raw, method, uri, path, version, header(name), headers, body,
connection.  Requests may hold no token unless $t->token_may_reach($up).

=cut
