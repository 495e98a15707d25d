import uuid

import pytest
import torch

from baton.vllm import layout
from baton.vllm.orders import Accept, Orders, Progress
from ranks import Rank, opened

BLOCKS, HEADS, TOKENS, DIM = 6, 3, 32, 64


def packed(layers=2, dtype=torch.float32):
    """As vLLM's CPU backend has it: one storage, each layer a run of it, a block one run."""
    storage = torch.zeros(layers, BLOCKS, HEADS, TOKENS, 2 * DIM, dtype=dtype)
    return {f"layers.{i}": storage[i] for i in range(layers)}


def named(tensors, name="cpu", opaque=True):
    return dict.fromkeys(tensors, layout.Packing(name, opaque))


def detect(tensors, packing=None, blocks=BLOCKS):
    return layout.detect(tensors, named(tensors) if packing is None else packing,
                         block_tokens=TOKENS, heads=HEADS, blocks=blocks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_packed_blocks_are_opaque(dtype):
    tensors = packed(dtype=dtype)
    found = detect(tensors)
    block = HEADS * TOKENS * 2 * DIM * dtype.itemsize
    assert (found.layout.opaque_block_bytes, found.layout.block_stride) == (block, block)
    assert found.layout.block_tokens == TOKENS
    assert found.bases == [tensor.data_ptr() for tensor in tensors.values()]
    assert (found.layers, found.blocks, found.packing) == (list(tensors), BLOCKS, "cpu")
    assert found.dtype == str(dtype).removeprefix("torch.")


def test_blocks_apart_keep_their_stride():
    wide = torch.zeros(BLOCKS, 2, HEADS, TOKENS, 2 * DIM)
    tensors = {"even": wide[:, 0], "odd": wide[:, 1]}
    found = detect(tensors)
    assert found.layout.block_stride == 2 * found.layout.opaque_block_bytes
    assert found.bases[1] - found.bases[0] == found.layout.opaque_block_bytes


# Orders of [layer, block, head, token, content] in memory, as vLLM names them.
ORDERS = {"LBHNC": (0, 1, 2, 3, 4), "LBNHC": (0, 1, 3, 2, 4), "LHBNC": (0, 2, 1, 3, 4),
          "BLHNC": (1, 0, 2, 3, 4), "BLNHC": (1, 0, 3, 2, 4), "BHLNC": (1, 2, 0, 3, 4)}


def strided(order, dtype=torch.float16, heads=HEADS, content=2 * DIM, layers=3, fill=None):
    """Each layer's [block, head, token, content], lying in that order."""
    shape = (layers, BLOCKS, heads, TOKENS, content)
    permutation = ORDERS[order]
    raw = torch.zeros([shape[axis] for axis in permutation], dtype=dtype)
    if fill is not None:
        raw.view(torch.uint8).copy_(fill(raw.view(torch.uint8)))
    whole = raw.permute([permutation.index(axis) for axis in range(5)])
    return {f"layers.{i}": whole[i] for i in range(layers)}


@pytest.mark.parametrize("order", ORDERS)
def test_strides_say_where_a_token_lies(order):
    tensors = strided(order)
    found = detect(tensors, named(tensors, "backend", opaque=False))
    size = 2
    assert (found.layout.planes, found.layout.heads, found.layout.head_bytes) == (
        1, HEADS, 2 * DIM * size)
    for name, base in zip(found.layers, found.bases):
        tensor = tensors[name]
        for at in ((0, 0, 0), (5, 2, 31), (3, 1, 7)):
            block, head, token = at
            assert tensor[at].data_ptr() == base + (
                block * found.layout.block_stride + head * found.layout.head_stride +
                token * found.layout.token_stride)
    assert found.layout.opaque_block_bytes == 0


def refused(tensors, packing=None, blocks=BLOCKS):
    with pytest.raises(layout.LayoutError) as error:
        detect(tensors, packing, blocks)
    return str(error.value)


def test_what_is_not_known_is_refused_and_printed():
    tensors = {"layers.0": torch.zeros(2, BLOCKS, TOKENS, HEADS, DIM)}
    said = refused(tensors, named(tensors, opaque=False))
    assert "not known, expected [blocks, heads, tokens, content] = [6, 3, 32, ...]" in said
    assert "layers.0: shape (2, 6, 32, 3, 64)" in said and "torch.float32 on cpu" in said


def test_heads_and_tokens_the_other_way_round_are_refused():
    tensors = {"layer": torch.zeros(BLOCKS, TOKENS, HEADS, DIM)}
    assert "not known" in refused(tensors, named(tensors, opaque=False))


def test_a_content_in_pieces_is_refused():
    tensors = {"layer": torch.zeros(BLOCKS, HEADS, TOKENS, 2 * DIM)[..., ::2]}
    assert "no run of bytes" in refused(tensors, named(tensors, opaque=False))


def test_blocks_that_overlap_are_refused():
    tensors = {"layer": torch.zeros(1, HEADS, TOKENS, DIM).expand(BLOCKS, -1, -1, -1)}
    assert "shape (6, 3, 32, 64)" in refused(tensors, named(tensors, opaque=False))


def test_layers_that_differ_are_refused():
    tensors = packed()
    tensors["layers.1"] = torch.zeros(BLOCKS, HEADS, TOKENS, DIM)
    assert "layers differ" in refused(tensors)


def test_layers_packed_differently_are_refused():
    tensors = packed()
    assert "packed differently, or not known: amx, vec" in refused(tensors, {
        "layers.0": layout.Packing("vec", True), "layers.1": layout.Packing("amx", True)})
    assert "cpu" in refused(tensors, {"layers.0": layout.Packing("cpu", True)})


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


# --- handed over between two layouts


def random_bytes(like):
    return torch.randint(0, 256, like.shape, dtype=torch.uint8)


@pytest.mark.parametrize("here, there", [
    ("LBHNC", "LBHNC"), ("LBNHC", "LBHNC"), ("BLHNC", "LHBNC"), ("LHBNC", "BLNHC"),
    ("BLNHC", "BHLNC"), ("BHLNC", "LBNHC")])
@pytest.mark.parametrize("dtype, heads, content", [
    (torch.uint8, HEADS, 2 * DIM), (torch.bfloat16, HEADS, 2 * DIM),
    (torch.float32, HEADS, 2 * DIM), (torch.bfloat16, 1, 576)],
    ids=["1 byte", "2 bytes", "4 bytes", "MLA"])
def test_every_element_arrives_in_any_layout(here, there, dtype, heads, content):
    ends = []
    for order, fill in ((here, random_bytes), (there, lambda like: like.fill_(0xEE))):
        kv = strided(order, dtype, heads, content, fill=fill)
        ends.append(Rank(kv, layout.detect(kv, named(kv, "backend", opaque=False),
                                           block_tokens=TOKENS, heads=heads, blocks=BLOCKS)))
    p, d = ends
    tokens, blocks, blocks_there, handoff = 100, [4, 0, 2, 5], [1, 5, 0, 3], str(uuid.uuid4())
    try:
        d.step(Orders(opens=[opened("d", "decode", handoff, [p.address], tokens)]))
        p.step(Orders(opens=[opened("p", "prefill", handoff, [d.address], tokens)],
                      progress=[Progress("p", tokens, blocks, first=True, last=True)]))
        d.until(lambda told: "d" in told["offered"])
        d.step(Orders(accepts=[Accept("d", blocks_there, 0, tokens)]))
        d.until(lambda told: told["received"])
        assert d.told["bad"] == set()
        for name in p.kv:
            raw, out = p.kv[name].view(torch.uint8), d.kv[name].view(torch.uint8)
            untouched = torch.ones(BLOCKS, TOKENS, dtype=torch.bool)
            for t in range(tokens):
                block, to, token = blocks[t // TOKENS], blocks_there[t // TOKENS], t % TOKENS
                assert torch.equal(out[to, :, token], raw[block, :, token])
                untouched[to, token] = False
            assert (out.permute(0, 2, 1, 3)[untouched] == 0xEE).all()
    finally:
        for end in ends:
            end.side.close()
