"""Makes tables_tiny.safetensors, which the perceptrons' tests are held against.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 numpy
    venv/bin/python tests/golden/make_tables_golden.py tests/golden

Perceptrons of odd sizes in plain PyTorch, float32, one for each activation and loss (torch.nn.functional,
torch.optim.AdamW): weights, data, outputs of the first batch, every gradient of the first step, and the losses and
final weights of ten steps.
"""
import json
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

ROWS, STEPS, FEATURES = 21, 10, 19
ADAMW = dict(lr=3e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
ACTIVATIONS = {"relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
               "gelu": lambda x: F.gelu(x, approximate="tanh")}
CASES = {"softmax": dict(hidden=[], activation="relu", loss="cross_entropy", outputs=7),
         "relu": dict(hidden=[300, 23], activation="relu", loss="cross_entropy", outputs=7),
         "tanh": dict(hidden=[31, 17], activation="tanh", loss="mse", outputs=3),
         "sigmoid": dict(hidden=[29], activation="sigmoid", loss="bce", outputs=5),
         "gelu": dict(hidden=[33], activation="gelu", loss="cross_entropy", outputs=300)}


def loss_of(case, y, target):
    if case["loss"] == "cross_entropy":
        return F.cross_entropy(y, target)
    if case["loss"] == "mse":
        return F.mse_loss(y, target)
    return F.binary_cross_entropy_with_logits(y, target)


def outputs_of(case, p, x):
    layers = len(case["hidden"]) + 1
    for l in range(layers):
        x = F.linear(x, p[f"layers.{l}.weight"], p[f"layers.{l}.bias"])
        if l + 1 < layers:
            x = ACTIVATIONS[case["activation"]](x)
    return x


def make_case(case, generator, out, prefix):
    widths = [FEATURES, *case["hidden"], case["outputs"]]
    p = {}
    for l, (n_in, n_out) in enumerate(zip(widths, widths[1:])):
        bound = n_in ** -0.5
        for name, shape in (("weight", (n_out, n_in)), ("bias", (n_out,))):
            value = (torch.rand(shape, generator=generator) * 2 - 1) * bound
            p[f"layers.{l}.{name}"] = value.requires_grad_()
            out[f"{prefix}initial.layers.{l}.{name}"] = value.detach().clone()
    x = torch.randn((STEPS, ROWS, FEATURES), generator=generator)
    if case["loss"] == "cross_entropy":
        target = torch.randint(0, case["outputs"], (STEPS, ROWS), generator=generator)
        out[prefix + "targets"] = target.numpy().astype(np.int32)
    else:
        target = torch.randn((STEPS, ROWS, case["outputs"]), generator=generator)
        if case["loss"] == "bce":
            target = (target > 0).float()
        out[prefix + "targets"] = target
    out[prefix + "features"] = x
    loss_of(case, outputs_of(case, p, x[0]), target[0]).backward()
    out |= {f"{prefix}gradient.{name}": value.grad.clone() for name, value in p.items()}
    decay = [v for v in p.values() if v.dim() >= 2]
    rest = [v for v in p.values() if v.dim() < 2]
    optimizer = torch.optim.AdamW([{"params": decay}, {"params": rest, "weight_decay": 0.0}], **ADAMW)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(case, outputs_of(case, p, x[step]), target[step])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    out[prefix + "losses"] = np.array(losses)
    out |= {f"{prefix}final.{name}": value for name, value in p.items()}


def write_safetensors(path, tensors, metadata):
    header, blobs, offset = {"__metadata__": metadata}, [], 0
    for name, tensor in tensors.items():
        array = tensor.detach().numpy() if isinstance(tensor, torch.Tensor) else tensor
        kinds = {"float32": "F32", "float64": "F64", "int32": "I32"}
        blob = array.tobytes()
        header[name] = {"dtype": kinds[str(array.dtype)], "shape": list(array.shape),
                        "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    out = {}
    for number, (name, case) in enumerate(CASES.items()):
        make_case(case, torch.Generator().manual_seed(1234 + number), out, name + ".")
    metadata = {"torch": torch.__version__, "adamw": json.dumps(ADAMW)}
    for name, case in CASES.items():
        metadata[name] = json.dumps(case | {"model_type": "mlp", "features": FEATURES})
    write_safetensors(sys.argv[1] + "/tables_tiny.safetensors", out, metadata)


main()
