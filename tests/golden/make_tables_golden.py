"""Makes tables_tiny.safetensors, which the perceptrons' tests are held against.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 numpy
    venv/bin/python tests/golden/make_tables_golden.py tests/golden

Perceptrons of odd sizes in plain PyTorch, float32, one for each activation and loss, and for what else may stand
between layers (torch.nn.functional, torch.optim.AdamW): weights, data, every gradient of the first step, the losses
and final weights of ten steps, and outputs and loss of an evaluation after them. What dropout drops is drawn as
engine/math/random.h has it.
"""
import json
import sys

import numpy as np
import torch
import torch.nn.functional as F

from golden_file import make_adamw, write_safetensors

ROWS, STEPS, FEATURES = 21, 10, 19
ADAMW = dict(lr=3e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
ACTIVATIONS = {"relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
               "gelu": lambda x: F.gelu(x, approximate="tanh")}
NORMS = {"layer": lambda x, p, name, _: F.layer_norm(x, x.shape[1:], p[name + "weight"], p[name + "bias"]),
         "batch": lambda x, p, name, trains: F.batch_norm(x, p[name + "running_mean"], p[name + "running_var"],
                                                          p[name + "weight"], p[name + "bias"], trains)}
CASES = {"softmax": dict(hidden=[], activation="relu", loss="cross_entropy", outputs=7),
         "relu": dict(hidden=[300, 23], activation="relu", loss="cross_entropy", outputs=7),
         "tanh": dict(hidden=[31, 17], activation="tanh", loss="mse", outputs=3),
         "sigmoid": dict(hidden=[29], activation="sigmoid", loss="bce", outputs=5),
         "gelu": dict(hidden=[33], activation="gelu", loss="cross_entropy", outputs=300),
         "dropout": dict(hidden=[37, 25], activation="gelu", loss="mse", outputs=3, dropout=0.3),
         "layer_norm": dict(hidden=[41, 300], activation="relu", loss="cross_entropy", outputs=7, norm="layer"),
         "batch_norm": dict(hidden=[300, 27], activation="tanh", loss="mse", outputs=3, norm="batch", dropout=0.2)}
SEED = 1  # of a run


def loss_of(case, y, target):
    if case["loss"] == "cross_entropy":
        return F.cross_entropy(y, target)
    if case["loss"] == "mse":
        return F.mse_loss(y, target)
    return F.binary_cross_entropy_with_logits(y, target)


def philox(counter, key):
    """Philox4x32-10 of counters [n, 4]."""
    c = [counter[:, i].astype(np.uint64) for i in range(4)]
    k, low = [np.uint64(word) for word in key], np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(b >> np.uint64(32)) ^ c[1] ^ k[0], b & low, (a >> np.uint64(32)) ^ c[3] ^ k[1], a & low]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return np.stack(c, 1)


def kept(rate, step, layer, shape):
    """1 / (1 - rate) where dropout keeps an element in a step (from 1), else 0."""
    stream, n = 2**63 + (step << 12) + layer, int(np.prod(shape))
    blocks = np.arange((n + 3) // 4, dtype=np.uint64)
    counter = np.stack([blocks, 0 * blocks, 0 * blocks + np.uint64(stream & 0xFFFFFFFF),
                        0 * blocks + np.uint64(stream >> 32)], 1)
    words = philox(counter, (SEED, 0)).reshape(-1)[:n]
    dropped = words < np.uint64(np.float32(rate).astype(np.float64) * 2**32)
    return torch.from_numpy(np.where(dropped, 0, np.float32(1) / (np.float32(1) - np.float32(rate)))
                            .astype(np.float32).reshape(shape))


def outputs_of(case, p, x, step):
    """Of a step that trains, or of an evaluation: step 0."""
    layers = len(case["hidden"]) + 1
    for l in range(layers):
        x = F.linear(x, p[f"layers.{l}.weight"], p.get(f"layers.{l}.bias"))
        if l + 1 < layers:
            if "norm" in case:
                x = NORMS[case["norm"]](x, p, f"norms.{l}.", step > 0)
            x = ACTIVATIONS[case["activation"]](x)
            if step > 0 and case.get("dropout"):
                x = x * kept(case["dropout"], step, l, x.shape)
    return x


def make_case(case, generator, out, prefix):
    widths = [FEATURES, *case["hidden"], case["outputs"]]
    p = {}
    for l, (n_in, n_out) in enumerate(zip(widths, widths[1:])):
        bound = n_in ** -0.5
        def draw(name, shape, mean, bound):
            value = mean + (torch.rand(shape, generator=generator) * 2 - 1) * bound
            p[name] = value.requires_grad_()
            out[f"{prefix}initial.{name}"] = value.detach().clone()
        draw(f"layers.{l}.weight", (n_out, n_in), 0, bound)
        norm = case.get("norm") if l < len(case["hidden"]) else None
        if norm != "batch":  # which would take it out again
            draw(f"layers.{l}.bias", (n_out,), 0, bound)
        if norm:
            draw(f"norms.{l}.weight", (n_out,), 1, 0.3)
            draw(f"norms.{l}.bias", (n_out,), 0, 0.3)
        if norm == "batch":
            for name, value in (("running_mean", torch.zeros(n_out)), ("running_var", torch.ones(n_out))):
                p[f"norms.{l}.{name}"] = value
                out[f"{prefix}initial.norms.{l}.{name}"] = value.clone()
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
    loss_of(case, outputs_of(case, p, x[0], 1), target[0]).backward()
    states = {name: value for name, value in p.items() if not value.requires_grad}
    for name, value in p.items():
        out[f"{prefix}gradient.{name}"] = torch.zeros_like(value) if name in states else value.grad.clone()
    for name, value in states.items():  # as the first of the ten steps finds it
        value.copy_(out[f"{prefix}initial.{name}"])
    optimizer = make_adamw([value for name, value in p.items() if name not in states], ADAMW)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(case, outputs_of(case, p, x[step], step + 1), target[step])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    out[prefix + "losses"] = np.array(losses)
    out |= {f"{prefix}final.{name}": value for name, value in p.items()}
    out[prefix + "outputs"] = outputs_of(case, p, x[0], 0)
    out[prefix + "evaluated"] = np.array([loss_of(case, out[prefix + "outputs"], target[0]).item()])


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    out = {}
    for number, (name, case) in enumerate(CASES.items()):
        make_case(case, torch.Generator().manual_seed(1234 + number), out, name + ".")
    metadata = {"adamw": json.dumps(ADAMW)}
    for name, case in CASES.items():
        metadata[name] = json.dumps(case | {"model_type": "mlp", "features": FEATURES})
    write_safetensors(sys.argv[1] + "/tables_tiny.safetensors", out, metadata)


main()
