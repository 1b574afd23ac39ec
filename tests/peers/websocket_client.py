"""Talks to the WebSocket echo server and checks every answer. Prints one line each; exits 1 at the first wrong one.

Usage: websocket_client.py URL [hold]
With hold: says when the connection is open, and that it ended.
"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


def check(what, seen, wanted):
    if seen != wanted:
        sys.exit(f"{what}: {seen!r:.200}, not {wanted!r:.200}")
    print(f"{what}: ok", flush=True)


async def hold():
    async with connect(sys.argv[1], open_timeout=10) as connection:
        await connection.recv()
        print("begun", flush=True)
        try:
            while True:
                await connection.send("still there?")
                await connection.recv()
                await asyncio.sleep(0.05)
        except ConnectionClosed as closed:
            print("ended", type(closed).__name__, flush=True)


async def main():
    async with connect(sys.argv[1], max_size=2**24, open_timeout=10) as connection:
        print("caller:", await connection.recv(), flush=True)
        for message in ("hello", b"\x00\xff" * 10, "ü" * 100_000, b"x" * 4_000_000):
            await connection.send(message)
            check(f"{type(message).__name__} of {len(message)}", await connection.recv(), message)
        await asyncio.wait_for(await connection.ping(), 10)
        print("ping: ok", flush=True)
        await connection.send("close")
        try:
            await connection.recv()
        except ConnectionClosed as closed:
            check("close", (closed.rcvd.code, closed.rcvd.reason), (4001, "as asked"))
    print("done", flush=True)


asyncio.run(asyncio.wait_for(hold() if sys.argv[2:] == ["hold"] else main(), 60))
