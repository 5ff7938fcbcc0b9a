<?php
// The shop: `POST /gift?order=N` sends a present, packs for a while, and saves the order; each is a line of a ledger.
// What a client may ask of it comes in headers, which no log shows.

$order = $_GET['order'] ?? '';
if ($_SERVER['REQUEST_METHOD'] !== 'POST') {
    exit("presents\n");
}
if (isset($_SERVER['HTTP_X_FAIL'])) {
    http_response_code((int) $_SERVER['HTTP_X_FAIL']);
    exit("the shop itself says so\n");
}
note('presents', $order);
if (isset($_SERVER['HTTP_X_EAT'])) {
    eat((int) $_SERVER['HTTP_X_EAT']);
}
if (isset($_SERVER['HTTP_X_DIG'])) {
    dig();
}
pack_for((float) ($_SERVER['HTTP_X_STEP'] ?? '0.1'));
note('orders', $order);
echo "sent\n";

function note(string $ledger, string $order): void
{
    file_put_contents("/srv/shop/data/$ledger", "$order\n", FILE_APPEND);
}

// A signal that is handled cuts usleep() short: it goes on until the time is over.
function pack_for(float $seconds): void
{
    $end = microtime(true) + $seconds;
    while (($left = $end - microtime(true)) > 0) {
        usleep((int) ($left * 1e6) + 1);
    }
}

function eat(int $megabytes): void
{
    for ($eaten = []; count($eaten) < $megabytes;) {
        $eaten[] = str_repeat('x', 1 << 20);
    }
}

// Recursion through C: it ends at the end of the stack.
function dig(): void
{
    array_map('dig', [1]);
}
