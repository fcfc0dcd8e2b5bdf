"""Makes gpt2_tiny.safetensors, which the GPT-2 tests are held against.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 numpy
    venv/bin/python tests/golden/make_gpt2_golden.py tests/golden

A GPT-2 of odd sizes in plain PyTorch, float32 (torch.nn.functional's layer norm, attention, GELU, cross entropy;
torch.optim.AdamW; torch.nn.utils.clip_grad_norm_): weights, tokens, logits, every gradient of the first step, and
the losses, gradient norms and final weights of ten steps with clipping. Linear weights are [out, in].
"""
import json
import sys

import numpy as np
import torch
import torch.nn.functional as F

from golden_file import make_adamw, write_safetensors

CONFIG = dict(vocab_size=301, n_positions=29, n_embd=42, n_layer=3, n_head=3, n_inner=150, layer_norm_epsilon=1e-5,
              initializer_range=0.1)
BATCH, SEQ, STEPS = 3, 23, 10
ADAMW = dict(lr=3e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
CLIP = 1.3  # some of the ten steps are clipped, some are not


def make_parameters(generator):
    n, inner = CONFIG["n_embd"], CONFIG["n_inner"]
    shapes = {"wte.weight": (CONFIG["vocab_size"], n), "wpe.weight": (CONFIG["n_positions"], n)}
    for l in range(CONFIG["n_layer"]):
        h = f"h.{l}."
        shapes |= {h + "ln_1.weight": (n,), h + "ln_1.bias": (n,),
                   h + "attn.c_attn.weight": (3 * n, n), h + "attn.c_attn.bias": (3 * n,),
                   h + "attn.c_proj.weight": (n, n), h + "attn.c_proj.bias": (n,),
                   h + "ln_2.weight": (n,), h + "ln_2.bias": (n,),
                   h + "mlp.c_fc.weight": (inner, n), h + "mlp.c_fc.bias": (inner,),
                   h + "mlp.c_proj.weight": (n, inner), h + "mlp.c_proj.bias": (n,)}
    shapes |= {"ln_f.weight": (n,), "ln_f.bias": (n,)}
    parameters = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator) * CONFIG["initializer_range"]
        if "ln_" in name and name.endswith("weight"):
            value += 1
        parameters[name] = value.requires_grad_()
    return parameters


def logits_of(p, tokens):
    n, heads, eps = CONFIG["n_embd"], CONFIG["n_head"], CONFIG["layer_norm_epsilon"]
    norm = lambda x, name: F.layer_norm(x, (n,), p[name + ".weight"], p[name + ".bias"], eps)
    linear = lambda x, name: F.linear(x, p[name + ".weight"], p[name + ".bias"])
    b, t = tokens.shape
    x = p["wte.weight"][tokens] + p["wpe.weight"][:t]
    for l in range(CONFIG["n_layer"]):
        h = f"h.{l}."
        q, k, v = linear(norm(x, h + "ln_1"), h + "attn.c_attn").split(n, dim=2)
        split = lambda z: z.view(b, t, heads, n // heads).transpose(1, 2)
        a = F.scaled_dot_product_attention(split(q), split(k), split(v), is_causal=True)
        x = x + linear(a.transpose(1, 2).reshape(b, t, n), h + "attn.c_proj")
        x = x + linear(F.gelu(linear(norm(x, h + "ln_2"), h + "mlp.c_fc"), approximate="tanh"), h + "mlp.c_proj")
    return F.linear(norm(x, "ln_f"), p["wte.weight"])


def loss_of(logits, targets):
    return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(1234)
    p = make_parameters(generator)
    out = {"initial." + name: value.clone() for name, value in p.items()}
    tokens = torch.randint(0, CONFIG["vocab_size"], (STEPS, BATCH, SEQ + 1), generator=generator)
    out["tokens"] = tokens.numpy().astype(np.int32)
    logits = logits_of(p, tokens[0, :, :-1])
    out["logits"] = logits
    loss_of(logits, tokens[0, :, 1:]).backward()
    out |= {"gradient." + name: value.grad.clone() for name, value in p.items()}

    optimizer = make_adamw(p.values(), ADAMW)
    losses, norms = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(logits_of(p, tokens[step, :, :-1]), tokens[step, :, 1:])
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(p.values(), CLIP).item())
        optimizer.step()
        losses.append(loss.item())
    out["losses"] = np.array(losses)
    out["norms"] = np.array(norms)
    out |= {"final." + name: value for name, value in p.items()}
    metadata = {"config": json.dumps(CONFIG | {"model_type": "gpt2"}),
                "adamw": json.dumps(ADAMW), "clip": str(CLIP)}
    write_safetensors(sys.argv[1] + "/gpt2_tiny.safetensors", out, metadata)
    print("losses", losses, "norms", norms)


main()
