#!/usr/bin/perl

# Chaos: several nodes and stores under load, and everything fails that can.
# A checker that knows from the outside what each answer should have been judges
# the history after each round.
# CHAOS_SECONDS (300) is how long rounds are begun for, CHAOS_SEED makes the choices,
# CHAOS_PLANS names the rounds (all, in turn), CHAOS_STOP=1 ends with the first that is wrong,
# CHAOS_HISTORY is a folder that keeps the history, CHAOS_LOAD requests a second (90).

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::Bin", "$FindBin::Bin/../lib", 't/lib';
use Chaos::Run;

my $run = Chaos::Run->new(
    seconds => $ENV{CHAOS_SECONDS} // 300,
    seed    => $ENV{CHAOS_SEED} // time() % 1_000_000,
    load    => $ENV{CHAOS_LOAD} // 90,
    plans   => [ split m/[ ,]+/x, $ENV{CHAOS_PLANS} // '' ],
    keep    => $ENV{CHAOS_HISTORY},
);
note($run->opening());
while ($run->goes_on()) {
    my @findings = $run->round();
    is(scalar @findings, 0, $run->name()) or diag($run->explain(@findings));
    last if @findings && $ENV{CHAOS_STOP};
}
$run->end();
is($run->count($_), 0, "$_: none of " . $run->count('requests') . ' requests') for $run->classes();
cmp_ok($run->happened($_), '>', 0, "$_: it happened") for $run->was_to_happen();
is(join("\n", $run->leaks()), '', 'no token in any log');
diag($run->closing());

done_testing();
