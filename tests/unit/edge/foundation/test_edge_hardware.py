"""What a device says it computes with."""

from __future__ import annotations

import pytest

from edge.foundation import hardware

X86 = "processor\t: 0\nmodel name\t: AMD EPYC  7B13\nflags\t: fpu\n"
RASPBERRY = "processor\t: 0\nBogoMIPS\t: 108.00\n\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"


@pytest.mark.parametrize(
    ("text", "expected"), [(X86, "AMD EPYC 7B13"), (RASPBERRY, "Raspberry Pi 4 Model B Rev 1.4"), ("", "")]
)
def test_the_processor_is_read_from_what_the_kernel_says(text: str, expected: str) -> None:
    assert hardware.processor(text) == expected


def test_this_machine_names_processor_cores_and_interpreter() -> None:
    assert f"{hardware.cores()} cores, ai-edge-litert " in hardware.described()
