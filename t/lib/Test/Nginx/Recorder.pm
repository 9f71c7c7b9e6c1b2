package Test::Nginx::Recorder;

# An upstream that writes down, byte for byte, every request it is sent, and
# answers as the test says: see "RECORDER" in Test::Nginx.  This is the
# test's end of it; the serving process is in Test::Nginx::Recorder::Server.

use strict;
use warnings;

use Test::Nginx::Process qw(wait_until);
use Test::Nginx::Recorder::Protocol;
use Test::Nginx::Recorder::Server;

# $answer: code, or a table { '/path' => [response], default => [response] }.
# Options: protocol (http, fastcgi, uwsgi, scgi, grpc), name.
sub start {
    my ($class, $test, $nominal, $port, $answer, %option) = @_;

    my $name = $option{name} // $nominal;
    my $file = "recorder-$name.log";
    my $self = bless {
        file     => $file,
        path     => $test->testdir() . "/$file",
        name     => $name,
        protocol => Test::Nginx::Recorder::Protocol->named($option{protocol} // 'http'),
    }, $class;
    $self->clear();

    # Listening before the fork: the first request need not wait.
    my $server = Test::Nginx::Recorder::Server->new(
        port     => $port,
        log      => $self->{path},
        protocol => $self->{protocol},
        answer   => $answer,
        testdir  => $test->testdir(),
    );
    $self->{pid} = $test->start_daemon(sub { $server->serve() });
    $server->close_listener();
    return $self;
}

sub file { my ($self) = @_; return $self->{file} }
sub name { my ($self) = @_; return $self->{name} }
sub pid  { my ($self) = @_; return $self->{pid} }

# All requests so far, in the order in which they were complete.
sub requests {
    my ($self) = @_;

    my @requests;
    for my $frame ($self->_frames('request')) {
        my $raw = $frame->{bytes};
        my $request = $self->{protocol}->parse(\$raw);
        $request->{connection} = $frame->{connection};
        push @requests, $request;
    }
    return @requests;
}

sub last {
    my ($self) = @_;
    return ($self->requests())[-1];
}

sub count { my ($self) = @_; return $self->_count('request') }

sub _count {
    my ($self, $kind) = @_;
    my @frames = $self->_frames($kind);
    return scalar @frames;
}

# Waits until so many requests have come; false if they do not in time.
sub wait_for {
    my ($self, $count, $seconds) = @_;
    return wait_until(sub { $self->count() >= $count }, $seconds);
}

# Bytes of requests that never became whole, and those after a 101.
sub partial  { my ($self) = @_; return map { $_->{bytes} } $self->_frames('partial') }
sub upgraded { my ($self) = @_; return join '', map { $_->{bytes} } $self->_frames('upgraded') }

# Connections that were taken, and those that nginx or the recorder closed.
sub opened { my ($self) = @_; return $self->_count('open') }
sub closed { my ($self) = @_; return $self->_count('close') }

# Forgets all so far.
sub clear {
    my ($self) = @_;
    open(my $fh, '>', $self->{path}) or die "$self->{path}: $!\n";
    close $fh;
    return $self;
}

# The file is a row of frames: "kind connection length\n", the bytes, "\n".
sub _frames {
    my ($self, $kind) = @_;

    open(my $fh, '<:raw', $self->{path}) or die "$self->{path}: $!\n";
    my @frames;
    while (defined(my $line = <$fh>)) {
        my ($this, $connection, $length) = $line =~ m/\A(\w+)[ ](\d+)[ ](\d+)\n\z/x
            or last;
        my $got = read $fh, my $bytes, $length + 1;
        last if $got < $length + 1;    # just being written
        chop $bytes;
        push @frames, { connection => $connection, bytes => $bytes } if $this eq $kind;
    }
    return @frames;
}

1;
