"""Ways to fetch only what differs from an earlier version: bytes to transfer, on real pairs of models.

The product's own trainer and converter make one model, then four successors of it:

- scratch: another seed, trained anew
- epoch: one more epoch over all images, at a tenth of the rate
- head: the same epoch with all but the last layer frozen
- class: the last layer enlarged by a class, nothing else changed

Each pair is compared as int8 and as float32. A measure is named pair_variant_way; its baseline is the full transfer,
which is what the registry makes of a file: compressed whole. The ways:

- fixed64k, fixed4k: chunks of a fixed size that the old file does not have, each compressed by itself
- content4k: the same with chunks of 4 KiB on average whose ends the content decides (FastCDC), names not counted
- dictionary: one zstd frame with the old file as its dictionary
- difference: one zstd frame of the new file minus the old one, byte by byte
- planes: the same, but 32-bit words combined by XOR, and their first bytes compressed first, then their second ones
- shipped: what the registry would publish as a patch beside the file; the full transfer where it publishes none

Goal: the fine-tuned head costs at most 0.15 of the full transfer. Data: MNIST from `LITTORAL_MNIST` or
../shared/data/mnist, else the embedded digits.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import zstandard

from benchmarks.kit.measures import Measure, Measures
from cloud.registry import patches
from cloud.registry.chunks import plan
from cloud.registry.rules import affordable
from cloud.training import rules
from cloud.training.converter import convert
from cloud.training.datasets import EMBEDDED, Dataset, load
from cloud.training.entities import FLOAT, INT8, Options
from cloud.training.network import build
from cloud.training.trainer import Trainer
from protos.kit.patches import bytes_of

MNIST = Path(os.environ.get("LITTORAL_MNIST", "../shared/data/mnist"))
EPOCHS = {"mnist": 2}
"""Of the first training, by data set; what the product takes for any other."""
FURTHER_RATE = Options().rate / 10
HEAD = "classes"

Way = Callable[[bytes, bytes], int]


def run() -> Measures:
    """Make the models, then measure each way on each pair."""
    data = load(MNIST if MNIST.is_dir() else EMBEDDED)
    old, successors = models(data)
    measures = {}
    for pair, new in successors.items():
        for variant in (INT8, FLOAT):
            full = len(plan(new[variant])[1])
            for name, way in WAYS.items():
                goal = "<= 0.15" if (pair, name) == ("head", "shipped") else ""
                measures[f"{pair}_{variant}_{name}"] = Measure(way(old[variant], new[variant]), "bytes", full, goal)
    return measures


def models(data: Dataset) -> tuple[Mapping[str, bytes], Mapping[str, Mapping[str, bytes]]]:
    """The old files by variant, and those of its successors."""
    epochs = EPOCHS.get(data.name, rules.default_epochs(len(data.train_labels)))
    print(f"data: {data.name}, {len(data.train_labels)} images, {epochs} epochs, then one more")
    scratch = trained(data, Options(seed=2), epochs).network
    old = trained(data, Options(seed=1), epochs).network
    networks = {
        "scratch": scratch,
        "epoch": further(data, old, frozen=False),
        "head": further(data, old, frozen=True),
        "class": with_one_class_more(data, old),
    }
    return files(old, data), {pair: files(network, data) for pair, network in networks.items()}


def trained(data: Dataset, options: Options, epochs: int) -> Trainer:
    """The product's training, at its end."""
    steps = len(data.train_labels) // options.batch * epochs
    trainer = Trainer(data, options, epochs, compiled=rules.compiling_pays(steps))
    trainer.run(lambda _: None)
    return trainer


def further(data: Dataset, old: keras.Model, *, frozen: bool) -> keras.Model:
    """`old` after one more epoch; frozen: only its last layer learns, and no statistics move."""
    trainer = Trainer(data, Options(seed=3, rate=FURTHER_RATE), epochs=1)
    trainer.network.set_weights(old.get_weights())
    for layer in trainer.network.layers:
        layer.trainable = not frozen or layer.name == HEAD
    return trainer.run(lambda _: None)


def with_one_class_more(data: Dataset, old: keras.Model) -> keras.Model:
    """`old` with one more output, as yet untrained: whatever lies behind the last layer in the file moves."""
    wider = build(data.frame_shape, data.classes + 1)
    for layer in old.layers:
        new = wider.get_layer(layer.name).get_weights()
        for value, known in zip(new, layer.get_weights(), strict=True):
            value[..., : known.shape[-1]] = known
        wider.get_layer(layer.name).set_weights(new)
    return wider


def files(network: keras.Model, data: Dataset) -> Mapping[str, bytes]:
    """The product's conversion."""
    return convert(network, data.train_images)


def in_chunks(chunks_of: Callable[[bytes], Iterator[bytes]]) -> Way:
    """Only chunks that the old file does not have, each compressed by itself, or as it is where that is smaller."""

    def cost(old: bytes, new: bytes) -> int:
        here = set(chunks_of(old))
        lacking = [chunk for chunk in chunks_of(new) if chunk not in here]
        compressor = zstandard.ZstdCompressor(level=patches.LEVEL)
        return sum(min(len(chunk), len(compressor.compress(chunk))) for chunk in lacking)

    return cost


def fixed(size: int) -> Callable[[bytes], Iterator[bytes]]:
    """Cuts after every `size` bytes."""
    return lambda data: (data[start : start + size] for start in range(0, len(data), size))


def by_content(average: int) -> Callable[[bytes], Iterator[bytes]]:
    """Cuts where a rolling hash over 64 bytes says so: a quarter to eight times `average` bytes.

    Xia et al., FastCDC (USENIX ATC 2016), with its normalised chunking: harder to end before the average than after.
    """
    generator = random.Random(1)
    gear = [generator.getrandbits(64) for _ in range(256)]
    bits = average.bit_length() - 1
    before, after = (((1 << number) - 1) << (64 - number) for number in (bits + 1, bits - 1))

    def end(data: bytes, start: int) -> int:
        last, rolling = min(len(data), start + 8 * average), 0
        for place in range(min(last, start + average // 4), last):
            rolling = (rolling << 1) + gear[data[place]] & 0xFFFF_FFFF_FFFF_FFFF
            if not rolling & (before if place - start < average else after):
                return place + 1
        return last

    def chunks(data: bytes) -> Iterator[bytes]:
        start = 0
        while start < len(data):
            yield data[start : (start := end(data, start))]

    return chunks


def planes(old: bytes, new: bytes) -> int:
    """XOR of 32-bit words, one byte of all of them after the other: what signs and exponents share comes together."""
    words = min(len(old), len(new)) // 4
    changed = np.frombuffer(new, "<u4", words) ^ np.frombuffer(old, "<u4", words)
    rest = new[words * 4 :]
    laid_out = changed.view(np.uint8).reshape(-1, 4).T.tobytes() + rest
    return len(zstandard.ZstdCompressor(level=patches.LEVEL).compress(laid_out))


def shipped(old: bytes, new: bytes) -> int:
    """What a device that holds the old file fetches."""
    artifact, travelling = plan(new)
    patch, _ = patches.shortest(old, new)
    return bytes_of(patch) if affordable(artifact, [patch]) else len(travelling)


WAYS: Mapping[str, Way] = {
    "fixed64k": in_chunks(fixed(64 * 1024)),
    "fixed4k": in_chunks(fixed(4 * 1024)),
    "content4k": in_chunks(by_content(4 * 1024)),
    "dictionary": lambda old, new: len(patches.by_dictionary(old, new)),
    "difference": lambda old, new: len(patches.difference(old, new)),
    "planes": planes,
    "shipped": shipped,
}
