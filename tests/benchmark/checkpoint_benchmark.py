"""Checkpoints: how small, how fast, and what they cost a training that takes them.

    cmake --preset release -DHEADRACE_BENCHMARKS=ON && cmake --build --preset release
    python3 tests/benchmark/checkpoint_benchmark.py size build/release WORK     # trains a small GPT-2 first
    python3 tests/benchmark/checkpoint_benchmark.py cost build/release WORK     # GPT-2 small, 1,024 tokens a step

`size` trains on the King James Bible (Debian's bible-kjv), saves the run, and compares with the raw bytes and with
plain `zstd -3` of the same bytes; then alternates saving and restoring with `zstd -3 -T2` and `zstd -d`. `cost`
alternates sessions of a few steps with a checkpoint in the middle and without. What is in WORK already is used
again, so both can be done in pieces.
"""
import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import time

CONFIG = {"model_type": "gpt2", "n_layer": 6, "n_embd": 384, "n_head": 6, "n_positions": 256, "vocab_size": 256}


def run(arguments, **more):
    return subprocess.run(arguments, check=True, text=True, stdout=subprocess.PIPE, **more).stdout


def text_of(work):
    """The Bible, a verse a line."""
    path = f"{work}/bible.txt"
    if not os.path.exists(path):
        content = run(["bible", "-f", "gen1:1-rev22:21"], stdin=subprocess.DEVNULL,
                      env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/games"})
        with open(path, "w") as file:
            file.write(content)
    return path


def steps_of(run_dir):
    path = f"{run_dir}/metrics.jsonl"
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return [json.loads(line) for line in file]


def summary(name, values, unit):
    low, middle, high = min(values), statistics.median(values), max(values)
    print(f"{name:<58}{low:9.3f}{middle:9.3f}{high:9.3f}  {unit}")


def packed_bytes_by_plane(checkpoint):
    """From the tables of the packs: docs/formats.md."""
    with open(f"{checkpoint}/manifest.json") as file:
        manifest = json.load(file)
    planes = [plane["name"] for plane in manifest["tensors"][0]["planes"]]
    total = dict.fromkeys(planes, 0)
    for pack in manifest["packs"]:
        with open(f"{checkpoint}/{pack['name']}", "rb") as file:
            file.seek(pack["table_offset"])
            for record in struct.iter_unpack("<4IQ2I4Q", file.read()):
                total[planes[record[1]]] += record[5]
    return total


def timed(arguments):
    """Wall and processor seconds."""
    before, start = os.times(), time.monotonic()
    run(arguments)
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return time.monotonic() - start, processor


def measure_size(headrace, dump, work, steps, rounds):
    run_dir, planes = f"{work}/run", f"{work}/planes"
    config = f"{work}/config.json"
    with open(config, "w") as file:
        json.dump(CONFIG, file)
    while (done := len(steps_of(run_dir))) < steps:
        run([headrace, "train", run_dir, "--model", config, "--data", text_of(work), "--memory", "512MiB",
             "--steps", str(min(done + 25, steps)), "--schedule-steps", str(steps), "--batch", "2", "--seq", "128",
             "--lr", "1e-3", "--warmup", "20", "--quiet"])
    losses = steps_of(run_dir)
    print(f"trained {steps} steps, loss {losses[0]['loss']:.3f} to {losses[-1]['loss']:.3f}")
    shutil.rmtree(planes, ignore_errors=True)
    os.mkdir(planes)
    run([dump, run_dir, planes])

    checkpoint, restored, plain = f"{work}/checkpoint", f"{work}/restored", f"{work}/plain.zst"
    shutil.rmtree(checkpoint, ignore_errors=True)
    run([headrace, "checkpoint", run_dir, "--output", checkpoint, "--quiet"])
    packed = packed_bytes_by_plane(checkpoint)
    everything = sum(os.path.getsize(f"{checkpoint}/{name}") for name in os.listdir(checkpoint))
    print(f"{'':<24}{'raw bytes':>13}{'checkpoint':>13}{'zstd -3':>13}{'of raw':>9}{'below zstd -3':>15}")
    for name, size in [*packed.items(), ("state", everything)]:
        raw = os.path.getsize(f"{planes}/{name}.raw")
        run(["zstd", "-3", "-q", "-f", f"{planes}/{name}.raw", "-o", plain])
        zstd = os.path.getsize(plain)
        print(f"{name:<24}{raw:>13}{size:>13}{zstd:>13}{size / raw:>9.4f}{100 * (1 - size / zstd):>14.1f}%")

    state, times = f"{planes}/state.raw", {}
    raw = os.path.getsize(state)
    cases = {
        "headrace checkpoint --threads 2": [headrace, "checkpoint", run_dir, "--output", checkpoint, "--threads", "2",
                                            "--quiet"],
        "zstd -3 -T2": ["zstd", "-3", "-T2", "-q", "-f", state, "-o", plain],
        "headrace restore --threads 2": [headrace, "restore", checkpoint, restored, "--threads", "2", "--quiet"],
        "zstd -d": ["zstd", "-d", "-q", "-f", plain, "-o", f"{work}/plain.raw"],
    }
    for _ in range(rounds):
        shutil.rmtree(checkpoint, ignore_errors=True)
        shutil.rmtree(restored, ignore_errors=True)
        for name, arguments in cases.items():
            wall, processor = timed(arguments)
            times.setdefault(name, []).append(raw / wall / 1e9)
            times.setdefault(name + ", of a core", []).append(raw / processor / 1e9)
    print(f"\n{'GB/s of raw bytes, whole commands':<58}{'minimum':>9}{'median':>9}{'maximum':>9}")
    for name, values in times.items():
        summary(name, values, "GB/s")
    ratio = [a / b for a, b in zip(times["headrace checkpoint --threads 2"], times["zstd -3 -T2"])]
    summary("saving / zstd -3 -T2", ratio, "")
    ratio = [a / b for a, b in zip(times["headrace restore --threads 2"], times["zstd -d"])]
    summary("restoring / zstd -d", ratio, "")
    for path in (restored, checkpoint):
        shutil.rmtree(path, ignore_errors=True)
    for path in (plain, f"{work}/plain.raw"):
        os.remove(path)
    shutil.rmtree(planes)


def session(headrace, run_dir, options, steps, every):
    """Trains on; the steps' seconds, and the summary."""
    lines = run([headrace, "train", run_dir, *options, "--steps", str(len(steps_of(run_dir)) + steps),
                 "--checkpoint-every", str(every), "--keep", "1", "--json", "--quiet"]).splitlines()
    records = [json.loads(line) for line in lines]
    return [record["seconds"] for record in records if "summary" not in record], records[-1]


def measure_cost(headrace, work, memory, clip, steps, rounds):
    run_dir = f"{work}/cost-{clip}"
    new = ["--model", "gpt2", "--data", text_of(work), "--batch", "4", "--seq", "256", "--clip", clip,
           "--schedule", "constant"]
    options = ["--memory", memory]
    if not steps_of(run_dir):
        session(headrace, run_dir, [*options, *new], 2, 0)
    extra, worst, cores, beyond = [], [], [], []
    for _ in range(rounds):
        without, _ = session(headrace, run_dir, options, steps, 0)
        due = len(steps_of(run_dir)) + steps // 2  # the one multiple in the next session
        with_one, told = session(headrace, run_dir, options, steps, due)
        assert told["checkpoints"] == 1, told
        step = statistics.median(without)
        extra.append(sum(with_one) - sum(without))
        cores.append(told["checkpoint_compress_seconds"])
        worst.append(max(with_one) / step)
        beyond.append((extra[-1] - cores[-1]) / step)
        print(json.dumps({"without": without, "with": with_one, "compress": cores[-1],
                          "read": told["checkpoint_read_bytes"], "stored": told["checkpoint_stored_bytes"],
                          "content": told["checkpoint_content_bytes"]}), flush=True)
    print(f"\n{f'GPT-2 small, {memory}, clip {clip}, sessions of {steps} steps':<58}"
          f"{'minimum':>9}{'median':>9}{'maximum':>9}")
    summary("extra time over the steps of a session", extra, "s")
    summary("processor time of compression", cores, "s")
    summary("extra beyond that, in steps", beyond, "steps")
    summary("worst step / median step without", worst, "")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["size", "cost"])
    parser.add_argument("build")
    parser.add_argument("work")
    parser.add_argument("--steps", type=int, help="size: to train [300]; cost: of a session [5]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", default="142MiB")
    parser.add_argument("--clip", default="0")
    a = parser.parse_args()
    os.makedirs(a.work, exist_ok=True)
    headrace = f"{a.build}/headrace"
    if a.what == "size":
        measure_size(headrace, f"{a.build}/tests/benchmark/dump_planes", a.work, a.steps or 300, a.rounds)
    else:
        measure_cost(headrace, a.work, a.memory, a.clip, a.steps or 5, a.rounds)


if __name__ == "__main__":
    main()
