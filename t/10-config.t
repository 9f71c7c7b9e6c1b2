#!/usr/bin/perl

# What `nginx -t` refuses, warns of and accepts.
# Faults: a wrong word in the configuration that would leave a site open or lock everybody out; a key
# file that others can read, or whose keys are repeated in a message; cookies that browsers ignore or
# siblings can set; a login page that needs a login; a logout that nothing executes.

use strict;
use warnings;

use FindBin;
use POSIX qw(mkfifo);
use Test::More;

use lib 'lib', "$FindBin::Bin/lib";
use Test::Nginx;

my $t = Test::Nginx->new()->has(qw(http proxy rewrite map session_guard));

# nginx's own configuration errors are what this file is about; they stand in error-conf-test.log.

# The line with "#!" is the one to be named.
sub try {
    my ($http) = @_;
    my ($ok, $said) = $t->nginx_t_http($http);
    my @lines = split m/^/xm, $t->read_file('conf-test.conf');
    my ($marked) = grep { $lines[ $_ - 1 ] =~ m/[#]!/x } 1 .. @lines;
    return ($ok, $said, $marked);
}

sub refused {
    my ($what, $http, $message) = @_;
    my ($ok, $said, $line) = try($http);
    ok(!$ok, "refused: $what");
    like($said, qr/\[emerg\][^\n]*$message/x, "refused: $what: it says what");
    like($said, qr{\[emerg\].*/conf-test[.]conf:$line\b}xs, "refused: $what: it says where") if $line;
    return $said;
}

sub accepted {
    my ($what, $http, $warning) = @_;
    my ($ok, $said) = try($http);
    ok($ok, "accepted: $what") or diag($said);
    like($said, qr/\[warn\][^\n]*$warning/x, "accepted: $what: with a warning") if $warning;
    return $said;
}

sub realm { my ($line) = @_; return "session_realm app {\nzone 1m;\n$line #!\n}" }

sub server { my ($lines) = @_; return "session_realm app { zone 1m; }\nserver {\n$lines\n}" }

# --- in session_realm ---

my @in_realm = (
    [ 'an unknown directive',        'colour red;',                          'unknown[ ]directive[ ]"colour"[ ]in[ ]session_realm' ],
    [ 'a directive of nginx',        'proxy_pass http://127.0.0.1;',         'unknown[ ]directive[ ]"proxy_pass"' ],
    [ 'another spelling',            'Zone 1m;',                             'unknown[ ]directive[ ]"Zone"' ],
    [ 'zone twice',                  'zone 2m;',                             '"zone"[ ]directive[ ]is[ ]duplicate' ],
    [ 'cookie twice',                'cookie a; cookie b;',                  '"cookie"[ ]directive[ ]is[ ]duplicate' ],
    [ 'key_file twice',              'key_file good.key; key_file good.key;', '"key_file"[ ]directive[ ]is[ ]duplicate' ],
    [ 'idle_timeout twice',          'idle_timeout 1m; idle_timeout off;',   '"idle_timeout"[ ]directive[ ]is[ ]duplicate' ],
    [ 'absolute_timeout twice',      'absolute_timeout 1h; absolute_timeout 1h;', '"absolute_timeout"[ ]directive[ ]is[ ]duplicate' ],
    [ 'origin twice',                'origin https://a; origin https://b;',  '"origin"[ ]directive[ ]is[ ]duplicate' ],
    [ 'max_data twice',              'max_data 1k; max_data 1k;',            '"max_data"[ ]directive[ ]is[ ]duplicate' ],
    [ 'too many words',              'idle_timeout 1m 2m;',                  'invalid[ ]number[ ]of[ ]arguments[ ]in[ ]"idle_timeout"' ],
    [ 'no word',                     'cookie;',                              'invalid[ ]number[ ]of[ ]arguments[ ]in[ ]"cookie"' ],
    [ 'a block inside',              'map { }',                              'unexpected[ ]"[{]"' ],

    [ 'idle_timeout 0',              'idle_timeout 0;',                      'invalid[ ]timeout[ ]"0":.*1s.*"off"' ],
    [ 'idle_timeout below a second', 'idle_timeout 999ms;',                  'invalid[ ]timeout[ ]"999ms"' ],
    [ 'idle_timeout of words',       'idle_timeout soon;',                   'invalid[ ]timeout[ ]"soon"' ],
    [ 'a negative idle_timeout',     'idle_timeout -1m;',                    'invalid[ ]timeout[ ]"-1m"' ],
    [ 'idle_timeout without end',    'idle_timeout 401d;',                   'invalid[ ]timeout[ ]"401d"' ],
    [ 'absolute_timeout off',        'absolute_timeout off;',                'invalid[ ]timeout[ ]"off":[ ]a[ ]time[ ]from[ ]1s[ ]to[ ]400d' ],
    [ 'absolute_timeout 0',          'absolute_timeout 0;',                  'invalid[ ]timeout[ ]"0"' ],
    [ 'absolute_timeout overflow',   'absolute_timeout 99999999999999999999d;', 'invalid[ ]timeout[ ]"9999' ],

    [ 'max_data of words',           'max_data much;',                       'invalid[ ]max_data[ ]"much"' ],
    [ 'max_data over 32k',           'max_data 32769;',                      'invalid[ ]max_data[ ]"32769":[ ]at[ ]most[ ]32k' ],
    [ 'a negative max_data',         'max_data -1;',                         'invalid[ ]max_data[ ]"-1"' ],

    [ 'a cookie name with a blank',  'cookie "a b";',                        'cookie[ ]"a[ ]b":[ ]a[ ]cookie[ ]name' ],
    [ 'a cookie name with =',        'cookie a=b;',                          'cookie[ ]"a=b":[ ]a[ ]cookie[ ]name' ],
    [ 'a cookie name of 129',        'cookie ' . 'n' x 129 . ';',            'cookie[ ]"nnn.*1[ ]to[ ]128' ],
    [ 'no cookie name',              'cookie "";',                           'cookie[ ]"":' ],
    [ 'an unknown attribute',        'cookie id lifetime=1;',                'invalid[ ]parameter[ ]"lifetime=1"' ],
    [ 'samesite of words',           'cookie id samesite=maybe;',            'invalid[ ]parameter[ ]"samesite=maybe"' ],
    [ 'secure of words',             'cookie id secure=yes;',                'invalid[ ]parameter[ ]"secure=yes"' ],
    [ 'httponly of words',           'cookie id httponly=1;',                'invalid[ ]parameter[ ]"httponly=1"' ],
    [ 'a relative path',             'cookie id path=app;',                  'cookie[ ]"id":[ ]a[ ]cookie[ ]path' ],
    [ 'an empty path',               'cookie id path=;',                     'cookie[ ]"id":[ ]a[ ]cookie[ ]path' ],
    [ 'an attribute inside a path',  'cookie id "path=/;Secure";',           'cookie[ ]"id":[ ]a[ ]cookie[ ]path' ],
    [ 'an empty domain',             'cookie id domain=;',                   'invalid[ ]parameter[ ]"domain="' ],
    [ 'a URL as domain',             'cookie id domain=https://a.example;',  'cookie[ ]"id":[ ]a[ ]cookie[ ]domain' ],
    [ 'SameSite=None, not Secure',   'cookie id samesite=none secure=off;',  'cookie[ ]"id":[ ]"samesite=none"[ ]without[ ]Secure' ],
    [ '__Host- with a path',         'cookie __Host-a path=/app;',           'cookie[ ]"__Host-a":.*Path=/' ],
    [ '__Host- with a domain',       'cookie __Host-a domain=a.example;',    'cookie[ ]"__Host-a":.*no[ ]Domain' ],
    [ '__Host- without Secure',      'cookie __Host-a secure=off;',          'cookie[ ]"__Host-a":.*needs[ ]Secure' ],
    [ '__hOsT- as well',             'cookie __hOsT-a path=/app;',           'cookie[ ]"__hOsT-a":.*Path=/' ],
    [ '__Secure- without Secure',    'cookie __Secure-a secure=off;',        'cookie[ ]"__Secure-a":.*needs[ ]Secure' ],
    [ '__Http- for scripts',         'cookie __Http-a httponly=off;',        'cookie[ ]"__Http-a":.*needs[ ]HttpOnly' ],
    [ '__Host-Http- for scripts',    'cookie __Host-Http-a httponly=off;',   'cookie[ ]"__Host-Http-a":.*needs[ ]HttpOnly' ],
    [ '__Host-Http- with a path',    'cookie __Host-Http-a path=/app;',      'cookie[ ]"__Host-Http-a":.*Path=/' ],
    [ 'formerly= without a path',    'cookie id formerly=app;',              'invalid[ ]"formerly=app":[ ]a[ ]cookie[ ]path' ],
    [ 'formerly= with a header',     qq{cookie id "formerly=/a\r\nX: y";},   'invalid[ ]"formerly=/a' ],
    [ 'formerly= with an attribute', 'cookie id "formerly=/a;Secure";',      'invalid[ ]"formerly=/a;Secure":[ ]a[ ]cookie[ ]path' ],
    [ 'formerly= without a value',   'cookie id formerly=;',                 'invalid[ ]"formerly=":[ ]a[ ]cookie[ ]path' ],
    [ 'formerly= against the prefix', 'cookie __Host-a formerly=/app;',      'invalid[ ]"formerly=/app":[ ]a[ ]__Host-[ ]cookie' ],
    [ 'formerly= with a bad domain', 'cookie id "formerly=/@a;b";',          'invalid[ ]"formerly=/@a;b":[ ]a[ ]cookie[ ]domain' ],

    [ 'a limit of no session',       'limit_sessions 0;',                    'invalid[ ]number[ ]of[ ]sessions[ ]"0":[ ]from[ ]1[ ]to[ ]500' ],
    [ 'a limit of too many',         'limit_sessions 501;',                  'invalid[ ]number[ ]of[ ]sessions[ ]"501"' ],
    [ 'a limit in words',            'limit_sessions many;',                 'invalid[ ]number[ ]of[ ]sessions[ ]"many"' ],
    [ 'a limit of two numbers',      'limit_sessions 2 2;',                  'invalid[ ]parameter[ ]"2"' ],
    [ 'eviction of the newest',      'limit_sessions 2 evict=newest;',       'invalid[ ]parameter[ ]"evict=newest"' ],
    [ 'a limit for no role',         'limit_sessions 2 role=;',              'invalid[ ]parameter[ ]"role="' ],
    [ 'a limit for two roles',       'limit_sessions 2 role=a role=b;',      'invalid[ ]parameter[ ]"role=b"' ],
    [ 'two limits for all',          'limit_sessions 2; limit_sessions 3;',  '"limit_sessions"[ ]directive[ ]is[ ]duplicate' ],
    [ 'two limits for a role',       'limit_sessions 2 role=a; limit_sessions 3 role=a;', '"limit_sessions"[ ]directive[ ]is[ ]duplicate' ],

    [ 'partitioned without Secure',  'cookie id partitioned secure=off;',    'cookie[ ]"id":[ ]"partitioned"[ ]without[ ]Secure' ],
    [ 'partitioned with a value',    'cookie id partitioned=on;',            'invalid[ ]parameter[ ]"partitioned=on"' ],

    [ 'an origin with a path',       'origin https://a.example/;',           'invalid[ ]origin[ ]"https://a[.]example/"' ],
    [ 'an origin without a scheme',  'origin a.example;',                    'invalid[ ]origin[ ]"a[.]example"' ],
    [ 'an origin of all hosts',      'origin https://*.a.example;',          'invalid[ ]origin' ],
    [ 'the null origin',             'origin null;',                         'invalid[ ]origin[ ]"null"' ],
    [ 'one good, one bad origin',    'origin https://a.example ftp://b;',    'invalid[ ]origin[ ]"ftp://b"' ],

    [ 'identity without a value',    'identity X-User;',                     'invalid[ ]parameter[ ]"X-User"' ],
    [ 'identity with an empty one',  'identity X-User=;',                    'invalid[ ]parameter[ ]"X-User="' ],
    [ 'identity without a name',     'identity =$session_user;',             'invalid[ ]identity[ ]header[ ]""' ],
    [ 'identity with an underscore', 'identity X_User=$session_user;',       'invalid[ ]identity[ ]header[ ]"X_User"' ],
    [ 'identity with a line end',    qq{identity "X\r\n=\$session_user";},   'invalid[ ]identity[ ]header' ],
    map { [ "identity $_", "identity $_=\$session_user;", qq{identity[ ]cannot[ ]set[ ]"$_"} ] }
        qw(Host Cookie cookie Authorization Connection Content-Length Transfer-Encoding Upgrade X-Forwarded-For
        Forwarded X-Real-IP X-Accel-Session X-Accel-Redirect User-Agent Expect),
);
$t->write_private_file('good.key', 'ab' x 32 . "\n");
refused($_->[0], realm($_->[1]), $_->[2]) for @in_realm;

my $said = refused('identity with an unknown variable', realm('identity X-User=$nobody;') =~ s/[#]!//xr, 'unknown[ ]"nobody"[ ]variable');
refused('a zone of words', "session_realm app {\nzone big; #!\n}", 'invalid[ ]zone[ ]size[ ]"big"');
refused('a zone of nothing', "session_realm app {\nzone 0; #!\n}", 'zone[ ]size[ ]"0"[ ]is[ ]too[ ]small,[ ]at[ ]least[ ]\d+[ ]bytes');
refused('a negative zone', "session_realm app {\nzone -1m; #!\n}", 'invalid[ ]zone[ ]size[ ]"-1m"');
$said = refused('a zone too small', "session_realm app {\nzone 4k; #!\n}", 'zone[ ]size[ ]"4k"[ ]is[ ]too[ ]small');
my ($least) = $said =~ m/at[ ]least[ ](\d+)[ ]bytes/x;
refused('a byte less than the least zone', "session_realm app {\nzone " . ($least - 1) . "; #!\n}", 'is[ ]too[ ]small');
accepted('the least zone', "session_realm app { zone $least; }");
accepted('a realm that says nothing', 'session_realm app { }');

# --- realms ---

refused('a realm twice', "session_realm app { zone 1m; }\nsession_realm app { #!\nzone 1m; }", 'duplicate[ ]session_realm[ ]"app"');
refused("the realm name $_", qq(session_realm "$_" { #!\nzone 1m; }), 'invalid[ ]realm[ ]name[ ]"' . quotemeta)
    for 'off', 'a b', 'a/b', 'a"b' =~ s/"/'/xr, 'n' x 65;
refused('no realm name', "session_realm { #!\n}", 'invalid[ ]number[ ]of[ ]arguments[ ]in[ ]"session_realm"');
refused('a realm in a server', "server {\nsession_realm app { #!\n}\n}", '"session_realm"[ ]directive[ ]is[ ]not[ ]allowed[ ]here');
refused('one cookie for two realms', "session_realm app { zone 1m; cookie a; }\nsession_realm b { zone 1m; cookie a;\n} #!",
    'realms[ ]"app"[ ]and[ ]"b"[ ]both[ ]use[ ]the[ ]cookie[ ]"a"');
refused('the default cookie for two realms', "session_realm app { zone 1m; }\nsession_realm b { zone 1m;\n} #!",
    'realms[ ]"app"[ ]and[ ]"b"[ ]both[ ]use[ ]the[ ]cookie[ ]"__Host-id"');
refused('a realm without an end', 'session_realm app { zone 1m;', 'unexpected[ ]end[ ]of[ ]file');
accepted('a realm name of 64', 'session_realm ' . 'n' x 64 . ' { zone 1m; }');
accepted('two realms', 'session_realm app { zone 1m; } session_realm b { zone 1m; cookie __Host-b; }');
accepted('two cookies that differ in case', 'session_realm app { zone 1m; } session_realm b { zone 1m; cookie __Host-ID; }');
accepted('a realm declared after its use', 'server { location / { session later; } } session_realm later { zone 1m; }');

# --- in http, server, location ---

my @in_location = (
    [ 'an unknown realm',            'session nobody;',                 'unknown[ ]session[ ]realm[ ]"nobody"' ],
    [ 'session twice',               'session app; session app;',       '"session"[ ]directive[ ]is[ ]duplicate' ],
    [ 'an unknown word',             'session app sometimes;',          'invalid[ ]parameter[ ]"sometimes"' ],
    [ 'optional off',                'session off optional;',           'invalid[ ]parameter[ ]"optional"' ],
    [ 'session without a realm',     'session;',                        'invalid[ ]number[ ]of[ ]arguments[ ]in[ ]"session"' ],
    [ 'an unknown verb',             'session_control fly;',            'invalid[ ]parameter[ ]"fly"' ],
    [ 'a verb in capitals',          'session_control Create;',         'invalid[ ]parameter[ ]"Create"' ],
    [ 'off beside a verb',           'session_control create off;',     'invalid[ ]parameter[ ]"off"' ],
    [ 'session_control twice',       'session_control on; session_control off;', '"session_control"[ ]directive[ ]is[ ]duplicate' ],
    [ 'session_touch of words',      'session_touch maybe;',            'invalid[ ]value[ ]"maybe"' ],
    [ 'session_touch twice',         'session_touch on; session_touch on;', '"session_touch"[ ]directive[ ]is[ ]duplicate' ],
    [ 'session_csrf of words',       'session_csrf perhaps;',           'invalid[ ]value[ ]"perhaps"' ],
    [ 'session_cache of words',      'session_cache 1;',                'invalid[ ]value[ ]"1"' ],
    [ 'session_strip in a location', 'session_strip off;',              '"session_strip"[ ]directive[ ]is[ ]not[ ]allowed[ ]here' ],
    [ 'a relative login',            'session_login form;',             'invalid[ ]login[ ]address[ ]"form"' ],
    [ 'a login without a scheme',    'session_login //evil.example/;',  'invalid[ ]login[ ]address[ ]"//evil[.]example/"' ],
    [ 'a script as login',           'session_login javascript:x;',     'invalid[ ]login[ ]address[ ]"javascript:x"' ],
    [ 'a login with a fragment',     'session_login "/form#x";',        'invalid[ ]login[ ]address[ ]"/form[#]x"' ],
    [ 'a login with a blank',        'session_login "/a b";',           'invalid[ ]login[ ]address[ ]"/a[ ]b"' ],
    [ 'a login with a line end',     qq{session_login "/a\r\nX:y";},    'invalid[ ]login[ ]address' ],
    [ 'session_login twice',         'session_login /a; session_login /b;', '"session_login"[ ]directive[ ]is[ ]duplicate' ],
    [ 'session_login of two words',  'session_login /a /b;',            'invalid[ ]number[ ]of[ ]arguments[ ]in[ ]"session_login"' ],
    [ 'logout to another site',      'session app; session_logout return=//evil.example;', 'invalid[ ]parameter[ ]"return=//evil' ],
    [ 'logout to a URL',             'session app; session_logout return=https://a.example/;', 'invalid[ ]parameter[ ]"return=https' ],
    [ 'clearing what is unknown',    'session app; session_logout clear=everything;', 'invalid[ ]parameter[ ]"clear=everything"' ],
    [ 'clearing nothing',            'session app; session_logout clear=;', 'invalid[ ]parameter[ ]"clear="' ],
    [ 'an unknown word at logout',   'session app; session_logout now;', 'invalid[ ]parameter[ ]"now"' ],
    [ 'session_logout twice',        'session_logout; session_logout;', '"session_logout"[ ]directive[ ]is[ ]duplicate' ],
    [ 'session_info with a word',    'session_info now;',               'invalid[ ]number[ ]of[ ]arguments[ ]in[ ]"session_info"' ],
    [ 'session_info twice',          'session_info; session_info;',     '"session_info"[ ]directive[ ]is[ ]duplicate' ],
    [ 'logout and info',             'session_logout; session_info;',   '"session_info"[ ]directive[ ]is[ ]incompatible[ ]with[ ]"session_logout"' ],
    [ 'info and logout',             'session_info; session_logout;',   '"session_logout"[ ]directive[ ]is[ ]incompatible[ ]with[ ]"session_info"' ],
);
refused($_->[0], server("location / {\n$_->[1] #!\n}"), $_->[2]) for @in_location;

my $upstream = 'proxy_pass http://127.0.0.1:8081;';
refused('logout without a realm', server("location /bye {\nsession_logout; #!\n}"), 'location[ ]"/bye"[ ]has[ ]"session_logout"[ ]but[ ]no');
refused('info without a realm', server("location /me {\nsession off; session_info; #!\n}"), 'location[ ]"/me"[ ]has[ ]"session_info"[ ]but[ ]no');
refused('logout in a server', server("session app; session_logout; #!"), '"session_logout"[ ]directive[ ]is[ ]not[ ]allowed[ ]here');
refused('a logout that proxy_pass replaces', server("location /bye { session app; session_logout; $upstream }"),
    'location[ ]"/bye"[ ]has[ ]"session_logout"[ ]and[ ]another[ ]content[ ]handler');
refused('a proxy_pass that info replaces', server("location /me { session app; $upstream\nsession_info; #!\n}"),
    '"session_info"[ ]directive[ ]is[ ]incompatible[ ]with[ ]another[ ]content[ ]handler');
accepted('logout inside a realm\'s server', server('session app; location /bye { session_logout return=/ clear=cache,storage; }'));
accepted('all verbs', server('session_control create update renew reauth destroy; location / { session_control on; } location /a { session_control off; }'));

# --- a login page that needs a login ---

sub login_leads {
    my ($what, $login, $locations, $to) = @_;
    my $text = server("location / {\nsession app; session_login $login; #!\n}\n$locations");
    return accepted("the login at $what", $text) unless defined $to;
    return refused("the login at $what", $text, qq{session_login[ ]"\Q$login\E".*leads[ ]to[ ]location[ ]"\Q$to\E",.*"session[ ]app[ ]optional"});
}
login_leads('a location that demands a session', '/login',     'location = /login { session app; }', '/login');
login_leads('the location it is for',            '/login',     '', '/');
login_leads('a prefix',                          '/in/login',  'location /in/ { session app; }', '/in/');
login_leads('a prefix that ends the search',     '/in/login',  'location ^~ /in/ { session app; } location ~ login { session off; }', '/in/');
login_leads('a regular expression',              '/login.php', 'location /login { session off; } location ~ [.]php$ { session app; }', '[.]php$');
login_leads('a regular expression in any case',  '/LOGIN.PHP', 'location /LOGIN { session off; } location ~* [.]php$ { session app; }', '[.]php$');
login_leads('a nested location',                 '/in/login',  'location /in/ { session off; location /in/login { session app; } }', '/in/login');
login_leads('a nested expression',               '/in/login',  'location /in/ { session off; location ~ login { session app; } }', 'login');
login_leads('a location that inherits',          '/in/login',  'location /in/ { session app; location /in/login { } }', '/in/login');
login_leads('an address with a query',           '/login?a=b', 'location = /login { session app; }', '/login');
login_leads('an open location',                  '/login',     'location = /login { session off; }');
login_leads('an optional location',              '/login',     'location = /login { session app optional; }');
login_leads('an open one inside a demanding one', '/in/login', 'location /in/ { session app; location /in/login { session off; } }');
login_leads('an exact one before an expression', '/login.php', 'location = /login.php { session off; } location ~ [.]php$ { session app; }');
login_leads('no address',                      'off',         'location = /login { session app; }');
login_leads('another site',                      'https://login.example/', '');
refused('the login of a whole server that demands a session', server("session app;\nsession_login /login; #!"), 'session_login[ ]"/login".*leads[ ]to');
accepted('the login of a server where nothing demands a session', server('session_login /login; location / { }'));

# --- the key file ---

my $key = '';
$key .= sprintf '%02x', 7 * $_ % 251 for 1 .. 32;
my $other = reverse $key;
$t->secret($key, $other);

sub key_file {
    my ($what, $content, $message) = @_;
    $t->write_private_file('try.key', $content);
    return accepted("key_file: $what", realm('key_file try.key;')) unless defined $message;
    return refused("key_file: $what", realm('key_file try.key;'), 'key_file[ ]"[^"]+/try[.]key"' . $message);
}
key_file('one key',                 "$key\n");
key_file('no end of line',          $key);
key_file('comments and blanks',     "# made in 2025\n\n  $key current  \n\t$other\r\n");
key_file('capitals',                uc "$key\n");
key_file('16 keys',                 join '', map { sprintf "%064x\n", $_ } key_numbers());
key_file('nothing in it',           '',                            ':[ ]no[ ]key[ ]in[ ]it');
key_file('comments only',           "# $key\n",                    ':[ ]no[ ]key[ ]in[ ]it');
key_file('too short a key',         "$key\n" . substr($other, 1) . "\n", ',[ ]line[ ]2:[ ]a[ ]key[ ]is[ ]64');
key_file('too long a key',          "#\n#\n${key}a\n",             ',[ ]line[ ]3:[ ]a[ ]key[ ]is[ ]64');
key_file('not hexadecimal',         'g' . substr($key, 1) . "\n",  ',[ ]line[ ]1:[ ]a[ ]key[ ]is[ ]64');
key_file('a key twice',             "$key\n$other\n" . uc($key) . "\n", ',[ ]line[ ]3:[ ]the[ ]same[ ]key[ ]twice');
key_file('two current keys',        "$key current\n$other current\n", ',[ ]line[ ]2:[ ]a[ ]second[ ]key');
key_file('an unknown word',         "$key newest\n",               ',[ ]line[ ]1:[ ]only[ ]the[ ]word[ ]"current"');
key_file('a key behind a key',      "$key $other\n",               ',[ ]line[ ]1:[ ]only[ ]the[ ]word[ ]"current"');
key_file('17 keys',                 join('', map { sprintf "%064x\n", $_ } 1 .. 17), ',[ ]line[ ]17:[ ]more[ ]than[ ]16');
key_file('longer than 16k',         "#\n" x 8192 . "$key\n",       '[ ]is[ ]longer[ ]than[ ]16k');

# Two keys of a file may share their one-byte id: rare, and refused when the keys are derived.
sub key_numbers {
    for my $first (0 .. 50) {
        my @numbers = map { 100 * $first + $_ } 1 .. 16;
        $t->write_private_file('try.key', join '', map { sprintf "%064x\n", $_ } @numbers);
        my ($ok, $text) = $t->nginx_t_http(realm('key_file try.key;'));
        return @numbers if $ok;
    }
    return 1;
}
$t->write_private_file('try.key', join '', map { sprintf "%064x\n", $_ } clashing());
refused('key_file: two keys with one id', realm('key_file try.key;') =~ s/[#]!//xr, 'two[ ]keys[ ]of[ ]the[ ]key[ ]file[ ]share[ ]a[ ]key[ ]id');

sub clashing {
    for my $first (0 .. 50) {
        my @numbers = map { 100 * $first + $_ } 1 .. 16;
        $t->write_private_file('try.key', join '', map { sprintf "%064x\n", $_ } @numbers);
        my ($ok) = $t->nginx_t_http(realm('key_file try.key;'));
        return @numbers if !$ok;
    }
    return 1;
}

$t->write_private_file('try.key', "$key\n");
for my $mode ('0644', '0640', '0604', '0620', '0601') {
    chmod oct $mode, $t->testdir() . '/try.key';
    refused("key_file: mode $mode", realm('key_file try.key;'), "key_file[ ]\"[^\"]+/try[.]key\"[ ]has[ ]mode[ ]$mode:[ ].*chmod[ ]600");
}
chmod oct '0400', $t->testdir() . '/try.key';
accepted('key_file: mode 0400', realm('key_file try.key;'));
accepted('key_file: an absolute path', realm('key_file ' . $t->testdir() . '/try.key;'));
refused('key_file: missing', realm('key_file none.key;'), 'open\(\)[ ]of[ ]key_file[ ]"[^"]+/none[.]key"[ ]failed');
$t->make_directory('dir.key');
refused('key_file: a directory', realm('key_file dir.key;'), 'key_file[ ]"[^"]+/dir[.]key"[ ]is[ ]not[ ]a[ ]regular[ ]file');
mkfifo($t->testdir() . '/fifo.key', oct '0600');
refused('key_file: a pipe', realm('key_file fifo.key;'), 'key_file[ ]"[^"]+/fifo[.]key"[ ]is[ ]not[ ]a[ ]regular[ ]file');

# --- store ---

my $keys = "key_file a.key;\n";
$t->write_private_file('a.key', ('0123456789abcdef' x 4) . "\n");
refused("store: $_->[0]", realm("$keys store $_->[1];"), $_->[2]) for (
    [ 'another kind', 'redis 127.0.0.1', 'invalid[ ]store[ ]"redis"' ],
    [ 'no server', 'memcached', 'names[ ]no[ ]server' ],
    [ 'options alone', 'memcached timeout=1s', 'names[ ]no[ ]server' ],
    [ 'a port that is none', 'memcached 127.0.0.1:x', 'invalid[ ]memcached[ ]server[ ]"127[.]0[.]0[.]1:x":[ ]invalid[ ]port' ],
    [ 'a port too large', 'memcached 127.0.0.1:70000', 'invalid[ ]memcached[ ]server[ ]"127[.]0[.]0[.]1:70000"' ],
    [ 'a host that is none', 'memcached :11211', 'invalid[ ]memcached[ ]server[ ]":11211"' ],
    [ 'a relative socket', 'memcached unix:a.sock', 'invalid[ ]memcached[ ]server[ ]"unix:a[.]sock"' ],
    [ 'no weight', 'memcached 127.0.0.1/0', 'invalid[ ]weight[ ]in[ ]"127[.]0[.]0[.]1/0"' ],
    [ 'a weight of letters', 'memcached 127.0.0.1:1/x', 'invalid[ ]weight[ ]in[ ]"127[.]0[.]0[.]1:1/x"' ],
    [ 'a weight too large', 'memcached 127.0.0.1/1001', 'invalid[ ]weight[ ]in' ],
    [ 'a server twice', 'memcached 127.0.0.1 127.0.0.1:11211/2', 'duplicate[ ]memcached[ ]server[ ]"127[.]0[.]0[.]1:11211/2"' ],
    [ 'too many servers', 'memcached ' . join(q{ }, map { "127.0.0.1:$_" } 1 .. 17), 'too[ ]many[ ]memcached[ ]servers[ ]at[ ]"127[.]0[.]0[.]1:17":[ ]at[ ]most[ ]16' ],
    [ 'no replica', 'memcached 127.0.0.1 replicas=0', 'invalid[ ]parameter[ ]"replicas=0"' ],
    [ 'more replicas than servers', 'memcached 127.0.0.1 replicas=2', '"replicas=2"[ ]needs[ ]as[ ]many[ ]servers;[ ]there[ ]are[ ]1' ],
    [ 'no timeout', 'memcached 127.0.0.1 timeout=0', 'invalid[ ]parameter[ ]"timeout=0"' ],
    [ 'a timeout too long', 'memcached 127.0.0.1 connect_timeout=11s', 'invalid[ ]parameter[ ]"connect_timeout=11s"' ],
    [ 'an option of another name', 'memcached 127.0.0.1 replica=1', 'invalid[ ]parameter[ ]"replica=1"' ],
    [ 'a file without a path', 'lmdb', 'invalid[ ]number[ ]of[ ]arguments' ],
    [ 'a small file', 'lmdb x.mdb map_size=1k', 'invalid[ ]map_size[ ]"1k"' ],
);
refused('store: no key file', realm('store memcached 127.0.0.1;') =~ s/[#]!//xr =~ s/[}]$/} #!/xr, 'has[ ]a[ ]store[ ]and[ ]needs[ ]a[ ]"key_file"');
accepted("store: $_", realm("$keys store $_;")) for (
    'memcached 127.0.0.1', 'memcached localhost:11211/3 [::1]:11212/2 unix:/run/mc.sock replicas=3 timeout=1ms connect_timeout=10s',
    'none', 'lmdb x.mdb map_size=1m');

# --- include ---

$t->write_file('times.inc', "idle_timeout 5m;\nabsolute_timeout 1h;\n");
$t->write_file('wrong.inc', "\nidle_timeout 5x;\n");
accepted('include in session_realm', realm('include times.inc;'));
accepted('include of several', realm('include ti*.inc;'));
refused('a directive again in an include', realm('idle_timeout 1m; include times.inc;') =~ s/[#]!//xr, 'is[ ]duplicate[ ].*/times[.]inc:1');
refused('a wrong word in an include', realm('include wrong.inc;') =~ s/[#]!//xr, 'invalid[ ]timeout[ ]"5x".*/wrong[.]inc:2');
refused('an include that is not there', realm('include none.inc;'), 'none[.]inc');

# --- warnings ---

accepted('no store', realm(''), 'realm[ ]"app"[ ]has[ ]no[ ]store:[ ]a[ ]restart');
accepted('idle_timeout off', realm('idle_timeout off;'), 'realm[ ]"app":[ ]without[ ]idle_timeout');
accepted('an idle_timeout that never fires', realm('idle_timeout 2h; absolute_timeout 1h;'), 'never[ ]takes[ ]effect');
accepted("the cookie name $_", realm("cookie $_;"), "cookie[ ]\"$_\":.*tells[ ]what")
    for qw(PHPSESSID JSESSIONID ASP.NET_SessionId __Host-session mysessionid __Secure-connect.sid);
accepted('a domain', realm('cookie id domain=a.example;'), 'cookie[ ]"id":[ ]"domain="[ ]sends');
accepted('a cookie for scripts', realm('cookie id httponly=off;'), 'cookie[ ]"id":[ ]"httponly=off"[ ]lets');
accepted('a cookie in the clear', realm('cookie id secure=off;'), 'cookie[ ]"id":[ ]"secure=off"[ ]sends');
accepted('a cookie for other sites', realm('cookie id samesite=none;'), 'cookie[ ]"id":[ ]"samesite=none"[ ]sends');
$said = accepted('what is usual', realm('cookie id samesite=strict formerly=/app formerly=/@a.example; idle_timeout 1s; absolute_timeout 400d; max_data 32k;'));
unlike($said, qr/\[warn\][ ]cookie|timeout/x, 'accepted: what is usual: without a warning of it');
accepted('secure=assumed', realm('cookie __Host-id secure=assumed; origin https://app.example https://[::1]:8443;'));
accepted('identity', realm('identity X-User=$session_user X-Both=$session_user:$session_roles; identity X-Theme=$session_attr_theme X-Fixed=yes;'));

done_testing();
