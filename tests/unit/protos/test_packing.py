"""What is packed comes out as it was, what does not pay is not packed, and nothing unpacks to more than was agreed."""

from __future__ import annotations

import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from protos.kit.packing import FEWEST_BYTES, NotPacked, pack, unpack


@given(st.binary(min_size=1, max_size=50), st.integers(1, 400))
def test_what_was_packed_is_smaller_and_comes_out_as_it_was(piece: bytes, times: int) -> None:
    payload = piece * times
    packed = pack(payload)
    if packed is not None:
        assert len(packed) < len(payload) >= FEWEST_BYTES
        assert unpack(packed, len(payload)) == payload


def test_what_repeats_itself_pays_and_noise_does_not() -> None:
    assert pack(b"abc" * 1000) is not None
    assert pack(random.Random(1).randbytes(3000)) is None


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = zstandard.compress(bytes(1 << 28))
    assert len(bomb) < 1 << 15
    with pytest.raises(NotPacked, match="268435456 bytes"):
        unpack(bomb, 1 << 17)


def test_a_bomb_that_does_not_tell_its_size_is_refused_too() -> None:
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 20))
    with pytest.raises(NotPacked, match="unknown size"):
        unpack(silent, 1 << 17)


@pytest.mark.parametrize("wrong", [b"", b"\x00" * 40, pack(b"abc" * 1000) and (pack(b"abc" * 1000) or b"")[:-3]])
def test_what_is_no_zstd_is_refused(wrong: bytes) -> None:
    with pytest.raises(NotPacked):
        unpack(wrong, 1 << 17)
