"""Makes rnn_tiny.safetensors, rnn-relu_tiny.safetensors and so on for the recurrent models' tests.

    python3 -m venv venv && venv/bin/pip install torch==2.13.0 numpy
    venv/bin/python tests/golden/make_recurrent_golden.py tests/golden

Language models of odd sizes in PyTorch, float32 (torch.nn.Embedding, RNN, LSTM or GRU of two layers, Linear): over
contiguous lanes, the state carried from window to window without gradient. Weights, tokens, the logits of two
windows, every gradient of the second, and the losses, gradient norms and final weights and state of ten steps with
clipping.
"""
import functools
import json
import sys

import numpy as np
import torch

from golden_file import make_adamw, write_safetensors

VOCABULARY, EMBEDDING, HIDDEN, LAYERS = 41, 13, 27, 2
LANES, SEQ, STEPS = 3, 11, 10
ADAMW = dict(lr=3e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
CLIP = {"rnn": 1.04, "rnn-relu": 1.04, "lstm": 0.24, "gru": 0.48}  # some of the ten steps are clipped, some are not


class Model(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.encoder = torch.nn.Embedding(VOCABULARY, EMBEDDING)
        self.rnn = kind(EMBEDDING, HIDDEN, LAYERS, batch_first=True)
        self.decoder = torch.nn.Linear(HIDDEN, VOCABULARY)

    def forward(self, tokens, state):
        out, state = self.rnn(self.encoder(tokens), state)
        return self.decoder(out), state


def detached(state):
    return tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()


def loss_of(logits, targets):
    return torch.nn.functional.cross_entropy(logits.reshape(-1, VOCABULARY), targets.reshape(-1))


def make(name, kind, folder):
    torch.manual_seed(7)
    model = Model(kind)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    parameters = dict(model.named_parameters())
    out = {"initial." + n: p.detach().clone() for n, p in parameters.items()}
    text = torch.randint(0, VOCABULARY, (LANES, STEPS * SEQ + 1))
    window = lambda s: (text[:, s * SEQ:(s + 1) * SEQ], text[:, s * SEQ + 1:(s + 1) * SEQ + 1])
    out["tokens"] = np.stack([text[:, s * SEQ:(s + 1) * SEQ + 1].numpy() for s in range(STEPS)]).astype(np.int32)

    state = None
    for s in range(2):
        model.zero_grad()
        logits, state = model(window(s)[0], state)
        state = detached(state)
        out[f"logits.{s}"] = logits.detach().clone()
        loss_of(logits, window(s)[1]).backward()
        out |= {f"gradient.{s}." + n: p.grad.clone() for n, p in parameters.items()}

    optimizer = make_adamw(parameters.values(), ADAMW)
    losses, norms, state = [], [], None
    for s in range(STEPS):
        optimizer.zero_grad()
        logits, state = model(window(s)[0], state)
        state = detached(state)
        loss = loss_of(logits, window(s)[1])
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP[name]).item())
        optimizer.step()
        losses.append(loss.item())
    out["losses"], out["norms"] = np.array(losses), np.array(norms)
    out |= {"final." + n: p for n, p in parameters.items()}
    for letter, values in zip("hc", state if isinstance(state, tuple) else (state,)):
        for layer in range(LAYERS):
            out[f"final.state.{letter}_l{layer}"] = values[layer]
    config = dict(model_type=name, vocab_size=VOCABULARY, embedding_size=EMBEDDING, hidden_size=HIDDEN,
                  num_layers=LAYERS)
    metadata = {"config": json.dumps(config), "adamw": json.dumps(ADAMW),
                "clip": str(CLIP[name])}
    write_safetensors(f"{folder}/{name}_tiny.safetensors", out, metadata)
    print(name, "losses", losses, "norms", norms, "clipped", sum(n > CLIP[name] for n in norms))


def main():
    torch.set_num_threads(1)
    rectified = functools.partial(torch.nn.RNN, nonlinearity="relu")
    for name, kind in [("rnn", torch.nn.RNN), ("rnn-relu", rectified), ("lstm", torch.nn.LSTM), ("gru", torch.nn.GRU)]:
        make(name, kind, sys.argv[1])


main()
