"""BatonConnector where vLLM's tests mean NixlConnector: with what they look at, and with what its
worker's side would have said by then.

These tests have a scheduler and no worker: they say themselves what a step's output was. NIXL's
connector takes a request's parameters as proof that the prompt is there, so that its first look
finds it. Baton's waits for the prefiller's OFFER, which its worker's side tells. Here that is said
as soon as the request is known: that a prompt to be loaded is offered whole, and that this
instance's own host tier has nothing.
"""

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole
from vllm.v1.outputs import KVConnectorOutput

import baton.vllm
from baton.vllm.orders import NodeAddress, News, RankNews

made = []  # by the test that runs


class Received:
    """What tests read of NIXL's metadata of a load, read of Baton's."""

    def __init__(self, accept):
        self.local_block_ids = (accept.blocks,)


class BatonConnector(baton.vllm.BatonConnector):
    def __init__(self, vllm_config, role, kv_cache_config):
        super().__init__(vllm_config, role, kv_cache_config)
        if role == KVConnectorRole.SCHEDULER:
            self.set_xfer_handshake_metadata({0: NodeAddress("127.0.0.1:9001", "")})
            made.append(self)

    def on_new_request(self, request):
        super().on_new_request(request)
        said = RankNews()
        if (request.kv_transfer_params or {}).get("do_remote_prefill"):
            said.offered[request.request_id] = request.num_prompt_tokens
        else:
            said.failed[request.request_id] = "the host tier has nothing of it"
        self.update_connector_output(
            KVConnectorOutput(kv_connector_worker_meta=News({0: said})))

    def build_connector_meta(self, scheduler_output):
        orders = super().build_connector_meta(scheduler_output)
        orders.reqs_to_recv = {accept.request_id: Received(accept) for accept in orders.accepts}
        return orders


def caught():
    """Exceptions that the hooks of all that were made have caught."""
    return sum(connector._scheduler.errors for connector in made)
