"""Where the engine's KV lies, from the tensors that it registers: addresses, strides and element
sizes. What is not known here is refused, and the refusal prints it.

Since 0.32 vLLM shows every attention backend's cache of a layer as [block, head, token, content],
whatever the order in memory (its kv_cache_layout.py): NHD, HND, heads outermost and blocks of all
layers side by side differ in strides alone. The content of one head of one token is a run of bytes,
keys and then values, or MLA's latent vector: one plane here. A backend that packs a block in
another way (the CPU's) is opaque: whole blocks move, between ends that pack alike. """

import dataclasses

from baton import Error, KvLayout


class LayoutError(ValueError):
    pass


@dataclasses.dataclass(frozen=True)
class Packing:
    name: str
    opaque: bool  # whole blocks; else the content of one head of one token


@dataclasses.dataclass
class Detected:
    layout: KvLayout
    bases: list  # the address of each layer's block 0
    blocks: int
    layers: list  # names, in the order of `bases`
    dtype: str
    packing: str


def describe(name, tensor):
    return (f"{name}: shape {tuple(tensor.shape)}, strides {tuple(tensor.stride())} elements, "
            f"{tensor.dtype} on {tensor.device}, offset {tensor.storage_offset()}")


def detect(tensors, packing, *, block_tokens, heads, blocks):
    """`tensors`: {layer: tensor}. `packing`: {layer: Packing}. Raises LayoutError."""
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
    packings = {packing.get(name) for name in names}
    if len(packings) != 1 or None in packings:
        raise LayoutError("layers are packed differently, or not known: " + ", ".join(sorted(
            each.name if each else "?" for each in packings)))
    packed = packings.pop()
    layout = (_opaque(names[0], first, block_tokens, blocks) if packed.opaque else
              _strided(names[0], first, block_tokens, heads, blocks))
    try:
        layout.validate()
    except Error as error:
        raise LayoutError(f"{error} ({describe(names[0], first)})") from error
    return Detected(layout, [tensor.data_ptr() for tensor in tensors.values()], blocks, names,
                    str(first.dtype).removeprefix("torch."), packed.name)


def _opaque(name, tensor, block_tokens, blocks):
    """A block is one run of bytes that only the engine can read."""
    if tensor.shape[0] != blocks or not tensor[0].is_contiguous():
        raise LayoutError(f"expected {blocks} blocks of one run each: {describe(name, tensor)}")
    layout = KvLayout()
    layout.block_tokens = block_tokens
    layout.opaque_block_bytes = tensor[0].numel() * tensor.element_size()
    layout.block_stride = tensor.stride(0) * tensor.element_size()
    return layout


def _strided(name, tensor, block_tokens, heads, blocks):
    if tensor.dim() != 4 or tuple(tensor.shape[:3]) != (blocks, heads, block_tokens):
        raise LayoutError("a KV layout that is not known, expected [blocks, heads, tokens, "
                          f"content] = [{blocks}, {heads}, {block_tokens}, ...]: "
                          f"{describe(name, tensor)}")
    if tensor.stride(3) != 1:
        raise LayoutError(f"the content of a token is no run of bytes: {describe(name, tensor)}")
    layout = KvLayout()
    layout.block_tokens = block_tokens
    layout.planes = 1
    layout.heads = heads
    layout.head_bytes = tensor.shape[3] * tensor.element_size()
    layout.block_stride, layout.head_stride, layout.token_stride = (
        stride * tensor.element_size() for stride in tensor.stride()[:3])
    return layout


def packing_of(layer, vllm_version, spec):
    """What an attention backend writes; equal names mean equal bytes. vLLM's CPU attention packs a
    block for the instructions that it uses. Of another backend's content nothing is known but its
    length, so both ends must have the same backend."""
    backend = layer.get_attn_backend().get_name()
    if backend == "CPU_ATTN":
        return Packing(f"vllm-{vllm_version}-cpu-{layer.isa}:block={spec.block_size},"
                       f"heads={spec.num_kv_heads},dim={spec.head_size}", opaque=True)
    return Packing(f"vllm-{vllm_version}-{backend}", opaque=False)
