#!/usr/bin/env python3
"""Makes a graph of this machine's package database, for the model `gcn`:

    tools/package_graph.py FOLDER [--seed N] [--words N] [--least N] [--installed]

Packages are nodes, what they depend on or recommend are edges, the words of their descriptions are features (1
where a package's description has the word, scaled to rows of length 1), sections are labels. All packages that apt
knows (apt-cache dumpavail), or with --installed those of dpkg. FOLDER gets features.npy, labels.npy, edges.txt,
train_mask.npy, val_mask.npy and test_mask.npy, and for people nodes.txt, words.txt and classes.txt. A function of
the database and the seed; needs nothing but Python.
"""
import argparse
import array
import collections
import math
import os
import random
import re
import struct
import subprocess
import sys

WORD = re.compile(r"[a-z][a-z+#-]{2,}")
NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
STOP = set("the and for with from this that are can you not which will other has have its into all also any but "
           "use used uses using package packages contains provides provide library libraries files".split())


def read_packages(installed):
    """Yields a dictionary of fields for each package, the first of a name."""
    command = ["dpkg-query", "--show", "--showformat",
               "Package: ${Package}\nSection: ${Section}\nDepends: ${Depends}\nRecommends: ${Recommends}\n"
               "Description: ${Description}\n\n"] if installed else ["apt-cache", "dumpavail"]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode("utf-8", "replace")
    seen = set()
    for paragraph in text.split("\n\n"):
        fields, key = {}, None
        for line in paragraph.split("\n"):
            if line[:1] in (" ", "\t") and key:
                fields[key] += " " + line.strip()
            elif ": " in line:
                key, value = line.split(": ", 1)
                fields[key] = value
            else:
                key = None
        name = fields.get("Package", "")
        if name and name not in seen:
            seen.add(name)
            yield fields


def section_of(fields):
    section = fields.get("Section", "").split("/")[-1]
    return section if section not in ("", "unknown") else None


def words_of(fields):
    words = set(WORD.findall(fields.get("Description", "").lower())) - STOP
    # The package's own name often says its section: libfoo-dev, python3-foo.
    return words - set(WORD.findall(fields["Package"]))


def related(fields):
    for key in ("Depends", "Pre-Depends", "Recommends"):
        for item in re.split("[,|]", fields.get(key, "")):
            found = NAME.match(item.strip())
            if found:
                yield found.group()


def write_array(path, kind, shape, data):
    """A .npy file of format 1.0."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    if sys.byteorder == "big":
        data.byteswap()
    with open(path, "wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data.tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=1, help="of the masks [1]")
    parser.add_argument("--words", type=int, default=500, help="the most frequent ones are features [500]")
    parser.add_argument("--least", type=int, default=50, help="packages of a section that is a class [50]")
    parser.add_argument("--train", type=float, default=0.1, help="part of the nodes to train on [0.1]")
    parser.add_argument("--installed", action="store_true", help="only packages that are installed")
    options = parser.parse_args()

    packages = sorted((p for p in read_packages(options.installed) if section_of(p)), key=lambda p: p["Package"])
    sizes = collections.Counter(section_of(p) for p in packages)
    classes = sorted(section for section, size in sizes.items() if size >= options.least)
    packages = [p for p in packages if section_of(p) in set(classes)]
    if len(classes) < 2:
        sys.exit(f"there are {len(packages)} packages in {len(classes)} sections of at least {options.least}: "
                 "run apt-get update, or give a smaller --least")
    index = {p["Package"]: i for i, p in enumerate(packages)}
    counts = collections.Counter(word for p in packages for word in words_of(p))
    words = sorted(counts, key=lambda word: (-counts[word], word))[:options.words]
    column = {word: i for i, word in enumerate(words)}

    os.makedirs(options.folder, exist_ok=True)
    path = lambda name: os.path.join(options.folder, name)
    features = array.array("f", bytes(4 * len(packages) * len(words)))
    edges = 0
    with open(path("edges.txt"), "w") as file:
        file.write("# which package needs or recommends which: rows of nodes.txt\n")
        for i, package in enumerate(packages):
            here = sorted(column[word] for word in words_of(package) if word in column)
            for j in here:
                features[i * len(words) + j] = 1 / math.sqrt(len(here))
            for j in sorted({index[name] for name in related(package) if name in index} - {i}):
                file.write(f"{i} {j}\n")
                edges += 1
    write_array(path("features.npy"), "<f4", (len(packages), len(words)), features)
    labels = array.array("i", (classes.index(section_of(p)) for p in packages))
    write_array(path("labels.npy"), "<i4", (len(packages),), labels)

    # The same part of each class: none is without a node to train on.
    masks = {name: array.array("B", bytes(len(packages))) for name in ("train", "val", "test")}
    chance = random.Random(options.seed)
    for c in range(len(classes)):
        rows = [i for i, label in enumerate(labels) if label == c]
        chance.shuffle(rows)
        train = max(1, round(options.train * len(rows)))
        val = train + max(1, round(0.1 * len(rows)))
        for name, part in (("train", rows[:train]), ("val", rows[train:val]), ("test", rows[val:])):
            for i in part:
                masks[name][i] = 1
    for name, mask in masks.items():
        write_array(path(f"{name}_mask.npy"), "|b1", (len(packages),), mask)
    for name, lines in (("nodes.txt", [p["Package"] for p in packages]), ("words.txt", words),
                        ("classes.txt", classes)):
        with open(path(name), "w") as file:
            file.writelines(line + "\n" for line in lines)
    print(f"{len(packages)} packages, {edges} relations, {len(words)} words, {len(classes)} sections "
          f"(the largest has {max(sizes[c] for c in classes)} packages)")


main()
