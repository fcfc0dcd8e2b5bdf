"""What the scripts that make golden files share."""
import json
import struct

import numpy as np
import torch


def write_safetensors(path, tensors, metadata):
    """Tensors of PyTorch or numpy by name; metadata is text by name, and gets PyTorch's version."""
    header, blobs, offset = {"__metadata__": {"torch": torch.__version__} | metadata}, [], 0
    for name, tensor in tensors.items():
        array = tensor.detach().numpy() if isinstance(tensor, torch.Tensor) else tensor
        kinds = {"float32": "F32", "float64": "F64", "int32": "I32"}
        blob = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": kinds[str(array.dtype)], "shape": list(array.shape),
                        "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def make_adamw(parameters, options):
    """torch.optim.AdamW as headrace has it: what has two dimensions decays."""
    decay = [p for p in parameters if p.dim() >= 2]
    rest = [p for p in parameters if p.dim() < 2]
    return torch.optim.AdamW([{"params": decay}, {"params": rest, "weight_decay": 0.0}], **options)
