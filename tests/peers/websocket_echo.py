"""A WebSocket echo server, on real websockets. Says who called in its first message.

Usage: websocket_echo.py ADDRESS PORT
"""

import asyncio
import sys

from websockets.asyncio.server import serve


async def echo(connection):
    await connection.send(connection.request.headers.get("x-forwarded-client-cert", "nobody"))
    async for message in connection:
        if message == "close":
            await connection.close(4001, "as asked")
            return
        await connection.send(message)


async def main():
    async with serve(echo, sys.argv[1], int(sys.argv[2]), max_size=2**24) as server:
        print("ready", flush=True)
        await server.serve_forever()


asyncio.run(main())
