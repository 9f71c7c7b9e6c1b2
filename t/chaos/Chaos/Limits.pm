package Chaos::Limits;

# The times that the nodes are configured with, and those that the documentation
# promises; in seconds.  What configures and what judges both read them here, and
# nothing else.

use strict;
use warnings;

use Exporter qw(import);

our @EXPORT_OK = qw(%LIMIT);

our %LIMIT = (
    idle           => 400,
    absolute       => 1500,
    rotate         => 60,
    rotation_grace => 20,
    revalidate     => 1,
    grace          => 40,      # session_on_store_error
    exchange       => 0.4,     # timeout and connect_timeout of memcached

    replaced       => 10,      # how long a regenerated session's old token still passes
    precision      => 1,       # of last activity
    behind         => 70,      # what a node may not know of another's activity: a tenth of idle, and time to write it
    in_time        => { net => 3, file => 0.8 },    # an answer to a change that is later may not be durable
);

1;
