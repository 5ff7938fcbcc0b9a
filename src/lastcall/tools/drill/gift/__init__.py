"""The gift service with nothing left but its two actions, for every kind of server that a drill knows.

The whole service is in examples/gift. Here it is small and needs nothing, because it runs in whatever interpreter the
server under test has: `wsgi.py`, `asgi.py`, `gift.php`, `config.ru`. Each does the same:

    POST /send    {"order": ID, ...}: calls sendPresent, then writes the order; each once
    GET  /ready   200

    DRILL_LEDGERS   where both ledgers are: http://127.0.0.1:4711
    DRILL_BOOT      a file that says what happens when the code is loaded: `wait 3` (seconds), `raise`, or nothing
"""
