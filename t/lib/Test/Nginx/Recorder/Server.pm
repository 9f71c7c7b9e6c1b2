package Test::Nginx::Recorder::Server;

# The serving process of a recorder: one loop over all its connections, so
# that the test's callback keeps its variables from request to request, and
# one answer that is held back does not hold up the others.
#
# An answer becomes a list of steps: bytes to send, { seconds => n } or
# { file => path, seconds => at most } to wait, { upgrade => how }, { close => 1 }.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use List::Util qw(any);
use Time::HiRes qw(time);

use Test::Nginx::Process qw(timeout);

my %reason_of = (
    200 => 'OK', 204 => 'No Content', 302 => 'Found', 304 => 'Not Modified',
    401 => 'Unauthorized', 403 => 'Forbidden', 404 => 'Not Found',
    500 => 'Internal Server Error', 503 => 'Service Unavailable',
);

# How often a wait for a file looks.
my $TICK = 0.01;

sub new {
    my ($class, %self) = @_;

    $self{listener} = IO::Socket::INET->new(
        Proto     => 'tcp',
        LocalAddr => '127.0.0.1',
        LocalPort => $self{port},
        Listen    => 128,
        ReuseAddr => 1,
    ) or die "recorder: cannot listen on $self{port}: $!\n";
    return bless { %self, connections => {}, number => 0 }, $class;
}

sub close_listener {
    my ($self) = @_;
    close $self->{listener};
    return;
}

sub serve {
    my ($self) = @_;

    local $SIG{PIPE} = 'IGNORE';
    open($self->{record}, '>>:raw', $self->{log}) or die "$self->{log}: $!\n";
    my $listener = $self->{listener};
    $self->{select} = IO::Select->new($listener);
    while (1) {
        my $waiting = any { @{ $_->{steps} } } values %{ $self->{connections} };
        for my $handle ($self->{select}->can_read($waiting ? $TICK : undef)) {
            if ($handle == $listener) {
                $self->_accept();
            }
            elsif (my $connection = $self->{connections}{ fileno $handle }) {
                $self->_read($connection);
            }
        }
        $self->_advance($_) for values %{ $self->{connections} };
    }
    return;
}

sub _accept {
    my ($self) = @_;

    my $handle = $self->{listener}->accept() or return;
    my $connection = {
        handle => $handle,
        number => ++$self->{number},
        buffer => '',
        steps  => [],
        # FastCGI keeps the request's id here
        protocol => bless({}, ref $self->{protocol}),
    };
    $self->{connections}{ fileno $handle } = $connection;
    $self->{select}->add($handle);
    $self->_record('open', $connection, '');
    return;
}

# One write to a file opened for appending, hence never half a frame.
sub _record {
    my ($self, $kind, $connection, $bytes) = @_;

    my $length = length $bytes;
    syswrite $self->{record}, "$kind $connection->{number} $length\n$bytes\n";
    return;
}

sub _read {
    my ($self, $connection) = @_;

    my $n = sysread $connection->{handle}, my $bytes, 65_536;
    return $self->_close($connection) unless $n;
    if (my $upgraded = $connection->{upgraded}) {
        $self->_record('upgraded', $connection, $bytes);
        my $reply = ref $upgraded eq 'CODE' ? $upgraded->($bytes) : $bytes;
        push @{ $connection->{steps} }, $reply if defined $reply;
        return;
    }
    $connection->{buffer} .= $bytes;
    return;
}

sub _close {
    my ($self, $connection) = @_;

    $self->_record('partial', $connection, $connection->{buffer})
        if length $connection->{buffer};
    $self->_record('close', $connection, '');
    $self->{select}->remove($connection->{handle});
    delete $self->{connections}{ fileno $connection->{handle} };
    close $connection->{handle};
    return;
}

# Does the steps that are due; when none is left, takes the next request.
sub _advance {
    my ($self, $connection) = @_;

    my $steps = $connection->{steps};
    while (1) {
        while (@{$steps}) {
            my $step = $steps->[0];
            return if ref $step && !_is_due($step);
            shift @{$steps};
            return $self->_close($connection) if ref $step && $step->{close};
            $connection->{upgraded} = $step->{upgrade} if ref $step && $step->{upgrade};
            next if ref $step;
            return $self->_close($connection)
                unless _write_all($connection->{handle}, $step);
        }
        return if $connection->{upgraded};
        my $request = $connection->{protocol}->parse(\$connection->{buffer}) or return;
        $self->_record('request', $connection, $request->raw());
        $request->{connection} = $connection->{number};
        push @{$steps}, $self->_steps($connection->{protocol}, $request);
    }
    return;
}

