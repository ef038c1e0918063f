"""What a monitoring system is told, asked as it asks: gRPC health and Prometheus, on loopback."""

import socket
import urllib.request

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.errors import RunError
from common.monitoring import Monitoring
from tests.helpers.deployment import free_port

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def health_of(port, service):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status


def test_health_follows_the_service_and_knows_it_by_name():
    port = free_port()
    monitoring = Monitoring("pneumofed.x", port, None)
    try:
        assert health_of(port, "") == health_of(port, "pneumofed.x") == NOT_SERVING
        monitoring.set_serving(True)
        assert health_of(port, "") == health_of(port, "pneumofed.x") == SERVING
        with pytest.raises(grpc.RpcError):
            health_of(port, "somebody else")
    finally:
        monitoring.close()


def test_numbers_are_told_under_their_names():
    port = free_port()
    monitoring = Monitoring("pneumofed.x", None, port)
    monitoring.gauge("round", "last round", "run").labels("r").set(3)
    monitoring.counter("answers", "answers", "outcome").labels("train").inc()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        text = response.read().decode()
    assert 'pneumofed_round{run="r"} 3.0' in text
    assert 'pneumofed_answers_total{outcome="train"} 1.0' in text


@pytest.mark.parametrize(("name", "at"), [("health_port", 0), ("metrics_port", 1)])
def test_a_port_that_is_taken_is_named(name, at):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = [None, None]
        ports[at] = taken.getsockname()[1]
        with pytest.raises(RunError, match=f"{name} {ports[at]}: .*; choose another in the settings"):
            Monitoring("pneumofed.x", *ports)
