from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payouts.errors import BadAmount, RateMissing, RatesOverlap
from payouts.pay import RateSpan, fee_minor, pay_minor, split_by_rate, worst_case_minor

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
SECOND = timedelta(seconds=1)

seconds = st.integers(min_value=0, max_value=7 * 24 * 3600)
rates = st.integers(min_value=1, max_value=1_000_00)
fees = st.integers(min_value=0, max_value=5_000)


@pytest.mark.parametrize(
    ("worked", "rate", "pay", "fee"),
    [
        # 14,300 / 3 and its fee of 953.4; 70,537.5 is nearer to the even neighbour above.
        (2 * 3600 + 10 * 60, 22_00, 4_767, 953),
        (3 * 3600 + 5 * 60, 30_00, 9_250, 1_850),
        (7 * 3600 + 25 * 60 + 30, 95_00, 70_538, 14_108),
        (1 * 3600 + 40 * 60, 150_00, 25_000, 5_000),
        (0, 150_00, 0, 0),
        # 0.5, 1.5 and 2.5 cents.
        (1, 18_00, 0, 0),
        (3, 18_00, 2, 0),
        (5, 18_00, 2, 0),
    ],
)
def test_pay_and_fee_are_those_of_the_design(worked: int, rate: int, pay: int, fee: int) -> None:
    assert pay_minor(worked, rate) == pay
    assert fee_minor(pay, 2_000) == fee


@given(seconds, rates)
def test_pay_is_the_nearest_whole_amount_and_even_on_a_tie(worked: int, rate: int) -> None:
    exact = Fraction(worked * rate, 3600)
    # The standard library rounds a fraction by the same rule, by other means.
    assert pay_minor(worked, rate) == round(exact)


@given(st.integers(min_value=0, max_value=10**12), fees)
def test_a_fee_is_rounded_by_the_same_rule(pay: int, basis_points: int) -> None:
    assert fee_minor(pay, basis_points) == round(Fraction(pay * basis_points, 10_000))


@given(seconds, rates, fees, st.data())
def test_no_shorter_line_costs_more_than_the_worst_case(
    cap: int, rate: int, basis_points: int, data: st.DataObject
) -> None:
    worst_pay, worst_fee = worst_case_minor(cap, rate, basis_points)
    pay = pay_minor(data.draw(st.integers(0, cap)), rate)
    assert pay <= worst_pay
    assert fee_minor(pay, basis_points) <= worst_fee


def test_a_weeks_worst_case_is_the_reservation_of_the_design() -> None:
    assert worst_case_minor(10 * 3600, 95_00, 2_000) == (95_000, 19_000)
    assert worst_case_minor(1, 22_00, 2_000) == (1, 1)


@pytest.mark.parametrize("wrong", [-1, 1.5, True])
def test_only_whole_numbers_are_paid(wrong: int) -> None:
    for call in (
        lambda: pay_minor(wrong, 1),
        lambda: pay_minor(1, wrong),
        lambda: fee_minor(wrong, 1),
        lambda: fee_minor(1, wrong),
        lambda: worst_case_minor(wrong, 1, 1),
    ):
        with pytest.raises(BadAmount):
            call()


def test_a_stretch_is_cut_where_the_rate_changes() -> None:
    promotion = MONDAY + timedelta(hours=2, minutes=10)
    spans = [RateSpan(30_00, promotion, None), RateSpan(22_00, MONDAY, promotion)]
    assert split_by_rate(MONDAY, MONDAY + timedelta(hours=5, minutes=15), spans) == [
        (7_800, 22_00),
        (11_100, 30_00),
    ]


def test_a_second_is_paid_at_the_rate_in_force_when_it_begins() -> None:
    change = MONDAY + timedelta(seconds=1, microseconds=1)
    spans = [RateSpan(1, MONDAY, change), RateSpan(2, change, None)]
    assert split_by_rate(MONDAY, MONDAY + 4 * SECOND, spans) == [(2, 1), (2, 2)]