# A wait begins when its turn comes.
sub _is_due {
    my ($step) = @_;

    return 1 unless $step->{seconds};
    return 1 if $step->{file} && -e $step->{file};
    $step->{until} //= time() + $step->{seconds};
    return time() >= $step->{until};
}

# Blocks while nginx does not read: an answer larger than the socket's
# buffers then holds up the other connections.
sub _write_all {
    my ($handle, $bytes) = @_;

    my $offset = 0;
    while ($offset < length $bytes) {
        my $n = syswrite $handle, $bytes, length($bytes) - $offset, $offset;
        return 0 unless $n;
        $offset += $n;
    }
    return 1;
}

# --- from the test's answer to steps ---

sub _steps {
    my ($self, $protocol, $request) = @_;

    my ($status, $headers, $body, %option) = @{ $self->_answer($request) };
    $body //= '';
    my @waits = map { $self->_wait($_) } grep { exists $option{ $_->[0] } }
        map { [ $_ => $option{$_} ] } qw(delay wait_file);
    return (@waits, { close => 1 }) if $option{reset};
    return (@waits, $option{raw}, $option{close} ? { close => 1 } : ()) if defined $option{raw};

    my @parts = map { ref $_ ? $self->_wait(%{$_}) : $_ } ref $body ? @{$body} : $body;
    my @headers = ref $headers eq 'HASH'
        ? map { [ $_ => $headers->{$_} ] } sort keys %{$headers}
        : @{ $protocol->by_two(@{ $headers || [] }) };
    my $close = $option{close} || defined $option{truncate} || !$request->{keep};
    my $bodiless = $status == 101 || $status == 204 || $status == 304;
    push @headers, _framing($request, $close, $bodiless, \@parts, \@headers, %option);

    my $reason = $option{reason} // $reason_of{$status} // 'Status';
    my $head = $protocol->opening($status, $reason, \@headers);
    return (@waits, $head, { upgrade => $option{upgrade} || 1 }, @parts) if $status == 101;

    @parts = () if $bodiless || $request->method() eq 'HEAD';
    @parts = _truncated($option{truncate}, @parts) if defined $option{truncate};
    @parts = map { ref || !length ? $_ : sprintf("%x\r\n%s\r\n", length, $_) } @parts if $option{chunked};
    push @parts, "0\r\n\r\n"
        if $option{chunked} && !defined $option{truncate} && $request->method() ne 'HEAD';
    @parts = map { ref ? $_ : $protocol->wrap($_) } @parts;
    push @parts, $protocol->end() unless defined $option{truncate};
    return (@waits, $head, @parts, $close ? { close => 1 } : ());
}

sub _answer {
    my ($self, $request) = @_;

    my $answer = $self->{answer};
    $answer = ref $answer eq 'CODE' ? $answer->($request)
        : $answer ? $answer->{ $request->path() } // $answer->{default}
        : undef;
    return $answer || [ 200, [ 'Content-Type' => 'text/plain' ], "recorded\n" ];
}

# Headers that say where the body ends, unless the test gave its own.
sub _framing {
    my ($request, $close, $bodiless, $parts, $headers, %option) = @_;

    my %given = map { lc $_->[0] => 1 } @{$headers};
    my @framing;
    push @framing, [ Connection => 'close' ]
        if $close && !$given{connection} && !$request->{framed};
    return @framing if $bodiless || $given{'content-length'} || $request->{framed};
    return (@framing, [ 'Transfer-Encoding' => 'chunked' ]) if $option{chunked};
    return @framing if exists $option{length} && !defined $option{length};

    my $length = 0;
    $length += length for grep { !ref } @{$parts};
    push @framing, [ 'Content-Length' => $option{length} // $length ];
    return @framing;
}

# A wait is { delay => ms } or { wait_file => name in the test directory }.
sub _wait {
    my ($self, @pair) = @_;
    my ($kind, $value) = ref $pair[0] ? @{ $pair[0] } : @pair;

    return { seconds => $value / 1000 } if $kind eq 'delay';
    die "recorder: what is $kind?\n" if $kind ne 'wait_file';
    # Not for ever: an answer that is late shows better than one that hangs.
    return { file => "$self->{testdir}/$value", seconds => timeout(10) };
}

# Only so many bytes of the body.
sub _truncated {
    my ($left, @parts) = @_;

    my @kept;
    for my $part (@parts) {
        if (!ref $part) {
            $part = substr $part, 0, $left;
            $left -= length $part;
        }
        push @kept, $part;
    }
    return @kept;
}

1;
