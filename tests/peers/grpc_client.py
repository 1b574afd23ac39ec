"""Calls each form of the gRPC service and checks every answer. Prints one line per form; exits 1 at the first wrong one.

Usage: grpc_client.py ADDRESS:PORT [hold]
With hold: one call that is held open; says when it has begun, and how it ended.
"""

import queue
import sys

import grpc

DEADLINE = 20


def check(what, seen, wanted):
    if seen != wanted:
        sys.exit(f"{what}: {seen!r:.200}, not {wanted!r:.200}")
    print(f"{what}: ok", flush=True)


def unary(channel):
    call = channel.unary_unary("/peers.Echo/Unary")
    for size in (0, 1, 4096, 8 * 1024 * 1024):
        answer, info = call.with_call(b"x" * size, timeout=DEADLINE)
        trailers = dict(info.trailing_metadata())
        check(f"unary {size}", (len(answer), trailers["x-length"]), (size, str(size)))
    print("caller:", trailers["x-caller"], flush=True)


def server_stream(channel):
    answers = channel.unary_stream("/peers.Echo/ServerStream")(b"1000", timeout=DEADLINE)
    check("server stream", list(answers), [b"%d" % number for number in range(1000)])


def client_stream(channel):
    call = channel.stream_unary("/peers.Echo/ClientStream")
    check("client stream", call((b"x" * 1000 for _ in range(1000)), timeout=DEADLINE), b"1000000")


def both_streams(channel):
    """Each message is sent only when the answer to the one before is there: neither side is buffered."""
    outgoing = queue.Queue()
    answers = channel.stream_stream("/peers.Echo/BothStreams")(iter(outgoing.get, None), timeout=DEADLINE)
    seen = []
    for number in range(100):
        outgoing.put(b"%d" % number)
        seen.append(next(answers))
    outgoing.put(None)
    check("both streams", (seen, list(answers)), ([b"again %d" % number for number in range(100)], []))


def failure(channel):
    try:
        channel.unary_unary("/peers.Echo/Fail")(b"", timeout=DEADLINE)
    except grpc.RpcError as error:
        seen = (error.code(), error.details(), dict(error.trailing_metadata()).get("x-detail"))
        check("failure", seen, (grpc.StatusCode.FAILED_PRECONDITION, "not today, 100 % sure", "seen"))
        return
    sys.exit("a failing call did not fail")


def cancellation(channel):
    answers = channel.unary_stream("/peers.Echo/Hang")(b"", timeout=DEADLINE)
    check("first of a hanging call", next(answers), b"begun")
    answers.cancel()


def hold(channel):
    """Until the other side ends it, far before the service would."""
    try:
        for message in channel.unary_stream("/peers.Echo/Hang")(b"", timeout=DEADLINE):
            print(message.decode(), flush=True)
        print("ended in order", flush=True)
    except grpc.RpcError as error:
        print("ended", error.code().name, error.details(), flush=True)


def main():
    limit = 64 * 1024 * 1024
    options = [("grpc.max_receive_message_length", limit), ("grpc.max_send_message_length", limit)]
    with grpc.insecure_channel(sys.argv[1], options=options) as channel:
        grpc.channel_ready_future(channel).result(timeout=DEADLINE)
        if sys.argv[2:] == ["hold"]:
            hold(channel)
            return
        for form in (unary, server_stream, client_stream, both_streams, failure, cancellation):
            form(channel)
    print("done", flush=True)


main()
