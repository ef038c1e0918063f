"""`pneumofed server up`: the Fleet service, the runner, the control socket and the monitoring, as one
program."""

import logging
import math
import signal
import threading
import time
from contextlib import suppress

from prometheus_client import Gauge

from common.errors import PneumofedError
from common.files import held
from common.flower import require_flower
from common.logs import set_up_logs
from common.malloc import give_memory_back
from common.monitoring import Monitoring
from common.notices import Herald
from common.protocol import program
from server.check import certificates_of, check_certificates, days_of
from server.control import ControlService
from server.fleet import FleetService
from server.lookout import Lookout
from server.rollover import is_cut_off, switch
from server.runner import Runner
from server.settings import ServerFolder

CERTIFICATES_EVERY_S = 6 * 3600.0
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
    give_memory_back()
    ended = threading.Event()
    with held(folder.lock, f"{folder.path}: a server is running in it already"):
        set_up_logs(folder.logs, "server")
        _finish_renewal(folder)
        monitoring = Monitoring("pneumofed.server", settings.health_port, settings.metrics_port)
        service = FleetService(folder, settings)
        runner = Runner(folder, service, monitoring)
        control = ControlService(folder, runner)
        service.start()
        control.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        monitoring.set_serving(True)
        runner.go_on()
        log.info("serving sites on %s:%d, pneumofed %s", settings.listen, settings.port, program())
        herald = Herald("pneumofed server", lambda: folder.settings().notices)
        lookout = Lookout(herald)
        days_left, told = monitoring.gauge("certificate_days_left", "until it ends", "certificate"), -math.inf
        while not ended.wait(5.0):
            service.follow_admissions()
            service.follow_certificates()
            if time.monotonic() - told > CERTIFICATES_EVERY_S:
                told = time.monotonic()
                _tell_certificates(folder, days_left, lookout)
            if herald.heard:
                lookout.look(runner.status())
        log.info("ending")
        monitoring.close()
        runner.shut_down()
        control.stop()
        service.stop()
        folder.socket.unlink(missing_ok=True)


def _finish_renewal(folder: ServerFolder) -> None:
    """Of the CA, if one was cut off."""
    if is_cut_off(folder):
        done = switch(folder, folder.ca_key)
        cure = "is finished" if done else "waits for the CA's key: pneumofed server renew ca --ca-key FILE"
        log.warning("a renewal of the CA that was cut off %s", cure)


def _tell_certificates(folder: ServerFolder, days_left: Gauge, lookout: Lookout) -> None:
    """Their days go to the metrics, and what ends soon to the log and to the coordinator."""
    for what, path in certificates_of(folder).items():
        with suppress(PneumofedError):
            days_left.labels(what).set(days_of(path))
    findings = list(check_certificates(folder))
    lookout.look_at_certificates(findings)
    for finding in findings:
        if finding.outcome != "ok":
            log.warning("%s: %s", finding.what, finding.text)
