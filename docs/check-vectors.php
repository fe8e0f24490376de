<?php
// Check a reader against the test vectors.
// php check-vectors.php wire-format-vectors.json ./Ticket.php
declare(strict_types=1);

[, $vectorsPath, $readerPath] = $argv;
require realpath($readerPath);
$vectors = json_decode(file_get_contents($vectorsPath), true, flags: JSON_THROW_ON_ERROR);
$checked = 0;

function same(mixed $found, mixed $expected, string $name): void
{
    if (is_array($found) && is_array($expected)) {
        ksort($found);
        ksort($expected);
    }
    if ($found !== $expected) {
        throw new Exception("$name: " . json_encode($found) . ' is not ' . json_encode($expected));
    }
}

foreach ($vectors['tickets'] as $ticket) {
    $options = [$ticket['value'], $ticket['audience'], $ticket['prefix'], $ticket['hash_keys']];
    same(Ticket::storageKey(...$options), $ticket['key'], $ticket['name']);
    $claims = Ticket::open($ticket['data'], $ticket['audience']);
    same([$claims['iat'], $claims['exp']], [$ticket['iat'], $ticket['exp']], $ticket['name']);
    unset($claims['iat'], $claims['exp'], $claims['aud']);
    same($claims, $ticket['claims'], $ticket['name']);
    same(Ticket::open($ticket['data'], 'elsewhere'), null, $ticket['name']);
    $checked++;
}
foreach ($vectors['accepted'] as $ticket) {
    $found = Ticket::open($ticket['data'], $ticket['audience']);
    foreach (['id', 'username'] as $name) {
        same($found[$name], $ticket[$name], $ticket['name']);
    }
    $checked++;
}
foreach ($vectors['malformed'] as $value) {
    same(Ticket::storageKey($value), null, json_encode($value));
    $checked++;
}
foreach ($vectors['refused'] as $data) {
    same(Ticket::open($data), null, $data);
    $checked++;
}
echo "$checked vectors agree.\n";
