import pytest
from hypothesis import given
from hypothesis import strategies as st

from payouts.errors import BadAmount, CurrencyMismatch, UnknownCurrency
from payouts.money import EXPONENTS, PAYABLE_STEPS, Money, checked_amount

currencies = st.sampled_from(sorted(EXPONENTS))
amounts = st.integers(min_value=-(10**15), max_value=10**15)


@pytest.mark.parametrize(
    ("money", "written"),
    [
        (Money(95_300, "USD"), "USD 953.00"),
        (Money(-5, "USD"), "USD -0.05"),
        (Money(1_200, "JPY"), "JPY 1200"),
        (Money(5_124, "KWD"), "KWD 5.124"),
        (Money(0, "EUR"), "EUR 0.00"),
    ],
)
def test_money_is_written_with_all_the_decimals_of_its_currency(money: Money, written: str) -> None:
    assert str(money) == written


@given(currencies, amounts)
def test_what_is_written_says_the_amount_back(currency: str, amount_minor: int) -> None:
    name, digits = str(Money(amount_minor, currency)).split(" ")
    assert name == currency
    assert int(digits.replace(".", "")) == amount_minor


@pytest.mark.parametrize("amount", [1.0, True, "1", None, 2**63])
def test_an_amount_is_a_whole_number_in_range(amount: object) -> None:
    with pytest.raises(BadAmount) as refusal:
        Money(amount, "USD")  # type: ignore[arg-type]
    assert refusal.value.amount_minor is amount


@pytest.mark.parametrize("amount", [0, -1, True, 2**63])
def test_a_ledger_carries_positive_amounts_only(amount: int) -> None:
    with pytest.raises(BadAmount):
        checked_amount(amount)


def test_the_largest_amount_is_carried() -> None:
    assert checked_amount(2**63 - 1) == 2**63 - 1


@pytest.mark.parametrize("currency", ["usd", "XXX", "", "US"])
def test_a_currency_without_books_is_refused(currency: str) -> None:
    with pytest.raises(UnknownCurrency) as refusal:
        Money(1, currency)
    assert refusal.value.currency == currency


def test_amounts_of_two_currencies_are_never_added() -> None:
    with pytest.raises(CurrencyMismatch):
        Money(1, "USD") + Money(1, "EUR")
    with pytest.raises(CurrencyMismatch):
        Money(1, "USD") - Money(1, "EUR")


@given(currencies, amounts)
def test_what_a_bank_is_sent_is_the_largest_multiple_of_its_step(
    currency: str, amount_minor: int
) -> None:
    money = Money(amount_minor, currency)
    step = PAYABLE_STEPS.get(currency, 1)
    rest = money - money.payable()
    assert money.payable().amount_minor % step == 0
    assert abs(rest.amount_minor) < step
    assert rest.amount_minor * amount_minor >= 0
    assert money.payable() + rest == money


def test_forints_are_sent_whole_and_the_rest_waits() -> None:
    assert Money(10_45, "HUF").payable() == Money(10_00, "HUF")
