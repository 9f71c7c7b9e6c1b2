package Test::Nginx::Conf;

# What the nginx binary can do, where our module is, and the lines that
# every test's configuration begins with.

use strict;
use warnings;

use Exporter qw(import);
use File::Basename qw(dirname);
use File::Spec;

our @EXPORT_OK = qw(
    binary module_path configure_arguments has_module has_feature has_version
    globals globals_http worker_user
);

my $MODULE = 'ngx_http_session_guard_module.so';

# Built unless configured away; all else must be asked for with --with-...
my @BY_DEFAULT = qw(
    access auth_basic autoindex browser charset empty_gif fastcgi geo grpc
    gzip limit_conn limit_req map memcached mirror proxy referer rewrite
    scgi split_clients ssi userid uwsgi
    upstream_hash upstream_ip_hash upstream_keepalive upstream_least_conn
    upstream_random upstream_zone
);
my %by_default = map { $_ => "http_${_}_module" } @BY_DEFAULT;
@by_default{qw(http cache pcre)} = qw(http http-cache pcre);

sub binary { return $ENV{TEST_NGINX_BINARY} // '/usr/sbin/nginx' }

# Our module: as TEST_NGINX_MODULE says (empty: none), else the one that the
# build leaves; undef if there is none.
sub module_path {
    my $given = $ENV{TEST_NGINX_MODULE};
    if (defined $given) {
        return if $given eq '';
        die "TEST_NGINX_MODULE: there is no $given\n" unless -e $given;
        return File::Spec->rel2abs($given);
    }
    my $root = dirname(dirname(dirname(dirname(dirname(File::Spec->rel2abs(__FILE__))))));
    my $built = "$root/build/test/$MODULE";
    return -e $built ? $built : undef;
}

my %arguments_of;    # binary => output of nginx -V

sub configure_arguments {
    my $nginx = binary();
    if (!defined $arguments_of{$nginx}) {
        die "no nginx at $nginx (TEST_NGINX_BINARY)\n" unless -x $nginx;
        $arguments_of{$nginx} = qx{$nginx -V 2>&1};
    }
    return $arguments_of{$nginx};
}

# Answers: static, dynamic (a module to load) or nothing.
sub has_module {
    my ($name) = @_;

    my $arguments = configure_arguments();
    return 'static' if $name eq 'sni' && $arguments =~ m/TLS[ ]SNI[ ]support[ ]enabled/x;
    if (my $long = $by_default{$name}) {
        return $arguments =~ m/--without-$long(?!\S)/x ? undef : 'static';
    }
    $name =~ s/\A--with-//x;
    my $switch = qr/--with-(?:http_)?\Q$name\E(?:_module)?/x;
    return 'static' if $arguments =~ m/$switch(?!\S)/x;
    return $arguments =~ m/$switch=dynamic/x ? 'dynamic' : undef;
}

sub has_feature {
    my ($name) = @_;

    return defined module_path() if $name eq 'session_guard';
    return 1 if $name =~ m/\A(?:unix|udp|symlink)\z/x;
    if ($name =~ m/\Asocket_ssl(?:_(sni|alpn|sslversion|reused))?\z/x) {
        my $part = $1 // '';
        return 0 unless eval { require IO::Socket::SSL; 1 };
        return IO::Socket::SSL->can_client_sni() if $part eq 'sni';
        return IO::Socket::SSL->can_alpn() if $part eq 'alpn';
        return 1;
    }
    if ($name =~ m/\A(openssl|libressl):([\d.]+)/x) {
        my ($library, $needed) = ($1, $2);
        my ($built) = configure_arguments() =~ m/with[ ]$library[ ]([\d.]+)/xi;
        return $built && _at_least($built, $needed);
    }
    return 0;
}

sub has_version {
    my ($needed) = @_;
    my ($version) = configure_arguments() =~ m{nginx[ ]version:[ ]nginx/([\d.]+)}x;
    return _at_least($version, $needed);
}

sub _at_least {
    my ($version, $needed) = @_;

    my @have = split m/[.]/x, $version;
    for my $part (split m/[.]/x, $needed) {
        my $own = shift(@have) // 0;
        return $own > $part if $own != $part;
    }
    return 1;
}

# Who the workers are to be, if nginx is started by root; undef: who we are.
sub worker_user {
    my ($asked) = @_;
    my $user = $asked // $ENV{TEST_NGINX_USER} // 'nobody nogroup';
    return $> != 0 || $user eq 'root' ? undef : $user;
}

# %%TEST_GLOBALS%%.  Options: directory, user, load (files of modules),
# suffix (of the files' names, so that a try does not write into the real ones).
sub globals {
    my (%option) = @_;

    my $directory = $option{directory};
    my $suffix = $option{suffix} // '';
    my $level = $ENV{TEST_NGINX_LOG_LEVEL} // 'notice';
    my $given = $ENV{TEST_NGINX_GLOBALS} // '';
    my $module = module_path();
    my $user = worker_user($option{user}) // ($> == 0 ? 'root' : undef);

    my @lines = map { "load_module $_;" } @{ $option{load} || [] };
    push @lines, "load_module $module;" if $module && $given !~ m/\Q$MODULE\E/x;
    push @lines, "pid $directory/nginx$suffix.pid;";
    push @lines, "error_log $directory/error$suffix.log $level;";
    push @lines, "user $user;" if $user && $given !~ m/(?:\A|;)\s*user\s/x;
    push @lines, 'env SESSION_GUARD_TEST_FILE;';
    return join "\n", @lines, $given, '';
}

# %%TEST_GLOBALS_HTTP%%
sub globals_http {
    my ($directory) = @_;

    my @lines = (
        "root $directory;",
        "access_log $directory/access.log;",
        "client_body_temp_path $directory/client_body_temp;",
    );
    push @lines, map { "${_}_temp_path $directory/${_}_temp;" }
        grep { has_module($_) } qw(proxy fastcgi uwsgi scgi);
    return join "\n", @lines, $ENV{TEST_NGINX_GLOBALS_HTTP} // '', '';
}

1;
