"""A vLLM that lacks what is needed is refused by name."""

import importlib
import types

import pytest

from baton.vllm import interface


def test_this_one_has_everything():
    assert interface.lacking() == []


def test_what_is_missing_is_named():
    def older(path):
        if path.endswith("cache_hit_source"):
            raise ImportError(path)
        module = importlib.import_module(path)
        if not path.endswith("v1.base"):
            return module
        names = {name: getattr(module, name) for name in interface.NAMES[path]
                 if name != "KVConnectorWorkerMetadata"}
        connector = type("KVConnectorBase_V1", (), {
            hook: None for hook in interface.HOOKS if hook != "handle_preemptions"})
        return types.SimpleNamespace(**{**names, "KVConnectorBase_V1": connector})

    with pytest.raises(ImportError) as error:
        interface.check(older)
    for name in ("vllm.v1.metrics.cache_hit_source", "base.KVConnectorWorkerMetadata",
                 "handle_preemptions", "0.32.0"):
        assert name in str(error.value)
    assert "save_kv_layer" not in str(error.value)
