"""Makes gcn_*.safetensors, which the tests of graph convolutional networks are held against.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 numpy
    venv/bin/python tests/golden/make_gcn_golden.py tests/golden

Graph convolutions in plain PyTorch, float32, with the adjacency as a dense matrix; global pooling; top-k pooling.
Of each case: weights, features, edges, labels, logits, every gradient of the first step, and the losses, gradient
norms and final weights of ten steps of torch.optim.AdamW with torch.nn.utils.clip_grad_norm_.
"""
import json
import sys

import numpy as np
import torch
import torch.nn.functional as F

from golden_file import make_adamw, write_safetensors

STEPS = 10
ADAMW = dict(lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
CASES = {
    "nodes": dict(nodes=531, features=23, classes=5, graphs=0, hidden=[19, 11], clip=1.0),
    "mean": dict(nodes=301, features=17, classes=3, graphs=9, hidden=[13], pooling="mean", clip=2.2),
    "max": dict(nodes=301, features=17, classes=3, graphs=9, hidden=[13, 9], pooling="max", pool_ratio=0.6, clip=1.2),
    "sum": dict(nodes=301, features=17, classes=3, graphs=9, hidden=[13, 9], pooling="sum", pool_ratio=0.4, clip=1.5),
}


def normalised(nodes, edges):
    a = torch.eye(nodes)
    for i, j in edges:
        a[i, j] = a[j, i] = 1
    scale = a.sum(1).rsqrt()
    return scale[:, None] * a * scale[None, :]


def make_edges(case, first, generator):
    edges = []
    for g in range(len(first) - 1):
        n = first[g + 1] - first[g]
        edges += [[first[g] + int(i), first[g] + int(j)] for i, j in torch.randint(0, n, (2 * n, 2), generator=generator)]
    return edges


def make_parameters(case, generator):
    widths = case["hidden"] + ([] if case["graphs"] else [case["classes"]])
    columns, p = case["features"], {}
    draw = lambda *shape: 0.6 * torch.randn(shape, generator=generator)
    for l, width in enumerate(widths):
        p[f"conv.{l}.weight"], p[f"conv.{l}.bias"] = draw(width, columns), draw(width)
        if case.get("pool_ratio", 1) < 1:
            p[f"pool.{l}.weight"] = draw(width)
        columns = width
    if case["graphs"]:
        p["head.weight"], p["head.bias"] = draw(case["classes"], columns), draw(case["classes"])
    return {name: value.requires_grad_() for name, value in p.items()}


def logits_of(p, case, features, edges, first):
    x, first, kept = features, list(first), np.arange(case["nodes"])
    widths = case["hidden"] + ([] if case["graphs"] else [case["classes"]])
    for l in range(len(widths)):
        here = {int(node): i for i, node in enumerate(kept)}
        a = normalised(len(kept), [(here[i], here[j]) for i, j in edges if i in here and j in here])
        x = a @ F.linear(x, p[f"conv.{l}.weight"]) + p[f"conv.{l}.bias"]
        if l < len(case["hidden"]):
            x = F.relu(x)
        if case.get("pool_ratio", 1) < 1:
            direction = p[f"pool.{l}.weight"]
            scores = x @ direction / direction.norm()
            chosen, next_first = [], [0]
            for g in range(len(first) - 1):
                count = int(np.ceil(case["pool_ratio"] * (first[g + 1] - first[g])))
                best = torch.argsort(scores[first[g]:first[g + 1]], descending=True, stable=True)[:count]
                chosen += sorted(first[g] + int(i) for i in best)
                next_first.append(len(chosen))
            x = x[chosen] * torch.tanh(scores[chosen])[:, None]
            kept, first = kept[chosen], next_first
    if not case["graphs"]:
        return x
    pool = {"mean": lambda t: t.mean(0), "max": lambda t: t.max(0).values, "sum": lambda t: t.sum(0)}[case["pooling"]]
    x = torch.stack([pool(x[first[g]:first[g + 1]]) for g in range(len(first) - 1)])
    return F.linear(x, p["head.weight"], p["head.bias"])


def make(name, case, folder):
    generator = torch.Generator().manual_seed(1234)
    first = [0, case["nodes"]]
    if case["graphs"]:
        cuts = sorted(torch.randperm(case["nodes"] - 1, generator=generator)[:case["graphs"] - 1].tolist())
        first = [0] + [c + 1 for c in cuts] + [case["nodes"]]
    edges = make_edges(case, first, generator)
    features = torch.randn(case["nodes"], case["features"], generator=generator)
    rows = case["graphs"] or case["nodes"]
    labels = torch.randint(0, case["classes"], (rows,), generator=generator)
    meant = torch.rand(rows, generator=generator) < 0.7
    p = make_parameters(case, generator)
    out = {"initial." + k: v.clone() for k, v in p.items()} | {"initial.features": features.clone()}
    out["edges"] = np.array(edges, dtype=np.int32)
    out["first"] = np.array(first, dtype=np.int32)
    out["targets"] = np.where(meant.numpy(), labels.numpy(), -1).astype(np.int32)

    def loss_and_logits():
        logits = logits_of(p, case, features, edges, first)
        return F.cross_entropy(logits[meant], labels[meant]), logits

    loss, logits = loss_and_logits()
    out["logits"] = logits
    loss.backward()
    out |= {"gradient." + k: v.grad.clone() for k, v in p.items()}
    optimizer = make_adamw(p.values(), ADAMW)
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss, _ = loss_and_logits()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(p.values(), case["clip"]).item())
        optimizer.step()
        losses.append(loss.item())
    out |= {"losses": np.array(losses), "norms": np.array(norms)} | {"final." + k: v for k, v in p.items()}
    config = {k: v for k, v in case.items() if k != "clip"} | {"model_type": "gcn", "dropout": 0.0}
    write_safetensors(f"{folder}/gcn_{name}.safetensors", out,
                      {"config": json.dumps(config), "adamw": json.dumps(ADAMW),
                       "clip": str(case["clip"])})
    print(name, "losses", losses, "norms", norms)


torch.manual_seed(0)
torch.set_num_threads(1)
for case_name, case_of in CASES.items():
    make(case_name, case_of, sys.argv[1])
