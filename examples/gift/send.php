<?php
// The gift service as it was in 2017, for php-fpm: the present first, then the order, and nothing that makes them one.
//
//     GIFT_PLATFORM   where sendPresent is: http://127.0.0.1:8100
//     GIFT_STORE      where orders go: file:/var/lib/gift/orders.jsonl

if ($_SERVER['REQUEST_URI'] === '/ready') {
    answer(200, ['ready' => true, 'pid' => getmypid()]);
}
$asked = json_decode(file_get_contents('php://input'));
$receipt = send_present($asked->order, $asked->present, $asked->user);
save_order($asked->order, $asked->present, $asked->user, $receipt);
answer(200, ['order' => $asked->order, 'receipt' => $receipt]);

function send_present(string $order, string $present, string $user): int
{
    $body = json_encode(['order_id' => $order, 'present' => $present, 'user' => $user, 'key' => $order]);
    $http = ['method' => 'POST', 'header' => "Content-Type: application/json\r\nConnection: close", 'content' => $body,
        'timeout' => 10.0, 'protocol_version' => '1.1'];
    $said = @file_get_contents(getenv('GIFT_PLATFORM') . '/sendPresent', false, stream_context_create(['http' => $http]));
    if ($said === false) {
        answer(502, ['error' => 'the gift platform broke off, the present may have been sent']);
    }
    return json_decode($said)->receipt;
}

function save_order(string $order, string $present, string $user, int $receipt): void
{
    $row = ['id' => $order, 'present' => $present, 'user' => $user, 'receipt' => $receipt, 'written' => microtime(true)];
    file_put_contents(substr(getenv('GIFT_STORE'), 5), json_encode($row) . "\n", FILE_APPEND | LOCK_EX);
}

function answer(int $status, array $what): never
{
    http_response_code($status);
    header('Content-Type: application/json');
    exit(json_encode($what) . "\n");
}
