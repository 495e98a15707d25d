"""A pytest plugin for vLLM's own connector tests: it points their helpers at our model, and with
BATON_UPSTREAM=baton at our connector. BATON_UPSTREAM=nixl leaves them vLLM's NixlConnector.

Nothing of theirs is changed on disk; what is set here is set before their modules are imported.
"""

import functools
import os
import sys
import types
import unittest.mock

import pytest

MODEL = os.environ["BATON_UPSTREAM_MODEL"]
BATON = {"nixl": False, "baton": True}[os.environ["BATON_UPSTREAM"]]

if "ray" not in sys.modules:
    try:
        import ray  # noqa: F401
    except ImportError:
        # One of their modules imports it on top, for a test that is not run here.
        sys.modules["ray"] = types.ModuleType("ray")

from tests.v1.kv_connector.unit import utils  # noqa: E402

if BATON:
    import as_nixl
    from vllm.distributed.kv_transfer.kv_connector.v1 import nixl, supports_hma

    from baton.vllm.orders import Orders

    nixl.NixlConnectorMetadata = Orders


def ours(settings):
    """The same, for a connector's or a child's settings."""
    if BATON and settings.get("kv_connector", "NixlConnector") == "NixlConnector":
        # NIXL's connector does not look at its role. Ours does what it says.
        return {**settings, "kv_connector": "BatonConnector", "kv_connector_module_path": "as_nixl",
                "kv_role": "kv_both"}
    return settings


create_vllm_config = utils.create_vllm_config


@functools.wraps(create_vllm_config)
def create_vllm_config_with_our_model(*arguments, **settings):
    settings = ours(settings)
    extra = settings.get("kv_connector_extra_config")
    if extra and "connectors" in extra:
        settings["kv_connector_extra_config"] = {
            **extra, "connectors": [ours(each) for each in extra["connectors"]]}
    if BATON and not supports_hma(as_nixl.BatonConnector):
        # vLLM chooses by the connector where nobody says it. Some tests do, for NIXL's.
        settings.pop("disable_hybrid_kv_cache_manager", None)
    if not arguments:
        settings.setdefault("model", MODEL)
    settings.setdefault("dtype", "float32")
    return create_vllm_config(*arguments, **settings)


utils.create_vllm_config = create_vllm_config_with_our_model


create_mock_connector = utils.create_mock_connector


def create_mock_connector_over_ours():
    """What a test does not set itself goes through to the scheduler's connector."""
    mock = create_mock_connector()
    over = unittest.mock.Mock(wraps=as_nixl.made[-1])
    over.get_external_cache_hit_sources.side_effect = mock.get_external_cache_hit_sources
    return over


if BATON:
    utils.create_mock_connector = create_mock_connector_over_ours


@pytest.fixture(autouse=True)
def no_hook_has_caught_an_exception():
    """It would not be seen otherwise: hooks do not raise."""
    if BATON:
        as_nixl.made.clear()
    yield
    if BATON:
        assert as_nixl.caught() == 0
