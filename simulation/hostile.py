"""A hospital that attacks: the site's own ClientApp, whose update is sent times a factor, for example -5
(inverted and scaled).

Node configuration: `hostile`, the factor. Without it a site is honest.
"""

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client import app as site
from client.site import Site
from client.site_config import SiteConfig
from common import wire
from common.seeds import numpy_generator

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """The honest update times the factor."""
    reply = site.app(message, context)
    factor = SiteConfig.from_node(context.node_config).hostile
    if factor is None or reply.has_error():
        return reply
    arrays, here = wire.get_arrays(reply.content), Site.of(context)
    run = here.coded_run(message.content)
    update = run.coder.decode(run.coder.payload_of(arrays)) if run else here.schema.unpack(arrays)
    update = {name: tensor * np.float32(factor) for name, tensor in update.items()}
    rng = numpy_generator(here.plan.seed, "hostile", here.config.site, wire.get_round(message.content))
    reply.content[wire.ARRAYS] = (
        run.coder.pack(run.coder.encode(update, rng)[0]) if run else wire.pack(update)
    )
    return reply


@app.query()
def query(message: Message, context: Context) -> Message:
    """As an honest site."""
    return site.app(message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """As an honest site."""
    return site.app(message, context)
