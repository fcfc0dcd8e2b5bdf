"""Streaming a whole store's blocks in training order (GPT-2 small by default) against fio, on the same file system
with the same block size and depth: reads, writes and both mixed; headrace bench's own figures against fio's; and
creating a store against fio writing a new file. Everything alternates in one run.

    cmake --preset release -DHEADRACE_BENCHMARKS=ON && cmake --build --preset release
    sudo apt-get install fio
    sudo python3 tests/benchmark/storage_benchmark.py build/release [--dir DIR]

Takes about 9 GB in DIR, removed at the end. Prints minimum, median and maximum of the rates and of the ratios,
which are taken pair by pair; exits with 1 where a median ratio is below what it should be.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

HUGE_PAGES = 24  # of 2 MiB
LEAST = {"read": 0.97, "write": 0.97, "rw": 0.97, "create": 0.6}  # ratios of a store to fio
BENCH_WITHIN = 0.05  # of fio's figures


def huge_pages(count=None):
    """How many huge pages the system keeps; sets it where a count is given. Headrace's buffers are huge pages, and a
    request of 1 MiB in small ones has more segments than some drives take: without them fio is at a disadvantage."""
    with open("/proc/sys/vm/nr_hugepages", "r" if count is None else "w") as file:
        return int(file.read()) if count is None else file.write(str(count))


def fio(path, rw, size, block, depth, seconds=0, **more):
    """Bytes per second of one fio job; both directions together."""
    options = dict(name="fio", filename=path, rw=rw, size=size, bs=block, iodepth=depth, ioengine="io_uring", direct=1,
                   thread=1, fixedbufs=1, **more)
    if huge_pages() >= HUGE_PAGES:
        options["iomem"] = "shmhuge"
    if seconds:
        options.update(runtime=seconds, time_based=1)
    command = ["fio", "--output-format=json"] + [f"--{name}={value}" for name, value in options.items()]
    out = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    job = json.loads(out[out.index("{"):])["jobs"][0]
    moved = job["read"]["io_bytes"] + job["write"]["io_bytes"]
    return moved / (max(job["read"]["runtime"], job["write"]["runtime"]) / 1e3)


class Store:
    def __init__(self, binary, directory, model):
        self.process = subprocess.Popen([binary, directory, model], text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.facts = json.loads(self.process.stdout.readline())

    def rate(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["bytes"] / answer["seconds"]


def bench(binary, directory, rw, size, block, depth, seconds):
    out = subprocess.run([binary, "bench", directory, "--rw", rw, "--size", str(size), "--bs", str(block), "--iodepth",
                          str(depth), "--runtime", str(seconds), "--time_based", "--json", "--quiet"],
                         check=True, text=True, stdout=subprocess.PIPE).stdout
    job = json.loads(out)["jobs"][-1]
    return job["read"]["bw_bytes"] + job["write"]["bw_bytes"]


def show(name, ours, theirs):
    ratios = [a / b for a, b in zip(ours, theirs)]
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    rates = [f"{statistics.median(r) / 1e6:5.0f} ({min(r) / 1e6:.0f} to {max(r) / 1e6:.0f})" for r in (ours, theirs)]
    print(f"{name:24s} {rates[0]:>22s} MB/s  fio {rates[1]:>22s} MB/s  ratio min {low:.3f}  median {middle:.3f}  "
          f"max {high:.3f}", flush=True)
    return middle


def pairs(count, ours, theirs):
    """Both alternately, each first in every other pair; a pair before them warms up."""
    a, b = [], []
    for number in range(count + 1):
        first, second = (ours, theirs) if number % 2 else (theirs, ours)
        results = {first: first(), second: second()}
        if number:
            a.append(results[ours])
            b.append(results[theirs])
    return a, b


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="the build's folder")
    parser.add_argument("--dir", default="/var/tmp", help="on the drive to measure")
    parser.add_argument("--model", default="gpt2")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of headrace bench and of fio beside it")
    parser.add_argument("--only", nargs="+", default=["read", "write", "rw", "bench", "create"])
    parser.add_argument("--small-pages", action="store_true", help="leave fio its default buffers")
    options = parser.parse_args()
    kept = huge_pages()
    if not options.small_pages and kept < HUGE_PAGES:
        huge_pages(HUGE_PAGES)  # needs root; set back at the end
    directory = tempfile.mkdtemp(dir=options.dir)
    good = True
    try:
        store = Store(f"{options.build}/tests/benchmark/storage_benchmark", directory, options.model)
        facts = store.facts
        block, depth = facts["transfer_bytes"], facts["depth"]
        size = facts["payload_bytes"] // block * block
        print(f"a store of {facts['payload_bytes'] / 1e9:.2f} GB by {facts['io']}; requests of {block} bytes, {depth} in "
              f"flight; {options.pairs} pairs; fio's buffers in {'huge' if huge_pages() >= HUGE_PAGES else 'small'} pages")
        path = os.path.join(directory, "fio")
        fio(path, "write", size, block, depth, end_fsync=1)  # what is measured overwrites, as a store does
        for what in ("read", "write", "rw"):
            if what not in options.only:
                continue
            ours, theirs = pairs(options.pairs, lambda: store.rate(what), lambda: fio(path, what, size, block, depth))
            good = show(f"store, {what}", ours, theirs) >= LEAST[what] and good
        if "bench" in options.only:
            filled = os.path.join(directory, "filled")

            def fio_as_bench(what):  # on a file that was filled just before, as bench does it
                fio(filled, "write", size, block, depth)
                rate = fio(filled, what, size, block, depth, options.seconds)
                os.unlink(filled)
                return rate

            for what in ("read", "write"):
                ours, theirs = pairs(options.pairs,
                                     lambda: bench(f"{options.build}/headrace", directory, what, size, block, depth,
                                                   options.seconds),
                                     lambda: fio_as_bench(what))
                good = abs(show(f"headrace bench, {what}", ours, theirs) - 1) <= BENCH_WITHIN and good
        if "create" in options.only:
            created = facts["created_bytes"] // block * block
            fresh = os.path.join(directory, "fresh")

            def new_file():
                rate = fio(fresh, "write", created, block, depth, end_fsync=1)
                os.unlink(fresh)
                return rate

            ours, theirs = pairs(options.pairs, lambda: store.rate("create"), new_file)
            good = show("store, create", ours, theirs) >= LEAST["create"] and good
        store.process.stdin.close()
        store.process.wait()
    finally:
        shutil.rmtree(directory)
        if huge_pages() != kept:
            huge_pages(kept)
    print("as it should be" if good else "a median ratio is not what it should be")
    return 0 if good else 1


sys.exit(main())
