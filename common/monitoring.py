"""What a monitoring system may ask a service, on loopback only: gRPC health (grpc.health.v1) and Prometheus'
/metrics."""

from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from common.errors import RunError

LOOPBACK = "127.0.0.1"


class Monitoring:
    """A service's health and numbers. A port of None leaves that part out."""

    def __init__(self, service: str, health_port: int | None, metrics_port: int | None) -> None:
        """Raises RunError if a port is taken."""
        self.registry = CollectorRegistry()
        self._service = service
        self._health = health.HealthServicer()
        self.set_serving(False)
        self._grpc = _serve_health(self._health, health_port) if health_port is not None else None
        if metrics_port is not None:
            try:
                start_http_server(metrics_port, LOOPBACK, self.registry)
            except OSError as e:
                raise RunError(
                    f"metrics_port {metrics_port}: {e.strerror}; choose another in the settings"
                ) from None

    def set_serving(self, serving: bool) -> None:
        """Tell whether the service does its work: a site that reaches the server, a server that answers
        sites."""
        status = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", self._service):
            self._health.set(name, status)

    def gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"pneumofed_{name}", about, labels, registry=self.registry)

    def counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"pneumofed_{name}", about, labels, registry=self.registry)

    def close(self) -> None:
        """Say goodbye to whoever watches."""
        self.set_serving(False)
        if self._grpc is not None:
            self._grpc.stop(grace=None)


def _serve_health(servicer: health.HealthServicer, port: int) -> grpc.Server:
    # so_reuseport would let two services share a port, and a monitor would see either.
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    try:
        server.add_insecure_port(f"{LOOPBACK}:{port}")
    except RuntimeError:
        raise RunError(f"health_port {port}: already in use; choose another in the settings") from None
    server.start()
    return server
