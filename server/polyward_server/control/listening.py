"""The port of the control plane: gRPC with mutual TLS, for gates that show a certificate of this hub's authority."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from polyward_server.control.service import Service
from polyward_server.hub import Hub, bind_address
from polyward_shared.protos import CONNECT, MOST_BYTES, RENEW, SERVICE
from polyward_shared.protos import control_pb2 as pb

AT_ONCE = 256  # calls, each in a thread: a site's one, and the one before until its silence is noticed


def listen(service: Service, hub: Hub) -> grpc.Server:
    """Starts answering gates that show a certificate of this hub's authority."""
    server = grpc.server(
        ThreadPoolExecutor(AT_ONCE, thread_name_prefix="control"),
        options=[
            ("grpc.max_receive_message_length", MOST_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ],
        maximum_concurrent_rpcs=AT_ONCE,
    )
    handlers: dict[str, Any] = {
        CONNECT: _handler(grpc.stream_stream_rpc_method_handler, service.connect, pb.FromNode, pb.FromHub),
        RENEW: _handler(grpc.unary_unary_rpc_method_handler, service.renew, pb.CertificateRequest, pb.Certificate),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    credentials = grpc.ssl_server_credentials(
        [(hub.key.read_bytes(), hub.certificate.read_bytes())], hub.ca.read_bytes(), require_client_auth=True
    )
    address = bind_address(hub.file.host)
    server.add_secure_port(f"{f'[{address}]' if ':' in address else address}:{hub.file.control_port}", credentials)
    server.start()
    return server


def _handler(kind: Callable[..., Any], method: Callable[..., Any], asked: type[Any], given: type[Any]) -> Any:
    def read(data: bytes) -> Any:
        """What are not the bytes of a message is one that says nothing, which the methods know how to refuse."""
        try:
            return asked.FromString(data)
        except DecodeError:
            return asked()

    return kind(method, request_deserializer=read, response_serializer=given.SerializeToString)
