"""Faults that begin and end while engines run: a file that a decoder's node follows."""

import contextlib
import os


class FaultFile:
    def __init__(self, path):
        self._path = path
        self.spec = f"file={path}"

    @contextlib.contextmanager
    def inject(self, faults):
        """While this lasts, in the form of tests/fakes/faults.h."""
        made = self._path.with_suffix(".new")
        made.write_text(faults)
        os.replace(made, self._path)
        try:
            yield
        finally:
            self._path.unlink()
