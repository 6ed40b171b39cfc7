import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.kit.link import LONGEST_DELAY_S, Address, delay_before


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://broker", Address("broker", 1883)),
        ("mqtt://broker:2883/", Address("broker", 2883)),
        ("mqtt://ada:p%40ss@broker", Address("broker", 1883, "ada", "p@ss")),
        ("mqtt://[::1]:1884", Address("::1", 1884)),
    ],
)
def test_a_brokers_address_is_read_from_its_url(url: str, address: Address) -> None:
    assert Address.parse(url) == address


@pytest.mark.parametrize(
    "url",
    ["broker:1883", "http://broker", "mqtts://broker", "mqtt://", "mqtt://b:x", "mqtt://b:0", "mqtt://b:70000",
     "mqtt://b/topic", "mqtt://[b", "mqtt://b?x=1"],
)  # fmt: skip
def test_anything_else_is_refused_with_the_form_that_is_wanted(url: str) -> None:
    with pytest.raises(ValueError, match="not of the form mqtt://"):
        Address.parse(url)


def test_an_address_is_shown_without_its_password_and_can_be_read_again() -> None:
    assert str(Address("::1", 1884, "ada", "secret")) == "mqtt://[::1]:1884"
    assert Address.parse(str(Address("::1", 1884))) == Address("::1", 1884)


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_reconnect_waits_at_most_the_longest_delay(attempt: int, randomness: float) -> None:
    assert 0 <= delay_before(attempt, randomness) <= LONGEST_DELAY_S


def test_the_wait_grows_with_each_attempt_until_the_longest() -> None:
    delays = [delay_before(attempt, 0.5) for attempt in range(12)]
    assert delays == sorted(delays)
    assert delays[-1] == LONGEST_DELAY_S / 2
