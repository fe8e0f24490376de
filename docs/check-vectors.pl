# Check a reader against the test vectors.
# perl check-vectors.pl wire-format-vectors.json ./Ticket.pm
use strict;
use warnings;
use Cwd 'abs_path';
use JSON::PP ();

package Kept {    # like the storage: it gives the data for this key only, and only once
    sub getdel { my ($kept, $key) = @_; return delete $kept->{$key} }
}

my ($vectors_path, $reader_path) = @ARGV;
require(abs_path($reader_path));
my $json = JSON::PP->new->canonical;
open my $file, '<:raw', $vectors_path or die "$vectors_path: $!";
my $vectors = $json->utf8->decode(do { local $/; <$file> });
my $checked = 0;

sub same {
    my ($found, $expected, $name) = map { ref $_ ? $json->encode($_) : $_ } @_;
    die "$name: " . ($found // 'undef') . ' is not ' . ($expected // 'undef') . "\n"
      unless defined $found ? defined $expected && $found eq $expected : !defined $expected;
}

for my $ticket (@{ $vectors->{tickets} }) {
    my ($name, $value, $audience) = @$ticket{qw(name value audience)};
    my %options = (
        audience  => $audience,
        prefix    => $ticket->{prefix},
        hash_keys => $ticket->{hash_keys},
    );
    my %elsewhere = (%options, audience => 'elsewhere');
    same(Ticket::storage_key($value, %options), $ticket->{key}, $name);
    my %claims = %{ Ticket::open_data($ticket->{data}, %options) };
    same(delete $claims{$_}, $ticket->{$_}, $name) for qw(iat exp);
    same(delete $claims{aud} // '', $audience, $name);
    same(\%claims, $ticket->{claims}, $name);
    same(Ticket::open_data($ticket->{data}, %elsewhere), undef, $name);

    my $redis = bless { $ticket->{key} => $ticket->{data} }, 'Kept';
    same(Ticket::consume($redis, $value, %elsewhere), undef, $name);
    same(Ticket::consume($redis, $value, %options)->{username}, $claims{username}, $name);
    same(Ticket::consume($redis, $value, %options), undef, $name);
    $checked++;
}
for my $ticket (@{ $vectors->{accepted} }) {
    my $found = Ticket::open_data($ticket->{data}, audience => $ticket->{audience});
    same($found->{$_}, $ticket->{$_}, $ticket->{name}) for qw(id username);
    $checked++;
}
for my $value (@{ $vectors->{malformed} }) {
    same(Ticket::storage_key($value), undef, $json->encode([$value]));
    $checked++;
}
for my $data (@{ $vectors->{refused} }) {
    same(Ticket::open_data($data), undef, $data);
    $checked++;
}
print "$checked vectors agree.\n";
