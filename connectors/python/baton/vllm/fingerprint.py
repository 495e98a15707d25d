"""What must be equal on both ends for KV bytes to mean the same: the weights, and what the engine
makes of them.
"""

import hashlib
import json
import os
from pathlib import Path

from baton import Fingerprint

WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")
SAMPLE_BYTES = 64 << 10
SAMPLES = 64


def weights_identity(path):
    """A hash over a folder's weight files, or one file: names, sizes, and samples of the content
    (the beginning, the end, and between them at equal distances). Cheap for files of any size, and
    different for weights that were trained apart. Empty where there are none."""
    path = Path(path)
    files = [path] if path.is_file() else sorted(
        each for each in path.glob("*") if each.suffix in WEIGHTS and each.is_file())
    digest = hashlib.sha256()
    for each in files:
        size = each.stat().st_size
        digest.update(f"{each.name}:{size}\n".encode())
        with open(each, "rb") as file:
            for sample in range(SAMPLES):
                at = max(0, size - SAMPLE_BYTES) * sample // (SAMPLES - 1)
                digest.update(os.pread(file.fileno(), SAMPLE_BYTES, at))
    return digest.hexdigest()[:32] if files else ""


def model_name(given, model_config):
    """As the option says; else of the files; else of a hub's name and revision. What the engine
    computes in belongs to it: the same weights in another type give other KV."""
    name = given or weights_identity(model_config.model) or \
        f"{model_config.model}@{model_config.revision or 'main'}"
    kind = str(model_config.dtype).removeprefix("torch.")
    return f"{name};{kind};{model_config.quantization or 'plain'}"


def rope_of(hf_config):
    """Canonical text of whatever the model's configuration says of its positions."""
    found = {name: value for name, value in hf_config.to_dict().items()
             if "rope" in name or "rotary" in name}
    return json.dumps(found, sort_keys=True, default=str, separators=(",", ":"))


def of(given_model, model_config, parallel_config, kv_dtype, packing, rank):
    ranks = parallel_config.tensor_parallel_size
    fingerprint = Fingerprint()
    fingerprint.model = model_name(given_model, model_config)
    fingerprint.dtype = kv_dtype
    fingerprint.layers = model_config.get_num_layers(parallel_config)
    fingerprint.planes = 1  # keys and values of a token are one run: see layout.py
    fingerprint.kv_heads = model_config.get_total_num_kv_heads()
    fingerprint.head_dim = model_config.get_head_size()
    fingerprint.rope = rope_of(model_config.hf_text_config)
    # A rank's KV is of its own heads.
    fingerprint.opaque_layout = packing if ranks == 1 else f"{packing};rank={rank}/{ranks}"
    return fingerprint