def test_neighbours_at_one_rate_are_one_piece_to_round() -> None:
    spans = [RateSpan(5, MONDAY, MONDAY + SECOND), RateSpan(5, MONDAY + SECOND, None)]
    assert split_by_rate(MONDAY, MONDAY + 3 * SECOND, spans) == [(3, 5)]


def test_a_fraction_of_a_second_is_no_second() -> None:
    spans = [RateSpan(5, MONDAY, None)]
    assert split_by_rate(MONDAY, MONDAY + timedelta(milliseconds=2_999), spans) == [(2, 5)]
    assert split_by_rate(MONDAY, MONDAY, spans) == []
    assert split_by_rate(MONDAY + SECOND, MONDAY, spans) == []


@pytest.mark.parametrize(
    ("spans", "missing"),
    [
        ([], MONDAY),
        ([RateSpan(1, MONDAY + SECOND, None)], MONDAY),
        ([RateSpan(1, MONDAY, MONDAY + 2 * SECOND)], MONDAY + 2 * SECOND),
        (
            [
                RateSpan(1, MONDAY, MONDAY + SECOND),
                RateSpan(2, MONDAY + 3 * SECOND, None),
            ],
            MONDAY + SECOND,
        ),
    ],
)
def test_a_second_without_a_rate_is_refused(spans: list[RateSpan], missing: datetime) -> None:
    with pytest.raises(RateMissing) as refusal:
        split_by_rate(MONDAY, MONDAY + 5 * SECOND, spans)
    assert refusal.value.at == missing


def test_a_second_with_two_rates_is_refused() -> None:
    spans = [RateSpan(1, MONDAY, MONDAY + 3 * SECOND), RateSpan(2, MONDAY + 2 * SECOND, None)]
    with pytest.raises(RatesOverlap) as refusal:
        split_by_rate(MONDAY, MONDAY + 5 * SECOND, spans)
    assert refusal.value.at == MONDAY + 2 * SECOND


@st.composite
def ladders(draw: st.DrawFn) -> list[RateSpan]:
    """Rates that follow each other without a gap from long before Monday on, in any order."""
    cuts = sorted(draw(st.sets(st.integers(-3_600_000, 90_000_000), max_size=5)))
    starts = [MONDAY - timedelta(days=30), *(MONDAY + timedelta(milliseconds=c) for c in cuts)]
    ends = [*starts[1:], None]
    spans = [RateSpan(draw(rates), start, end) for start, end in zip(starts, ends, strict=True)]
    return draw(st.permutations(spans))


@given(ladders(), st.integers(0, 90_000_000), st.integers(0, 90_000_000))
def test_each_second_gets_the_one_rate_that_was_in_force(
    spans: list[RateSpan], start_ms: int, length_ms: int
) -> None:
    start = MONDAY + timedelta(milliseconds=start_ms)
    pieces = split_by_rate(start, start + timedelta(milliseconds=length_ms), spans)
    assert sum(count for count, _ in pieces) == length_ms // 1000
    done = 0
    for count, rate in pieces:
        for second in (done, done + count - 1):
            moment = start + second * SECOND
            assert [
                span.rate_minor_per_hour
                for span in spans
                if span.starts_at <= moment and (span.ends_at is None or moment < span.ends_at)
            ] == [rate]
        done += count


@given(ladders(), st.lists(st.integers(0, 20_000), min_size=1, max_size=8))
def test_splitting_or_merging_a_session_changes_no_pay(
    spans: list[RateSpan], lengths: list[int]
) -> None:
    whole = split_by_rate(MONDAY, MONDAY + sum(lengths) * SECOND, spans)
    parts: dict[int, int] = {}
    start = MONDAY
    for length in lengths:
        for count, rate in split_by_rate(start, start + length * SECOND, spans):
            parts[rate] = parts.get(rate, 0) + count
        start += length * SECOND
    merged: dict[int, int] = {}
    for count, rate in whole:
        merged[rate] = merged.get(rate, 0) + count
    assert parts == merged
