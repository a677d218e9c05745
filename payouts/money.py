"""Money: an integer count of minor units, and the currency that they are minor units of."""

from dataclasses import dataclass

from payouts.errors import BadAmount, CurrencyMismatch, UnknownCurrency

LARGEST_MINOR = 2**63 - 1
"""The largest amount a ledger column can hold."""

EXPONENTS = {
    currency: exponent
    for exponent, currencies in (
        (0, "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF"),
        (
            2,
            "AED AUD BGN BRL CAD CHF COP CZK DKK EGP EUR GBP GHS HKD HUF IDR ILS INR ISK KES MAD "
            "MXN MYR NGN NOK NZD PEN PHP PKR PLN RON SAR SEK SGD THB TRY TWD TZS UAH UGX USD UYU "
            "ZAR",
        ),
        (3, "BHD JOD KWD OMR TND"),
    )
    for currency in currencies.split()
}
"""Currency to the number of decimals between its unit and its minor unit, as Stripe counts them.

Stripe keeps two decimals for ISK and UGX, which have none of their own any more, so that our
amounts and Stripe's are always the same number.
"""

PAYABLE_STEPS = {
    currency: step
    for step, currencies in ((100, "HUF ISK TWD UGX"), (10, "BHD JOD KWD OMR TND"))
    for currency in currencies.split()
}
"""Currency to the minor units that each amount sent to a bank is a multiple of; others pay any."""


def exponent_of(currency: str) -> int:
    """How many decimals a currency has.

    Raises:
        UnknownCurrency.
    """
    exponent = EXPONENTS.get(currency)
    if exponent is None:
        raise UnknownCurrency(currency)
    return exponent


def checked_amount(amount_minor: int) -> int:
    """The amount itself, once it is certain that a ledger can carry it.

    Raises:
        BadAmount: not an integer (a `bool` is none here), not positive, or out of range.
    """
    if type(amount_minor) is not int or not 0 < amount_minor <= LARGEST_MINOR:
        raise BadAmount(amount_minor)
    return amount_minor


@dataclass(frozen=True, slots=True)
class Money:
    """An amount that can be negative or nothing, which a ledger line cannot.

    Units: minor units of `currency` (cents of USD, yen of JPY, fils of KWD).
    Raises: BadAmount, UnknownCurrency.
    """

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.amount_minor) is not int or abs(self.amount_minor) > LARGEST_MINOR:
            raise BadAmount(self.amount_minor)
        exponent_of(self.currency)

    def __str__(self) -> str:
        """The amount in units, after its currency: `USD 953.00`, `JPY -1200`."""
        return f"{self.currency} {self.in_units}"

    @property
    def in_units(self) -> str:
        """The amount in units with all its decimals, without its currency: `953.00`."""
        exponent = exponent_of(self.currency)
        units, rest = divmod(abs(self.amount_minor), 10**exponent)
        sign = "-" if self.amount_minor < 0 else ""
        decimals = f".{rest:0{exponent}d}" if exponent else ""
        return f"{sign}{units}{decimals}"

    def __add__(self, other: "Money") -> "Money":
        self._same_currency(other)
        return Money(self.amount_minor + other.amount_minor, self.currency)

    def __sub__(self, other: "Money") -> "Money":
        self._same_currency(other)
        return Money(self.amount_minor - other.amount_minor, self.currency)

    def payable(self) -> "Money":
        """The largest part that a bank can be sent; what remains waits for the next payout."""
        step = PAYABLE_STEPS.get(self.currency, 1)
        whole = abs(self.amount_minor) // step * step
        return Money(whole if self.amount_minor >= 0 else -whole, self.currency)

    def _same_currency(self, other: "Money") -> None:
        if self.currency != other.currency:
            raise CurrencyMismatch(self.currency, other.currency)
