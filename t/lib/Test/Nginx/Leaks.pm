package Test::Nginx::Leaks;

# What every test file asserts at its end: the logs hold no alert and no
# sanitizer's report, and no file of the test directory holds a session
# token.  Owns the list of the secrets seen; the client functions feed it.

use strict;
use warnings;

use Exporter qw(import);
use File::Find qw(find);

our @EXPORT_OK = qw(note_reply note_set_cookie note_secret);

# A token (see docs): 48 bytes as 64 characters of base64url.
my $TOKEN = qr/[\w-]{64}/x;

my %secret;    # value => 1

# Larger files are read up to here only: no log of a test comes near.
my $FILE_LIMIT = 64 * 1024 * 1024;

sub note_reply {
    my ($raw) = @_;

    return unless defined $raw;
    my ($head) = $raw =~ m/\A(.*?)(?:\r?\n\r?\n|\z)/xs;
    note_set_cookie($1) while $head =~ m/^Set-Cookie:[ \t]*([^\r\n]*)/xmgi;
    return;
}

sub note_set_cookie {
    my ($line) = @_;

    note_secret($1) if $line =~ m/\A[^=;]*="?($TOKEN)"?(?:\s*;|\s*\z)/x;
    return;
}

sub note_secret {
    my ($value) = @_;

    die "a secret of fewer than 8 characters is found everywhere\n" if length $value < 8;
    $secret{$value} = 1;
    return;
}

# What gives a secret away: the whole of it, or, for a token, a good part of
# it, or its handle or secret in hexadecimal.
sub _traces {
    my ($value) = @_;

    return $value unless $value =~ m/\A$TOKEN\z/x;
    my @parts = map { substr $value, $_, 24 } 0, 20, 40;
    require MIME::Base64;
    (my $plain = $value) =~ tr{-_}{+/};
    my $hex = unpack 'H*', MIME::Base64::decode_base64($plain);
    return @parts, substr($hex, 2, 32), substr($hex, 34, 32);
}

# Names of the files that hold a secret, as "name (which of them)"; the
# secret itself is not repeated.  @$except: names where one may be.
sub leaks {
    my ($directory, $except) = @_;
    my %excepted = map { $_ => 1 } @{$except};

    my @traces = map { _traces($_) } sort keys %secret;
    return unless @traces;
    my $pattern = join '|', map { quotemeta } @traces;
    $pattern = qr/($pattern)/i;
    # Thousands of tokens make that one slow: most lines hold nothing as long as a part of a token.
    my $may_hold = (grep { $_ !~ m/\A[\w-]{24}/x } @traces) ? qr/^/x : qr/[\w-]{24}/x;

    my @found;
    for my $name (_files($directory)) {
        next if $excepted{$name};
        my $content = _read("$directory/$name");
        my @lines = grep { m/$may_hold/x && m/$pattern/x } split m/\n/x, $content;
        for my $line (@lines) {
            $line =~ s/$pattern/<SECRET>/g;
            push @found, "$name: " . substr $line, 0, 300;
        }
    }
    return @found;
}

sub _files {
    my ($directory) = @_;
    my @names;

    my $collect = sub {
        return unless -f;
        my $name = substr $File::Find::name, 1 + length $directory;
        push @names, $name unless $name =~ m/\.(?:key|crt|pem)\z/x;
    };
    find($collect, $directory);
    @names = sort @names;
    return @names;
}

sub _read {
    my ($path) = @_;

    open(my $fh, '<:raw', $path) or return '';
    read($fh, my $content, $FILE_LIMIT);
    return $content // '';
}

# Lines of alert or emerg in any log of the directory, whatever nginx or
# its standard error wrote it; those matching an expected pattern left out.
sub alerts {
    my ($directory, $expected, $except) = @_;
    my %excepted = map { $_ => 1 } @{$except};

    my %seen;
    for my $name (grep { m/\.log\z/x && !$excepted{$_} } _files($directory)) {
        my @lines = split m/\n/x, _read("$directory/$name");
        for my $line (grep { m/\A(?:[\d\/]+[ ][\d:]+|nginx:)[ ]\[(?:alert|emerg)\]/x } @lines) {
            next if grep { $line =~ $_ } @{$expected};
            $seen{$line} = 1;
        }
    }
    my @lines = sort keys %seen;
    return @lines;
}

# Lines of sanitizers' reports: in their own files or in a log.
sub sanitizer_reports {
    my ($directory) = @_;

    my @found;
    for my $name (grep { m/\.log\z|\A(?:asan|ubsan|lsan)\b/x } _files($directory)) {
        next if $name =~ m/\Arecorder-/x;
        my @lines = split m/\n/x, _read("$directory/$name");
        push @found, map { "$name: $_" } grep { m/Sanitizer|runtime[ ]error:/x } @lines;
    }
    return @found;
}

1;
