package Test::Nginx::Response;

# A response as a client saw it.  Holds values only.

use strict;
use warnings;

use Test::Nginx::Leaks qw(note_set_cookie);

# From the raw head ("HTTP/1.1 200 OK\r\nName: value\r\n...").
sub from_head {
    my ($class, $head) = @_;

    my ($first, @lines) = split m/\r?\n/x, $head;
    my ($version, $status, $reason) = $first =~ m{\AHTTP/([\d.]+)[ ](\d{3})(?:[ ](.*))?\z}x
        or return;
    my @headers = map { [ m/\A([^:]*):[ \t]*(.*?)[ \t]*\z/x ] } grep { length } @lines;
    my $self = bless {
        version => $version,
        status  => $status,
        reason  => $reason,
        headers => \@headers,
        head    => $head,
        body    => '',
    }, $class;
    note_set_cookie($_) for $self->header('Set-Cookie');
    return $self;
}

# Stands for an answer that did not come: status 0.
sub none {
    my ($class, $why) = @_;
    return bless {
        version => '', status => 0, reason => $why, headers => [], head => '', body => '',
    }, $class;
}

sub version { my ($self) = @_; return $self->{version} }
sub status  { my ($self) = @_; return $self->{status} }
sub reason  { my ($self) = @_; return $self->{reason} }
sub headers { my ($self) = @_; return @{ $self->{headers} } }
sub body    { my ($self) = @_; return $self->{body} }
sub head    { my ($self) = @_; return $self->{head} }
sub raw     { my ($self) = @_; return $self->{head} . $self->{body} }

# True if the body came whole.
sub complete { my ($self) = @_; return $self->{complete} ? 1 : 0 }

# All values of a header: in list context the list, else joined by ", ";
# undef if there is none.
sub header {
    my ($self, $name) = @_;

    my @values = map { $_->[1] } grep { lc $_->[0] eq lc $name } $self->headers();
    return @values if wantarray;
    return @values ? join(', ', @values) : undef;
}

# Each as { name, value, raw, attributes => { lower-case name => value or 1 } }.
sub set_cookies {
    my ($self) = @_;

    my @cookies;
    for my $raw ($self->header('Set-Cookie')) {
        my ($pair, @attributes) = split m/\s*;\s*/x, $raw;
        my ($name, $value) = $pair =~ m/\A([^=]*)=(.*)\z/xs ? ($1, $2) : ('', $pair);
        my %attribute = map { m/\A([^=]*)=(.*)\z/xs ? (lc $1, $2) : (lc, 1) } @attributes;
        push @cookies,
            { name => $name, value => $value, raw => $raw, attributes => \%attribute };
    }
    return @cookies;
}

# The last Set-Cookie of that name, or undef.
sub set_cookie {
    my ($self, $name) = @_;

    my @named = grep { $_->{name} eq $name } $self->set_cookies();
    return $named[-1];
}

# A cookie that is being taken away: Max-Age of 0 or less, or, without one,
# a date in the past.
sub is_expiry {
    my ($cookie) = @_;

    my $attribute = $cookie->{attributes};
    return $attribute->{'max-age'} <= 0 if ($attribute->{'max-age'} // '') =~ m/\A-?\d+\z/x;
    return ($attribute->{expires} // '') =~ m/\b19\d\d\b/x;
}

1;
