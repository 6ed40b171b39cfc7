"""Text becomes samples, samples become windows, however it is cut up on its way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.samples import MAX_LINE_BYTES, Lines
from edge.inference.windows import RUN_BYTES, Cut, Cutter, Framing

LIMITS = (-1e6, 1e6)


def lines(channels: int = 2, columns: tuple[int, ...] = ()) -> Lines:
    return Lines(channels, columns, LIMITS, 0)


def samples(reader: Lines, text: str) -> list[list[list[float]]]:
    return [run.values.tolist() for run in reader.feed(text.encode())]


def cut(framing: Framing, data: bytes, pieces: list[int], place: int = 0, skip: int = 0) -> list[Cut]:
    """What becomes of `data` from `place` on, when it comes in pieces of these sizes."""
    cutter, made, at = Cutter(framing, (), place, skip), [], place
    for size in [*pieces, len(data)]:
        made += cutter.cut(data[at : at + size])
        at += size
    return made


def values(cuts: list[Cut], framing: Framing) -> np.ndarray:
    """All windows, (n, length, channels)."""
    whole = np.concatenate([np.empty((0, framing.window_bytes), np.uint8), *(part.windows for part in cuts)])
    return np.ascontiguousarray(whole).view(framing.dtype).reshape(-1, framing.length, framing.channels)


@pytest.mark.parametrize(
    "text", ["1,2\n3,4\n", "1;2\r\n3;4\r\n", "1 2\n3\t4\n", "1.0, 2.0\n 3e0 ,4\n", "1,2\n\n\n3,4\n"]
)
def test_numbers_stand_between_commas_semicolons_or_blanks(text: str) -> None:
    reader = lines()
    assert np.concatenate([run.values for run in reader.feed(text.encode())]).tolist() == [[1, 2], [3, 4]]
    assert reader.malformed == 0


def test_a_heading_is_no_sample_and_no_mistake() -> None:
    reader = lines()
    assert samples(reader, "x,y\n1,2\n") == [[], [[1, 2]]]
    assert reader.malformed == 0


@pytest.mark.parametrize("wrong", ["a,b", "1", "1,2,3", "1,nan", "1,inf", "1,1e7", "1,,2x", "\x00\xff", "0x1,2"])
def test_a_line_that_is_no_sample_is_counted_and_parts_those_around_it(wrong: str) -> None:
    reader = lines()
    assert samples(reader, f"1,2\n{wrong}\n3,4\n") == [[[1, 2]], [[3, 4]]]
    assert reader.malformed == 1
    assert "at byte 4" in reader.problem


def test_a_line_without_end_is_given_up() -> None:
    reader = lines()
    samples(reader, "1,2\n")
    samples(reader, "7" * (MAX_LINE_BYTES + 1))
    assert reader.malformed == 1
    assert samples(reader, "\n3,4\n")[-1] == [[3, 4]]


def test_columns_choose_and_order_the_channels() -> None:
    assert samples(lines(2, (3, 1)), "10:15,1,text,2\n10:16,3,text,4\n") == [[[2, 1], [4, 3]]]


def test_windows_begin_a_hop_apart() -> None:
    framing = Framing(4, 1, 2, "<f4")
    text = "".join(f"{number}\n" for number in range(9)).encode()
    assert values(cut(framing, text, []), framing)[..., 0].tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]


def test_no_window_spans_a_line_that_is_missing() -> None:
    framing = Framing(2, 1, 1, "<f4")
    assert values(cut(framing, b"1\n2\nx\n3\n4\n", []), framing)[..., 0].tolist() == [[1, 2], [3, 4]]


def test_whole_numbers_are_rounded_and_held_to_their_type() -> None:
    framing = Framing(1, 1, 1, "<i2")
    assert values(cut(framing, b"0\n1.4\n-2.6\n40000\n32767\n", []), framing).ravel().tolist() == [0, 1, -3, 32767]


def test_windows_are_made_in_parts_where_they_overlap_much() -> None:
    framing = Framing(4096, 1, 1, "<f4")
    made = cut(framing, b"1\n" * 6000, [])
    assert [len(part.windows) * framing.window_bytes <= RUN_BYTES for part in made] == [True] * len(made)
    assert sum(len(part.windows) for part in made) == 6000 - 4096 + 1


streams = st.lists(st.one_of(st.integers(-99, 99).map(str), st.sampled_from(["x", "", "1,2"])), max_size=60).map(
    lambda found: "".join(f"{line}\n" for line in found).encode()
)
framings = st.builds(Framing, st.integers(1, 5), st.just(1), st.integers(1, 8), st.just("<i2"))
pieces = st.lists(st.integers(1, 20), max_size=20)


@given(framings, streams, pieces)
def test_how_a_stream_is_cut_up_on_its_way_changes_nothing(framing: Framing, data: bytes, sizes: list[int]) -> None:
    assert np.array_equal(values(cut(framing, data, sizes), framing), values(cut(framing, data, []), framing))


@given(framings, streams, pieces, st.integers(0, 99))
def test_from_the_place_after_any_window_the_rest_is_what_it_was(
    framing: Framing, data: bytes, sizes: list[int], choice: int
) -> None:
    made = cut(framing, data, sizes)
    if not made:
        return
    chosen = choice % len(made)
    known = sum(len(part.windows) for part in made[: chosen + 1])
    again = cut(framing, data, [], made[chosen].place, made[chosen].skip)
    assert np.array_equal(values(again, framing), values(made, framing)[known:])
