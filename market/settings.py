"""Every setting of the service: read from the environment once, at the edge, and passed on."""

import os
from collections.abc import Mapping

import msgspec

from market.errors import MarketError

PREFIX = "STUMPWORK_"
SMTP_SECURITY = ("starttls", "tls", "none")


class SettingInvalid(MarketError):
    """A setting that cannot be read; the process does not start."""

    def __init__(self, name: str, value: str, wanted: str) -> None:
        super().__init__(f"{PREFIX}{name} is {value!r}; it must be {wanted}")
        self.name = name


class SettingMissing(MarketError):
    """A setting without which the process cannot start."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{PREFIX}{name} is not set; {why}")
        self.name = name


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator decides; each field is the variable `STUMPWORK_<NAME>`.

    Units: names ending in `_s` are seconds.
    """

    database_url: str
    secret_key: str
    broker_url: str = "postgres"
    """`postgres` for the database itself, else a `redis://` or `amqp://` address."""
    stripe_key: str = ""
    """Empty for no Stripe: whatever needs it is refused, and nothing goes out."""
    stripe_base_url: str = ""
    """Empty for Stripe itself; the address of a stand-in otherwise."""
    stripe_webhook_secret: str = ""
    stripe_thin_secret: str = ""
    web_host: str = "127.0.0.1"
    web_port: int = 8000
    public_url: str = "http://127.0.0.1:8000"
    allow_private_targets: bool = False
    """Whether a lab's target model may stand at a private or loopback address."""
    allow_signup: bool = True
    fee_basis_points: int = 2000
    """The platform's fee on each payment to an expert; 2000 is twenty per cent."""
    first_payout_wait_s: int = 7 * 24 * 3600
    """How long after an expert said where to be paid its first payout may leave."""
    bank_change_wait_s: int = 72 * 3600
    """How long payouts wait after an expert changed its bank account."""
    payout_minimum_minor: int = 0
    """The least amount of a payout, in minor units of its currency; less is kept and rolls over."""
    payout_countries: str = (
        "AT BE BG CA CH CY CZ DE DK EE ES FI FR GB GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO"
        " SE SI SK US"
    )
    """Where experts can be paid: where Stripe takes transfers without another agreement."""
    budget_low_s: int = 24 * 3600
    """A budget is low when what is free would not last so long at the pace of the last day."""
    match_every_s: int = 24 * 3600
    """How long after a run over everything the next one is due; 0 for never by the clock."""
    pool_size: int = 8
    worker_threads: int = 4
    log_level: str = "INFO"
    log_format: str = "json"
    secure_cookies: bool = False
    smtp_host: str = ""
    """Empty for no e-mail at all."""
    smtp_port: int = 587
    smtp_security: str = "starttls"
    """`starttls`, `tls` from the first byte, or `none` for a server on the same machine."""
    smtp_user: str = ""
    smtp_password: str = ""
    smtp_ca_file: str = ""
    """Certificates that the mail server's is checked by; empty for the system's own."""
    mail_from: str = "stumpwork@localhost"


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in the environment.

    Raises:
        SettingMissing, SettingInvalid.
    """
    given = os.environ if environ is None else environ
    found: dict[str, object] = {}
    for field in msgspec.structs.fields(Settings):
        text = given.get(PREFIX + field.name.upper())
        if text is None:
            if field.required:
                raise SettingMissing(field.name.upper(), "see the settings table in deploy/")
            continue
        if field.name == "smtp_security" and text not in SMTP_SECURITY:
            raise SettingInvalid("SMTP_SECURITY", text, "starttls, tls or none")
        found[field.name] = _parsed(field.name.upper(), text, field.type)
    return msgspec.convert(found, Settings)


def _parsed(name: str, text: str, kind: object) -> object:
    if kind is int:
        if not text.strip().isdecimal():
            raise SettingInvalid(name, text, "a whole number")
        return int(text)
    if kind is bool:
        if text.lower() not in ("1", "0", "true", "false", "yes", "no"):
            raise SettingInvalid(name, text, "true or false")
        return text.lower() in ("1", "true", "yes")
    return text


class InForce:
    """The settings that this process runs under; an entry point opens it once."""

    def __init__(self) -> None:
        self._settings: Settings | None = None

    def open(self, settings: Settings) -> Settings:
        """Put settings in force, and give them back."""
        self._settings = settings
        return settings

    @property
    def settings(self) -> Settings:
        """What is in force."""
        if self._settings is None:
            raise RuntimeError("no settings are in force: call in_force.open(settings) first")
        return self._settings


in_force = InForce()
"""What jobs and actions ask for a setting; closed until an entry point opens it."""
