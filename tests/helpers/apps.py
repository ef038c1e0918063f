"""A ClientApp that does what it is told, in the workers too, which import it from here."""

import os

import numpy as np
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from common import wire
from common.errors import WireError

fake_app = ClientApp()


@fake_app.query()
def _query(message, context):
    wanted = message.content["config"]["do"]
    if wanted == "die":
        os._exit(3)
    if wanted == "refuse":
        raise WireError("not with me")
    if wanted == "break":
        raise RuntimeError("patient 4711")
    payload = np.zeros(int(wanted), np.float32)
    numbers = MetricRecord({"node": context.node_id, "pid": os.getpid()})
    return Message(RecordDict({"arrays": wire.pack({"w": payload}), "metrics": numbers}), reply_to=message)
