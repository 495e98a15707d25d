"""Where the engine's KV lies, from the tensors that it registers: addresses, strides and element
sizes, never a tensor's shape alone. What is not known here is refused, and the refusal prints it.
"""

import dataclasses

from baton import KvLayout


class LayoutError(ValueError):
    pass


@dataclasses.dataclass
class Detected:
    layout: KvLayout
    bases: list  # the address of each layer's block 0
    blocks: int
    layers: list  # names, in the order of `bases`
    dtype: str
    opaque: str  # name of the engine's own packing; empty: strides say it


def describe(name, tensor):
    return (f"{name}: shape {tuple(tensor.shape)}, strides {tuple(tensor.stride())} elements, "
            f"{tensor.dtype} on {tensor.device}, offset {tensor.storage_offset()}")


def detect(tensors, packing, block_tokens, blocks):
    """`tensors`: {layer: tensor}. `packing`: {layer: name of the engine's own packing of a block,
    or ""}. Raises LayoutError."""
    if not tensors:
        raise LayoutError("the engine has registered no KV cache")
    names = list(tensors)
    first = tensors[names[0]]
    for name, tensor in tensors.items():
        if tensor.device.type != "cpu":
            raise LayoutError(f"KV in the memory of {tensor.device} has not been run with this "
                              f"connector yet ({describe(name, tensor)})")
        if (tensor.shape, tensor.stride(), tensor.dtype) != (first.shape, first.stride(),
                                                             first.dtype):
            raise LayoutError(f"layers differ: {describe(names[0], first)}; "
                              f"{describe(name, tensor)}")
    packings = {packing.get(name, "") for name in names}
    if len(packings) != 1:
        raise LayoutError(f"layers are packed differently: {', '.join(sorted(packings))}")
    opaque = packings.pop()
    if not opaque:
        raise LayoutError("a KV layout that is not known: " + describe(names[0], first))
    layout = _opaque(names[0], first, block_tokens, blocks)
    return Detected(layout, [tensor.data_ptr() for tensor in tensors.values()], blocks, names,
                    str(first.dtype).removeprefix("torch."), opaque)


def _opaque(name, tensor, block_tokens, blocks):
    """A block is one run of bytes that only the engine can read."""
    if tensor.shape[0] != blocks or not tensor[0].is_contiguous():
        raise LayoutError(f"expected {blocks} blocks of one run each: {describe(name, tensor)}")
    layout = KvLayout()
    layout.block_tokens = block_tokens
    layout.opaque_block_bytes = tensor[0].numel() * tensor.element_size()
    layout.block_stride = tensor.stride(0) * tensor.element_size()
    layout.validate()
    return layout


def cpu_packing(layer, vllm_version, spec):
    """vLLM's CPU attention packs a block for the instructions that it was built for: equal names
    mean equal bytes. Empty where the layer is not of that backend, or does not say for which."""
    if layer.get_attn_backend().get_name() != "CPU_ATTN" or not getattr(layer, "isa", ""):
        return ""
    return (f"vllm-{vllm_version}-cpu-{layer.isa}:block={spec.block_size},"
            f"heads={spec.num_kv_heads},dim={spec.head_size}")
