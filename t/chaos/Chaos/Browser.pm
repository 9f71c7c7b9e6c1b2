package Chaos::Browser;

# One browser: a jar with at most one session cookie, which obeys Set-Cookie in
# the order in which answers arrive, and any number of requests under way.  Also
# what a thief does with a copy of its cookie.  Writes a line of history for
# every request once it is over.

use strict;
use warnings;

use MIME::Base64 qw(decode_base64 encode_base64);

# What a user may do: how it is asked for, and what the application says to it.
# Those without words are answered by nginx itself.
my %DO = (
    page    => [ GET  => '/app/page' ],
    quiet   => [ GET  => '/quiet' ],
    closed  => [ GET  => '/closed' ],
    open    => [ GET  => '/app/open' ],
    login   => [ POST => '/app/login', 'create; user="%s"; roles="%s"; data.theme="%s"' ],
    logout  => [ POST => '/logout' ],
    destroy => [ POST => '/app/say', 'destroy' ],
    roles   => [ POST => '/app/say', 'update; roles="%s"' ],
    theme   => [ POST => '/app/say', 'update; data.theme="%s"' ],
    renew   => [ POST => '/app/say', 'renew' ],
    reauth  => [ POST => '/app/say', 'reauth; level=aal2' ],
);

# $process is shared by its browsers: { name, wire, history, ports => { node =>
# port } }; the names of sessions and tokens are kept there, too.
sub new {
    my ($class, $process, $name) = @_;
    return bless { process => $process, name => $name, jar => undef, logins => 0, under_way => 0 }, $class;
}

sub token     { my ($self) = @_; return $self->{jar} }
sub under_way { my ($self) = @_; return $self->{under_way} }

# Options: who (owner; thief, forger), token (the jar's), named (its name), roles, theme, page (1:
# asked for as a page view), pace (seconds between the pieces of a slow
# client), late (seconds the application takes), spoofed, then (called with the answer).
sub ask {
    my ($self, $do, $node, %option) = @_;

    my $process = $self->{process};
    my $id = $process->{name} . '-' . ++$process->{asks};
    my %line = (id => $id, node => $node, user => $self->{name}, do => $do, who => $option{who} // 'owner',
        map { $_ => $option{$_} } grep { defined $option{$_} } qw(roles theme late page pace));
    my $value = exists $option{token} ? $option{token} : $self->{jar};
    $line{token} = $option{named} // $self->_named($value) if defined $value;
    $line{user} = $self->{name} . '.' . ++$self->{logins} if $do eq 'login';
    my $pieces = _pieces($self->_request($do, \%line, $value, %option), $option{pace});
    $self->{under_way}++;
    my $read_after = $option{pace} ? 3 * $option{pace} : 0;
    $process->{wire}->send_request($process->{ports}{$node}, $pieces, $read_after, sub {
        my ($answer) = @_;
        $self->{under_way}--;
        $self->_told(\%line, $answer);
        $option{then}->(\%line) if $option{then};
    });
    return;
}

sub _request {
    my ($self, $do, $line, $value, %option) = @_;

    my ($method, $path, $words) = @{ $DO{$do} };
    my @words = $do eq 'login' ? @{$line}{qw(user roles theme)} : $line->{$do} // ();
    my ($mode, $dest) = $option{page} ? qw(navigate document) : qw(cors empty);
    return join "\r\n", "$method $path HTTP/1.1", 'Host: localhost', 'Connection: close', "X-Ask: $line->{id}",
        'Accept: text/html', 'Sec-Fetch-Site: same-origin', "Sec-Fetch-Mode: $mode", "Sec-Fetch-Dest: $dest",
        ($words ? 'X-Say: ' . sprintf $words, @words : ()),
        ($option{late} ? "X-Late: $option{late}" : ()),
        ($option{spoofed} ? ('X-User: mallory', 'x_user: mallory', 'X-ROLES: r0 r1 r2 r3 r4 r5') : ()),
        (defined $value ? "Cookie: other=1; a=$value" : ()),
        ($method eq 'POST' ? ('Content-Length: 0') : ()), q{}, q{};
}

sub _pieces {
    my ($text, $pace) = @_;
    return [ [ 0, $text ] ] unless $pace;
    my $third = int(length($text) / 3);
    return [ [ 0, substr $text, 0, $third ], [ $pace, substr $text, $third, $third ], [ 2 * $pace, substr $text, 2 * $third ] ];
}

sub _told {
    my ($self, $line, $answer) = @_;

    my %header;
    push @{ $header{ lc $_->[0] } }, $_->[1] for @{ $answer->{headers} };
    $line->{$_} = sprintf '%.6f', $answer->{$_} for qw(sent answered);
    $line->{status} = $answer->{status};
    $line->{cut} = 1 unless $answer->{whole};
    $line->{reason} = $header{'session-status'}[0] if $header{'session-status'};
    $line->{saw} = $header{'x-is'}[0] if $header{'x-is'};
    for my $cookie (grep { m/\Aa=/x } @{ $header{'set-cookie'} || [] }) {
        my ($value) = $cookie =~ m/\Aa=([^;]*)/x;
        my $expired = $cookie =~ m/;[ ]*Max-Age=0/xi;
        $line->{set} = $expired ? 'expired' : $self->_named($value);
        $self->{jar} = $expired ? undef : $value if $line->{who} eq 'owner';
    }
    $self->{process}{history}->add(ask => %{$line});
    return;
}

# --- tokens have names in the history: session.place in the order of first sight ---

sub _bytes {
    my ($token) = @_;
    (my $plain = $token) =~ tr{-_}{+/};
    return decode_base64($plain);
}

sub _named {
    my ($self, $token) = @_;

    my $process = $self->{process};
    return $process->{named}{$token} if $process->{named}{$token};
    my $bytes = _bytes($token);
    return 'malformed' if length $token != 64 || length $bytes != 48;
    my $handle = substr $bytes, 1, 16;
    my $session = $process->{number_of}{$handle} //= "$process->{name}:" . ++$process->{handles};
    my $place = $process->{places}{$session}++ // 0;
    $process->{token_of}{"$session.$place"} = $token;
    return $process->{named}{$token} = "$session.$place";
}

# A token that was never handed out: another's handle, with a secret of one's own.
sub forged {
    my ($self, $token) = @_;

    my $bytes = _bytes($token);
    my ($from, $length) = rand() < 0.5 ? (17, 16) : (33, 15);
    substr $bytes, $from, $length, join '', map { chr int rand 256 } 1 .. $length;
    (my $forged = encode_base64($bytes, '')) =~ tr{+/}{-_};
    my $name = $self->_named($token);
    $name =~ s/[.]\d+\z/.forged/x;
    return (token => $forged, named => $name, who => 'forger');
}

1;
