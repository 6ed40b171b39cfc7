"""The bare interpreter at its best: `python -m benchmarks.on_device.bare MODEL THREADS`.

It invokes the same input again and again, with the batch size that is best here: no input or output work. For each
number of seconds in a line of standard input it prints a line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from edge.inference.engine import Interpreter

BATCHES = (1, 8, 32, 64, 128)
TRIAL_S = 0.3


@dataclass(frozen=True, slots=True)
class Rate:
    """batch: frames at once. frames, seconds: done, and how long it took. busy_s: processor time on all threads."""

    batch: int
    frames: int
    seconds: float
    busy_s: float

    @property
    def per_second(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds

    @property
    def frame_us(self) -> float:
        """Processor time of a frame."""
        return self.busy_s / self.frames * 1e6


@contextmanager
def bare(model: Path, threads: int) -> Iterator[Callable[[float], Rate]]:
    """What measures for so many seconds, in a process of its own that does nothing in between."""
    command = [sys.executable, "-m", "benchmarks.on_device.bare", str(model), str(threads)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        orders, rates = process.stdin, process.stdout
        assert orders
        assert rates

        def measure(seconds: float) -> Rate:
            orders.write(f"{seconds}\n")
            orders.flush()
            return Rate(**json.loads(rates.readline()))

        yield measure
        orders.close()


def _prepared(model: Path, threads: int, batch: int) -> Interpreter:
    interpreter = Interpreter(model_path=str(model), num_threads=threads)
    detail = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(detail["index"], (batch, *detail["shape"][1:]))
    interpreter.allocate_tensors()
    interpreter.invoke()
    return interpreter


def _run(interpreter: Interpreter, batch: int, seconds: float) -> Rate:
    started, worked, frames = time.perf_counter(), time.process_time(), 0
    while (taken := time.perf_counter() - started) < seconds:
        interpreter.invoke()
        frames += batch
    return Rate(batch, frames, taken, time.process_time() - worked)


def _main(model: Path, threads: int) -> None:
    candidates = {batch: _prepared(model, threads, batch) for batch in BATCHES}
    # By processor time, which other programs on the machine disturb least.
    best = min(BATCHES, key=lambda batch: _run(candidates[batch], batch, TRIAL_S).frame_us)
    for line in sys.stdin:
        print(json.dumps(asdict(_run(candidates[best], best, float(line)))), flush=True)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
