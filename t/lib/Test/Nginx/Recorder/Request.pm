package Test::Nginx::Recorder::Request;

# A request as an upstream was sent it.  Holds values only.

use strict;
use warnings;

sub new {
    my ($class, %field) = @_;
    return bless {%field}, $class;
}

sub raw        { my ($self) = @_; return $self->{raw} }
sub method     { my ($self) = @_; return $self->{method} }
sub uri        { my ($self) = @_; return $self->{uri} }
sub version    { my ($self) = @_; return $self->{version} }
sub body       { my ($self) = @_; return $self->{body} }
sub connection { my ($self) = @_; return $self->{connection} }
sub headers    { my ($self) = @_; return @{ $self->{headers} } }

sub path {
    my ($self) = @_;
    my ($path) = $self->{uri} =~ m/\A([^?]*)/x;
    return $path;
}

# All values of a header: in list context the list, else joined by ", ";
# undef if there is none.  Under FastCGI, uwsgi and SCGI a header is the
# parameter HTTP_NAME; a parameter's own name is good as well.
sub header {
    my ($self, $name) = @_;

    my %wanted = (lc $name => 1);
    if ($self->{parameters}) {
        (my $parameter = lc "http_$name") =~ tr/-/_/;
        $wanted{$parameter} = 1;
    }
    my @values = map { $_->[1] } grep { $wanted{ lc $_->[0] } } $self->headers();
    return @values if wantarray;
    return @values ? join(', ', @values) : undef;
}

1;
