"""No hook raises: an exception in one ends the whole engine. What goes wrong in a hook is logged,
counted, and costs a transfer at most.
"""

import functools

from vllm.logger import init_logger

logger = init_logger("vllm.baton")


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
