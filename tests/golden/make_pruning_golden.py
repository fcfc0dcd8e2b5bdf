"""Makes pruning_tiny.safetensors, which masked training is held against.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 numpy
    venv/bin/python tests/golden/make_pruning_golden.py tests/golden

A perceptron in plain PyTorch, float32, takes ten steps of torch.optim.AdamW while torch.nn.utils.prune prunes its
matrices by magnitude: at once before the first of them, or step by step as Zhu and Gupta (2017) have it, with and
without torch.nn.utils.clip_grad_norm_. What is pruned with a step is chosen by the weights before it, between its
backward pass and its update. Kept are the initial weights, the data, losses, norms of
the gradients, and the final weights with their masks.
"""
import json
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils import clip_grad_norm_, prune

from golden_file import make_adamw, write_safetensors

ROWS, STEPS, WIDTHS = 21, 10, [19, 300, 23, 7]
ADAMW = dict(lr=3e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
CASES = {"once": dict(sparsity=0.8, initial=0.0, begin=1, end=1, every=1, clip=0.0),
         "gradually": dict(sparsity=0.9, initial=0.3, begin=2, end=9, every=3, clip=0.0),
         "clipped": dict(sparsity=0.9, initial=0.0, begin=3, end=7, every=2, clip=0.05)}


def sparsity_at(case, step):
    if step >= case["end"]:
        return case["sparsity"]
    left = 1 - (step - case["begin"]) / (case["end"] - case["begin"])
    return case["sparsity"] + (case["initial"] - case["sparsity"]) * left ** 3


def prunes_at(case, step):
    if not case["begin"] <= step <= case["end"]:
        return False
    return step == case["end"] or (step - case["begin"]) % case["every"] == 0


def prune_to(layer, sparsity):
    pruned = int((layer.weight_mask == 0).sum()) if hasattr(layer, "weight_mask") else 0
    more = round(sparsity * layer.weight.numel()) - pruned
    if more > 0:
        prune.l1_unstructured(layer, "weight", amount=more)


def run(case, initial, x, target):
    layers = [torch.nn.Linear(a, b) for a, b in zip(WIDTHS, WIDTHS[1:])]
    for l, layer in enumerate(layers):
        layer.weight.data.copy_(initial[f"layers.{l}.weight"])
        layer.bias.data.copy_(initial[f"layers.{l}.bias"])
    parameters = [p for layer in layers for p in (layer.weight, layer.bias)]
    optimizer = make_adamw(parameters, ADAMW)
    losses, norms = [], []
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        h = x[step - 1]
        for l, layer in enumerate(layers):
            h = layer(h) if l == 0 else layer(torch.tanh(h))
        loss = F.cross_entropy(h, target[step - 1])
        loss.backward()
        norms.append(clip_grad_norm_(parameters, case["clip"] or float("inf")).item())
        if prunes_at(case, step):
            for layer in layers:
                prune_to(layer, sparsity_at(case, step))
        optimizer.step()
        losses.append(loss.item())
    final = {}
    for l, layer in enumerate(layers):
        final[f"layers.{l}.weight"] = layer.weight_orig * layer.weight_mask + 0.0
        final[f"layers.{l}.bias"] = layer.bias
    return final, np.array(losses), np.array(norms)


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(4321)
    initial = {}
    for l, (n_in, n_out) in enumerate(zip(WIDTHS, WIDTHS[1:])):
        for name, shape in (("weight", (n_out, n_in)), ("bias", (n_out,))):
            initial[f"layers.{l}.{name}"] = (torch.rand(shape, generator=generator) * 2 - 1) * n_in ** -0.5
    x = torch.randn((STEPS, ROWS, WIDTHS[0]), generator=generator)
    target = torch.randint(0, WIDTHS[-1], (STEPS, ROWS), generator=generator)
    out = {f"initial.{name}": value for name, value in initial.items()}
    out |= {"features": x, "targets": target.numpy().astype(np.int32)}
    for name, case in CASES.items():
        final, losses, norms = run(case, initial, x, target)
        out |= {f"{name}.final.{tensor}": value for tensor, value in final.items()}
        out |= {name + ".losses": losses, name + ".norms": norms}
    model = dict(model_type="mlp", features=WIDTHS[0], hidden=WIDTHS[1:-1], outputs=WIDTHS[-1], activation="tanh",
                 loss="cross_entropy")
    write_safetensors(sys.argv[1] + "/pruning_tiny.safetensors", out,
                      {"adamw": json.dumps(ADAMW), "model": json.dumps(model), "cases": json.dumps(CASES)})


main()
