"""No hook raises: an exception in one ends the whole engine. What goes wrong in a hook is logged,
counted, and costs a transfer at most.
"""

import functools
import re

from vllm.logger import init_logger

logger = init_logger("vllm.baton")


def named(request_id):
    """A request as a log names it: by the id that its client knows, and by vLLM's own, which has
    eight more digits."""
    client = re.sub(r"-[0-9a-f]{8}$", "", request_id)
    return client if client == request_id else f"{client} (in vLLM: {request_id})"


def hook(default=None):
    """For methods of a side: an exception becomes `default()` (or None), one more in `self.errors`,
    and a line in the log."""

    def decorate(method):
        @functools.wraps(method)
        def guarded(self, *args, **kwargs):
            try:
                return method(self, *args, **kwargs)
            except Exception:
                self.errors += 1
                logger.exception("%s failed; its transfers are given up", method.__name__)
                return default() if default is not None else None

        return guarded

    return decorate
