"""A request's handoff as the scheduler's side knows it, whichever way it goes."""

import dataclasses
import enum

from baton.vllm.orders import Open


class State(enum.Enum):
    """How far it is: scheduler_loads.py and scheduler_sends.py say what leads from one to the next.
    """

    WAITING = 0
    OFFERED = 1
    FAILED = 2
    ACCEPTED = 3
    OVER = 4


@dataclasses.dataclass
class Handoff:
    request_id: str
    transfer: object  # params.Transfer
    prompt: list
    salt: str
    adapter: str
    budget_s: float
    state: State = State.WAITING
    why: str = ""

    @property
    def tokens(self):
        return len(self.prompt)

    def open_order(self):
        transfer = self.transfer
        return Open(self.request_id, transfer.role, transfer.handoff, transfer.attempt,
                    transfer.flow, list(transfer.peer), self.budget_s, self.prompt, self.salt,
                    self.adapter)


def of_request(kind, request, transfer, budget_s):
    """A handoff of this kind, for this request. Its salt: what the legs' parameters say, and the
    client's own cache salt."""
    own = request.cache_salt or ""
    salt = transfer.salt if not own else f"{len(transfer.salt)}:{transfer.salt}{own}"
    adapter = request.lora_request.lora_name if request.lora_request else ""
    return kind(request.request_id, transfer, list(request.prompt_token_ids or ()), salt, adapter,
                transfer.budget_s or budget_s)
