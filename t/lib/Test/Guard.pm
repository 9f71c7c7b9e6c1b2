package Test::Guard;

# What the tests of our module share: how a browser asks, what an attacker
# adds, and what no upstream may ever have been sent.

use strict;
use warnings;

use Exporter qw(import);
use Test::More ();

our @EXPORT = qw(navigation fetched spoofed nothing_foul reason);

# A page asked for by a browser, from the same origin; and a script's request.
sub navigation {
    my (%other) = @_;
    return (
        'Accept'         => 'text/html',
        'Sec-Fetch-Site' => $other{site} // 'same-origin',
        'Sec-Fetch-Mode' => $other{mode} // 'navigate',
        'Sec-Fetch-Dest' => $other{dest} // 'document',
    );
}

sub fetched { return navigation(mode => 'cors', dest => 'empty') }

# Header spoofing: who the client says it is.  "mallory" must never get through.
sub spoofed {
    return (
        'X-User'          => 'mallory',
        'x-uSER'          => 'mallory',
        'X_User'          => 'mallory',
        'x.user'          => 'mallory',
        'X-Roles'         => 'mallory',
        'X-Accel-Session' => 'create; user="eve"',
    );
}

# The requests that an upstream was sent, as it was sent them: none of a
# guarded path without a session's identity, none of a free path with one, in
# none what a client says about itself.  Tokens are looked for at each file's end.
sub nothing_foul {
    my ($upstream, $guarded, $free, $phrase) = @_;

    my @foul;
    for my $request ($upstream->requests()) {
        my $uri = $request->uri();
        my $user = $request->header('X-User') // '';
        push @foul, "client's identity: $uri" if $request->raw() =~ m/mallory/x;
        push @foul, "nobody: $uri" if $uri =~ $guarded && $user !~ m/\A(?:alice|bob)\z/x;
        push @foul, "identity of $user: $uri" if $uri =~ $free && $user ne '';
    }
    return Test::More->builder()->is_eq(join("\n", @foul), '', $phrase);
}

# The reason in a problem's body.
sub reason {
    my ($response) = @_;
    my ($reason) = $response->body() =~ m/"reason":"([a-z_]+)"/x;
    return $reason // 'status ' . $response->status();
}

1;
