"""The server's Fleet service in this process, and sites as threads that speak through the real link: for what
needs no kill."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from client.link import FleetLink
from client.provision import init_site, join, take_in
from client.settings import Hospital, SiteFolder
from common import wire
from common.credentials import client_tls, read_key
from common.errors import LinkError
from server.fleet import FleetService
from server.provision import admit, init_server
from server.settings import ServerFolder, ServerSettings
from tests.helpers.deployment import free_port


def make_server(path, port=None) -> tuple[ServerFolder, FleetService]:
    folder = ServerFolder(path / "server")
    port = port or free_port()
    settings = ServerSettings(host="127.0.0.1", listen="127.0.0.1", port=port)
    init_server(folder, settings)
    service = FleetService(folder, settings)
    service.start()
    return folder, service


def make_site(path, name, server: ServerFolder, admitted=True) -> SiteFolder:
    folder = SiteFolder(path / name)
    init_site(folder, Hospital(server=f"127.0.0.1:{server.settings().port}"), server.ca_certificate)
    if admitted:
        join(folder, admit(server, name, folder.request))
    return folder


def link_of(folder: SiteFolder, *, key=None, certificate=None) -> FleetLink:
    tls = client_tls(folder.ca, certificate or folder.certificate, folder.key)
    return FleetLink(folder.settings().server, tls, read_key(key or folder.key), None, folder.node)


def honest(name: str, message: Message) -> Message:
    """What a site's gate would send, without training: an update of small numbers that follow from its
    name."""
    if message.metadata.message_type == "query":
        about = ConfigRecord({wire.SITE: name, wire.DEVICE: "test"})
        counts = MetricRecord({wire.N_EXAMPLES: 20, **dict.fromkeys(wire.query_numbers(("pneumonia",)), 20)})
        return Message(RecordDict({wire.CONFIG: about, wire.METRICS: counts}), reply_to=message)
    if message.metadata.message_type == "evaluate":
        return Message(
            RecordDict(
                {
                    wire.METRICS: MetricRecord(
                        {wire.N_EXAMPLES: 20, **dict.fromkeys(wire.EVALUATE_NUMBERS, 0.5)}
                    )
                }
            ),
            reply_to=message,
        )
    return Message(
        RecordDict({wire.ARRAYS: wire.pack(update_of(name, message)), wire.METRICS: train_numbers()}),
        reply_to=message,
    )


def update_of(name: str, message: Message) -> dict:
    from safetensors.numpy import load

    rng = np.random.default_rng(sum(name.encode()))
    asked = load(bytes(wire.get_arrays(message.content)[wire.PACKED].data))
    return {
        k: rng.standard_normal(w.shape, dtype=np.float32) * np.float32(1e-3) for k, w in sorted(asked.items())
    }


def train_numbers(**changes) -> MetricRecord:
    return MetricRecord({wire.N_EXAMPLES: 20, wire.LOSS: 0.5, wire.STEPS: 1, wire.SECONDS: 0.0, **changes})


class SiteThread:
    """A site that answers with `answer(name, message)`; None means that it stays silent."""

    def __init__(
        self, folder: SiteFolder, name: str, answer: Callable[[str, Message], Message | None] = honest
    ) -> None:
        self.name, self.answer, self.link = name, answer, link_of(folder)
        self.seen: list[Message] = []
        self.problems: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.link.connect()
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                message = self.link.receive(lambda: 2**28)
                if message is None:
                    time.sleep(0.02)
                    continue
                self.seen.append(message)
                reply = self.answer(self.name, message)
                if reply is not None:
                    self.link.send(reply)
            except LinkError as e:
                self.problems.append(str(e))
                time.sleep(0.2)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(timeout=5)
        with suppress(LinkError):
            self.link.close()


def follow(site):
    """As its agent does at every start and every hour."""
    link = link_of(site)
    changes = take_in(site, link.trust())
    link.use_tls(client_tls(site.ca, site.certificate, site.key))
    link.trust()
    link.close()
    return changes


def reaches(site):
    link = link_of(site)
    try:
        link.connect()
        return True
    except LinkError:
        return False
    finally:
        link.close()
