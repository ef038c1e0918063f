"""`pneumofed server up`: the Fleet service, the runner, the control socket and the monitoring, as one
program."""

import logging
import signal
import threading

from common.files import held
from common.flower import require_flower
from common.logs import set_up_logs
from common.monitoring import Monitoring
from server.control import ControlService
from server.fleet import FleetService
from server.runner import Runner
from server.settings import ServerFolder

log = logging.getLogger("pneumofed.server")


def serve(folder: ServerFolder) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigError: the folder is not a server's, or a key can be read by others.
        RunError: another server runs in it, a port is taken, or Flower is not the version that this was made
        for.
    """
    settings = folder.settings()
    require_flower()
    ended = threading.Event()
    with held(folder.lock, f"{folder.path}: a server is running in it already"):
        set_up_logs(folder.logs, "server")
        monitoring = Monitoring("pneumofed.server", settings.health_port, settings.metrics_port)
        service = FleetService(folder, settings)
        runner = Runner(folder, service, monitoring)
        control = ControlService(folder, runner)
        service.start()
        control.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        monitoring.set_serving(True)
        log.info("serving sites on %s:%d", settings.listen, settings.port)
        while not ended.wait(5.0):
            service.follow_admissions()
            service.follow_certificates()
        log.info("ending")
        monitoring.close()
        runner.shut_down()
        control.stop()
        service.stop()
        folder.socket.unlink(missing_ok=True)
