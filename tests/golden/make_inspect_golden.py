"""Makes inspect_statistics.json: what numpy says of tensors of gpt2_tiny.safetensors, for the tests of inspect.

    venv/bin/python tests/golden/make_inspect_golden.py tests/golden      (numpy)
"""
import json
import struct
import sys

import numpy as np

folder = sys.argv[1]
with open(folder + "/gpt2_tiny.safetensors", "rb") as file:
    header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    data = file.read()
kinds = {"F32": np.float32, "F64": np.float64, "I32": np.int32}
tensors = {name: np.frombuffer(data[slice(*entry["data_offsets"])], kinds[entry["dtype"]]).reshape(entry["shape"])
           for name, entry in header.items() if name != "__metadata__"}


def statistics(x):
    x = x.astype(np.float64)
    return {"elements": x.size, "min": x.min(), "max": x.max(), "mean": x.mean(), "standard_deviation": x.std(),
            "zeros": int((x == 0).sum())}


def difference(a, b):
    apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return {"differing": int((a != b).sum()), "max_absolute": apart.max(), "mean_absolute": apart.mean(),
            "relative_norm": np.linalg.norm(apart) / np.linalg.norm(a.astype(np.float64))}


names = [name[len("initial."):] for name in tensors if name.startswith("initial.")]
golden = {"statistics": {name: statistics(x) for name, x in tensors.items()},
          "differences": {name: difference(tensors["initial." + name], tensors["final." + name]) for name in names}}
with open(folder + "/inspect_statistics.json", "w") as file:
    json.dump(golden, file, indent=1)
    file.write("\n")
