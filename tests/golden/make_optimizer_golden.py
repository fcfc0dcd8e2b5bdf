"""Makes optimizers.safetensors, which the optimizers are held against.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 numpy
    venv/bin/python tests/golden/make_optimizer_golden.py tests/golden

A matrix, which decays and is penalised, and a vector, which is not, take ten steps with given gradients: as the
gradient of the loss sum(gradient * parameter), in float32, plus the penalties where there are any. SGD, Adam and
AdamW are torch.optim's. Lion is written out from Chen et al. 2023, algorithm 2; AdamW with 8-bit moments from the
formulas in engine/math/updates.h.
"""
import json
import sys

import torch

from golden_file import write_safetensors

STEPS, ROWS, COLUMNS, LENGTH = 10, 37, 29, 41
LR = 1e-2
BETAS = dict(beta1=0.9, beta2=0.95)

# By name: the options of the run, as text in the metadata, that make headrace do the same.
CASES = {
    "sgd": dict(optimizer="sgd"),
    "sgd.momentum": dict(optimizer="sgd", momentum=0.9),
    "sgd.nesterov": dict(optimizer="sgd", momentum=0.9, nesterov=True),
    "sgd.penalties": dict(optimizer="sgd", momentum=0.9, l1=0.03, l2=0.2),
    "adam": dict(optimizer="adam", eps=1e-8, **BETAS),
    "adam.l2": dict(optimizer="adam", eps=1e-8, l2=0.2, **BETAS),
    "adamw": dict(optimizer="adamw", eps=1e-8, **{"weight-decay": 0.1}, **BETAS),
    "adamw.penalties": dict(optimizer="adamw", eps=1e-6, l1=0.03, l2=0.2, **{"weight-decay": 0.1}, **BETAS),
    "adamw8bit": dict(optimizer="adamw8bit", eps=1e-8, **{"weight-decay": 0.1}, **BETAS),
    "lion": dict(optimizer="lion", beta1=0.9, beta2=0.99, **{"weight-decay": 0.3}),
}


class Lion(torch.optim.Optimizer):
    def __init__(self, groups, lr, betas):
        super().__init__(groups, dict(lr=lr, betas=betas, weight_decay=0.0))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                direction = torch.sign(beta1 * m + (1 - beta1) * p.grad)
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * direction)
                m.mul_(beta2).add_(p.grad, alpha=1 - beta2)


GROUP = 256  # elements that share a scale


def dithers(step, count):
    """d1 and d2 of the elements of a group: 16 bits of a sequence that visits [0, 1) evenly."""
    places = (step * 0x9E3779B9 + torch.arange(count) * 0x6A09E667) % 2**32
    d2 = (places // 2**16).float() / 2**16
    return (d2 + 0.5) % 1, d2


class Moments8bit:
    """What a group of elements keeps between two steps: codes and scales, at first all zero."""

    def __init__(self, count):
        self.c1, self.s1, self.c2, self.s2 = torch.zeros(count), torch.tensor(0.0), torch.zeros(count), torch.tensor(0.0)

    def values(self):
        return torch.sign(self.c1) * (self.c1 / 127) ** 2 * self.s1, (self.c2 / 255) ** 4 * self.s2

    def keep(self, m, v, step):
        d1, d2 = dithers(step, len(m))
        self.s1, self.s2 = m.abs().max(), v.max()
        self.c1 = torch.sign(m) * torch.floor(127 * torch.sqrt(m.abs() / self.s1) + d1)
        self.c2 = torch.floor(255 * torch.sqrt(torch.sqrt(v / self.s2)) + d2)
        self.c2[(v > 0) & (self.c2 == 0)] = 1
        assert self.c1.abs().max() == 127 and self.c2.max() == 255


class AdamW8bit(torch.optim.Optimizer):
    def __init__(self, groups, lr, betas, eps):
        super().__init__(groups, dict(lr=lr, betas=betas, eps=eps, weight_decay=0.0))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["step"] = self.state[p].get("step", 0) + 1
                for first in range(0, p.numel(), GROUP):
                    self.update(group, self.state[p], first, p.view(-1)[first:first + GROUP],
                                p.grad.flatten()[first:first + GROUP])

    def update(self, group, state, first, weight, gradient):
        beta1, beta2 = group["betas"]
        step = state["step"]
        moments = state.setdefault(first, Moments8bit(len(weight)))
        m, v = moments.values()
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        weight *= 1 - group["lr"] * group["weight_decay"]
        weight -= group["lr"] * (m / (1 - beta1**step)) / (torch.sqrt(v / (1 - beta2**step)) + group["eps"])
        moments.keep(m, v, step)


def make_optimizer(case, matrix, vector):
    groups = [{"params": [matrix], "weight_decay": case.get("weight-decay", 0.0)},
              {"params": [vector], "weight_decay": 0.0}]
    betas = (case.get("beta1"), case.get("beta2"))
    kind = case["optimizer"]
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=LR, momentum=case.get("momentum", 0.0), nesterov=case.get("nesterov", False))
    if kind == "adam":
        return torch.optim.Adam(groups, lr=LR, betas=betas, eps=case["eps"])
    if kind == "adamw":
        return torch.optim.AdamW(groups, lr=LR, betas=betas, eps=case["eps"])
    if kind == "adamw8bit":
        return AdamW8bit(groups, LR, betas, case["eps"])
    return Lion(groups, LR, betas)


def run(case, matrix, vector, matrix_gradients, vector_gradients):
    matrix, vector = matrix.clone().requires_grad_(), vector.clone().requires_grad_()
    optimizer = make_optimizer(case, matrix, vector)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = (matrix_gradients[step] * matrix).sum() + (vector_gradients[step] * vector).sum()
        loss = loss + case.get("l1", 0.0) * matrix.abs().sum() + case.get("l2", 0.0) * matrix.square().sum()
        loss.backward()
        optimizer.step()
    return matrix, vector


def text_of(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(77)
    randn = lambda *shape: torch.randn(shape, generator=generator)
    matrix, vector = randn(ROWS, COLUMNS) * 0.3, randn(LENGTH) * 0.3
    # Sizes of gradients differ from element to element, as in a network.
    matrix_gradients = randn(STEPS, ROWS, COLUMNS) * torch.exp(2 * randn(ROWS, COLUMNS)) * 0.1
    vector_gradients = randn(STEPS, LENGTH) * 0.1
    out = {"initial.matrix": matrix, "initial.vector": vector, "gradients.matrix": matrix_gradients,
           "gradients.vector": vector_gradients}
    for name, case in CASES.items():
        out[name + ".matrix"], out[name + ".vector"] = run(case, matrix, vector, matrix_gradients, vector_gradients)
    cases = {name: {key: text_of(value) for key, value in case.items()} for name, case in CASES.items()}
    write_safetensors(sys.argv[1] + "/optimizers.safetensors", out,
                      {"lr": str(LR), "cases": json.dumps(cases)})


main()
