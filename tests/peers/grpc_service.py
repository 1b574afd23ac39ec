"""A gRPC service with each of the four forms, on real grpcio. Messages are bytes, so that no code is generated.

Usage: grpc_service.py ADDRESS:PORT
"""

import sys
import threading
from concurrent import futures

import grpc


def caller(context):
    """Who called, as the sidecar tells the app."""
    metadata = dict(context.invocation_metadata())
    return metadata.get("x-forwarded-client-cert", "nobody")


def unary(request, context):
    context.set_trailing_metadata((("x-length", str(len(request))), ("x-caller", caller(context))))
    return request


def server_stream(request, _context):
    for number in range(int(request)):
        yield b"%d" % number


def client_stream(requests, _context):
    total = 0
    for request in requests:
        total += len(request)
    return b"%d" % total


def both_streams(requests, _context):
    for request in requests:
        yield b"again " + request


def fail(_request, context):
    context.set_trailing_metadata((("x-detail", "seen"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today, 100 % sure")


def hang(_request, context):
    """Says when it was cancelled, so that the other side's going away is seen to arrive."""
    gone = threading.Event()
    context.add_callback(gone.set)
    yield b"begun"
    gone.wait(30)
    print("cancelled", flush=True)


HANDLERS = grpc.method_handlers_generic_handler(
    "peers.Echo",
    {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "BothStreams": grpc.stream_stream_rpc_method_handler(both_streams),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Hang": grpc.unary_stream_rpc_method_handler(hang),
    },
)


def main():
    limit = 64 * 1024 * 1024
    options = [("grpc.max_receive_message_length", limit), ("grpc.max_send_message_length", limit)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=options)
    server.add_generic_rpc_handlers((HANDLERS,))
    if server.add_insecure_port(sys.argv[1]) == 0:
        sys.exit(f"cannot listen on {sys.argv[1]}")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


main()
