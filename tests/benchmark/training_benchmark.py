"""Training GPT-2 small, 1,024 tokens a step (4 x 256), float32, two threads: everything in memory, a memory budget
of a tenth of the state, the tenth's disk traffic without mathematics, and PyTorch; alternating in one run.

    cmake --preset release -DHEADRACE_BENCHMARKS=ON && cmake --build --preset release
    venv/bin/python tests/benchmark/training_benchmark.py build/release/tests/benchmark/step_benchmark TEXT

Prints minimum, median and maximum of each, and ratios taken round by round. PyTorch is left out where it is not
installed.
"""
import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

STATE_BYTES = 124439808 * 12


def pytorch_step():
    """A function that times one step of the same model and batch: eager, float32, its best settings."""
    try:
        import torch
        import torch.nn.functional as F
    except ImportError:
        return None, None
    torch.set_num_threads(2)
    n, heads, layers, vocabulary = 768, 12, 12, 50257
    make = lambda *shape: (torch.randn(shape) * 0.02).requires_grad_()
    ones = lambda: torch.ones(n, requires_grad=True)
    zeros = lambda size: torch.zeros(size, requires_grad=True)
    wte, wpe = make(vocabulary, n), make(1024, n)
    blocks = [dict(w1=ones(), b1=zeros(n), wqkv=make(3 * n, n), bqkv=zeros(3 * n), wp=make(n, n), bp=zeros(n),
                   w2=ones(), b2=zeros(n), wf=make(4 * n, n), bf=zeros(4 * n), wo=make(n, 4 * n), bo=zeros(n))
              for _ in range(layers)]
    wl, bl = ones(), zeros(n)
    everything = [wte, wpe, wl, bl] + [v for b in blocks for v in b.values()]
    optimizer = torch.optim.AdamW(everything, lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens = torch.randint(0, 256, (4, 257))

    def step(clip):
        start = time.perf_counter()
        x = wte[tokens[:, :-1]] + wpe[:256]
        for b in blocks:
            q, k, v = F.linear(F.layer_norm(x, (n,), b["w1"], b["b1"]), b["wqkv"], b["bqkv"]).split(n, dim=2)
            split = lambda z: z.view(4, 256, heads, n // heads).transpose(1, 2)
            a = F.scaled_dot_product_attention(split(q), split(k), split(v), is_causal=True)
            x = x + F.linear(a.transpose(1, 2).reshape(4, 256, n), b["wp"], b["bp"])
            h = F.gelu(F.linear(F.layer_norm(x, (n,), b["w2"], b["b2"]), b["wf"], b["bf"]), approximate="tanh")
            x = x + F.linear(h, b["wo"], b["bo"])
        logits = F.linear(F.layer_norm(x, (n,), wl, bl), wte)
        loss = F.cross_entropy(logits.view(-1, vocabulary), tokens[:, 1:].reshape(-1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if clip > 0:
            torch.nn.utils.clip_grad_norm_(everything, clip)
        optimizer.step()
        return time.perf_counter() - start

    return step, torch.__version__


def show(name, values, unit, digits=2):
    print(f"{name:46s} min {min(values):8.{digits}f}  median {statistics.median(values):8.{digits}f}  "
          f"max {max(values):8.{digits}f} {unit}", flush=True)


def measure(options, directory, clip, torch_step):
    worker = subprocess.Popen([options.binary, directory, options.text, str(clip), str(STATE_BYTES // 10)], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    plans = json.loads(worker.stdout.readline())
    print(f"\n--clip {clip}; in memory: {plans['memory']}; a tenth: {plans['tenth']}", flush=True)

    def ask(what):
        worker.stdin.write(what + "\n")
        worker.stdin.flush()
        return json.loads(worker.stdout.readline())

    rounds = []
    for number in range(options.rounds + 1):
        row = {what: ask(what) for what in ("memory", "tenth", "disk")}
        if torch_step:
            row["torch"] = {"seconds": torch_step(clip), "tokens": 1024}
        if number > 0:  # the first warms up
            rounds.append(row)
    worker.stdin.close()
    worker.wait()
    rate = lambda what: [r[what]["tokens"] / r[what]["seconds"] for r in rounds]
    seconds = lambda what: [r[what]["seconds"] for r in rounds]
    show("tokens/s, everything in memory", rate("memory"), "", 1)
    show("tokens/s, a tenth of the state", rate("tenth"), "", 1)
    show("  ratio", [a / b for a, b in zip(rate("tenth"), rate("memory"))], "")
    show("seconds, mathematics alone (in memory)", seconds("memory"), "s")
    show("seconds, disk alone", seconds("disk"), "s")
    show("seconds, a tenth of the state", seconds("tenth"), "s")
    show("  the larger of both / the step",
         [max(m, d) / t for m, d, t in zip(seconds("memory"), seconds("disk"), seconds("tenth"))], "")
    show("  read in a step", [r["tenth"]["read_bytes"] / 1e9 for r in rounds], "GB")
    show("  written in a step", [r["tenth"]["written_bytes"] / 1e9 for r in rounds], "GB")
    show("  waiting for the disk", [100 * (r["tenth"]["read_wait_seconds"] + r["tenth"]["write_wait_seconds"]) /
                                    r["tenth"]["seconds"] for r in rounds], "%")
    if torch_step:
        show("tokens/s, PyTorch in memory", rate("torch"), "", 1)
        show("  in memory / PyTorch", [a / b for a, b in zip(rate("memory"), rate("torch"))], "")
        show("  a tenth of the state / PyTorch", [a / b for a, b in zip(rate("tenth"), rate("torch"))], "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", help="step_benchmark")
    parser.add_argument("text", help="text to train on")
    parser.add_argument("--dir", default="/var/tmp", help="where to make the runs: 10 GB, removed at the end")
    parser.add_argument("--clip", type=float, nargs="+", default=[0.0, 1.0], help="limits of the gradient norm")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch_step, version = pytorch_step()
    print("PyTorch", version or "not installed: left out")
    for clip in options.clip:
        directory = tempfile.mkdtemp(dir=options.dir)
        try:
            measure(options, directory, clip, torch_step)
        finally:
            shutil.rmtree(directory)
    if torch_step:
        print(f"\npeak memory of PyTorch's process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


main()
