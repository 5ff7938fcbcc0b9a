<?php
// The gift service for php-fpm: `POST /send` calls sendPresent, then writes the order; each once.

if (str_ends_with($_SERVER['SCRIPT_NAME'], '/ready')) {
    exit("ready\n");
}
$order = json_decode(file_get_contents('php://input'))->order;
call('/sendPresent', $order);
call('/order', $order);
echo "sent\n";

function call(string $path, string $order): void
{
    $options = ['method' => 'POST', 'header' => "Content-Type: application/json\r\nConnection: close",
        'content' => json_encode(['order' => $order]), 'timeout' => 30.0, 'protocol_version' => '1.1'];
    $answer = @file_get_contents(getenv('DRILL_LEDGERS') . $path, false, stream_context_create(['http' => $options]));
    if ($answer === false) {
        http_response_code(500);
        exit("$path failed\n");
    }
}
