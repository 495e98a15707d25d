import pytest
import torch

from baton.vllm import layout

BLOCKS, HEADS, TOKENS, DIM = 6, 3, 32, 64


def packed(layers=2, dtype=torch.float32):
    """As vLLM's CPU backend has it: one storage, each layer a run of it, a block one run."""
    storage = torch.zeros(layers, BLOCKS, HEADS, TOKENS, 2 * DIM, dtype=dtype)
    return {f"layers.{i}": storage[i] for i in range(layers)}


def named(tensors, packing="cpu"):
    return dict.fromkeys(tensors, packing)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_packed_blocks_are_opaque(dtype):
    tensors = packed(dtype=dtype)
    found = layout.detect(tensors, named(tensors), TOKENS, BLOCKS)
    block = HEADS * TOKENS * 2 * DIM * dtype.itemsize
    assert (found.layout.opaque_block_bytes, found.layout.block_stride) == (block, block)
    assert found.layout.block_tokens == TOKENS
    assert found.bases == [tensor.data_ptr() for tensor in tensors.values()]
    assert (found.layers, found.blocks, found.opaque) == (list(tensors), BLOCKS, "cpu")
    assert found.dtype == str(dtype).removeprefix("torch.")


def test_blocks_apart_keep_their_stride():
    wide = torch.zeros(BLOCKS, 2, HEADS, TOKENS, 2 * DIM)
    tensors = {"even": wide[:, 0], "odd": wide[:, 1]}
    found = layout.detect(tensors, named(tensors), TOKENS, BLOCKS)
    assert found.layout.block_stride == 2 * found.layout.opaque_block_bytes
    assert found.bases[1] - found.bases[0] == found.layout.opaque_block_bytes


def refused(tensors, packing=None, blocks=BLOCKS):
    with pytest.raises(layout.LayoutError) as error:
        layout.detect(tensors, named(tensors) if packing is None else packing, TOKENS, blocks)
    return str(error.value)


def test_what_is_not_known_is_refused_and_printed():
    said = refused(packed(), packing={})
    assert "not known: layers.0: shape (6, 3, 32, 128)" in said and "torch.float32 on cpu" in said


def test_layers_that_differ_are_refused():
    tensors = packed()
    tensors["layers.1"] = torch.zeros(BLOCKS, HEADS, TOKENS, DIM)
    assert "layers differ" in refused(tensors)


def test_layers_packed_differently_are_refused():
    assert "packed differently: amx, vec" in refused(
        packed(), packing={"layers.0": "vec", "layers.1": "amx"})


def test_a_block_in_pieces_is_refused():
    tensors = {"layer": torch.zeros(BLOCKS, TOKENS, HEADS, 2 * DIM).transpose(1, 2)}
    assert "expected 6 blocks of one run each" in refused(tensors)


def test_another_number_of_blocks_is_refused():
    assert "expected 12 blocks" in refused(packed(), blocks=12)


def test_nothing_registered_is_refused():
    assert "no KV cache" in refused({})


def test_another_devices_memory_is_refused():
    tensors = {"layer": torch.zeros(BLOCKS, HEADS, TOKENS, DIM, device="meta")}
    assert "memory of meta" in refused(tensors)
