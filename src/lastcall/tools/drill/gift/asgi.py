"""The gift service for ASGI servers."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import urllib.parse
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def boot() -> None:
    """Do what the file says."""
    file = os.environ.get("DRILL_BOOT")
    match Path(file).read_text().split() if file else []:
        case ["wait", seconds]:
            threading.Event().wait(float(seconds))
        case ["raise"]:
            raise RuntimeError("this code cannot be loaded")
        case _:
            pass


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The ASGI application."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    if scope["path"].endswith("/ready"):
        body = b"ready\n"
    else:
        asked = json.loads(await received(receive))
        await call("/sendPresent", asked["order"])
        await call("/order", asked["order"])
        body = b"sent\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def lifespan(receive: Receive, send: Send) -> None:
    """Nothing to set up, nothing to take down."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def received(receive: Receive) -> bytes:
    """The whole body."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionError("the client has gone")
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def call(path: str, order: str) -> None:
    """One of the two actions, once."""
    where = urllib.parse.urlsplit(os.environ["DRILL_LEDGERS"])
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        body = json.dumps({"order": order}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: ledgers\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        answer = await reader.read()
    finally:
        writer.close()
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"{path}: {answer[:40]!r}")


boot()
