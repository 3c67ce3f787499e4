"""What a conformance test asks of a client, whichever client it is.

Values keep what the client makes of a message: a price of -1 stays -1, an unset double stays 1.7976931348623157E308.
Only types are made alike: a field for which no tick has come is None, sizes and volumes are floats, instants are aware.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Generic, TypeVar

Row = TypeVar("Row")

HOST = "127.0.0.1"
# Seconds within which a request to a gateway on the same machine is answered.
PATIENCE = 10.0
# Formats of the instants of bars: text on New York clocks, seconds since 1970.
TEXT, SECONDS = 1, 2


class NotConnected(Exception):
    """The client could not connect."""


@dataclass(frozen=True)
class Report:
    """An error or a piece of information, as the client hands it to its user; ``req_id`` -1: of no request."""

    req_id: int
    code: int
    text: str

    @property
    def informational(self) -> bool:
        """Whether it is one of the 21xx messages, which report no error."""
        return 2100 <= self.code < 2200


@dataclass(frozen=True)
class Terms:
    """The terms of a contract: what a request asks for, or what an answer says."""

    symbol: str = ""
    sec_type: str = ""
    expiry: str = ""
    strike: float = 0.0
    right: str = ""
    exchange: str = "SMART"
    currency: str = "USD"
    conid: int = 0
    local_symbol: str = ""
    trading_class: str = ""
    multiplier: str = ""
    primary_exchange: str = ""
    # asked for only: no answer carries it here
    isin: str = ""


@dataclass(frozen=True)
class Details:
    """One answer to a request for contract details."""

    contract: Terms
    min_tick: float
    under_conid: int
    under_symbol: str
    under_sec_type: str
    contract_month: str
    real_expiration_date: str
    time_zone: str
    trading_hours: str
    liquid_hours: str
    valid_exchanges: str
    market_rule_ids: str
    stock_type: str
    long_name: str
    industry: str
    category: str
    isin: str
    min_size: float
    size_increment: float
    suggested_size_increment: float


@dataclass(frozen=True)
class OptionParameters:
    """One trading class on one exchange, as reqSecDefOptParams tells it."""

    exchange: str
    underlying_conid: int
    trading_class: str
    multiplier: str
    expirations: frozenset[str]
    strikes: frozenset[float]


@dataclass(frozen=True)
class Bar:
    """One historical bar; ``at`` is a date for a daily bar, an instant for a shorter one."""

    at: date | datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    average: float
    trades: int


@dataclass(frozen=True)
class Model:
    """The model tick of an option."""

    iv: float | None
    delta: float | None
    price: float | None
    pv_dividend: float | None
    gamma: float | None
    vega: float | None
    theta: float | None
    underlying: float | None


@dataclass(frozen=True)
class Quote:
    """What the ticks of one subscription have said so far; None: that tick has not come."""

    bid: float | None = None
    ask: float | None = None
    last: float | None = None
    bid_size: float | None = None
    ask_size: float | None = None
    last_size: float | None = None
    volume: float | None = None
    open: float | None = None
    high: float | None = None
    low: float | None = None
    close: float | None = None
    call_open_interest: float | None = None
    put_open_interest: float | None = None
    historical_volatility: float | None = None
    implied_volatility: float | None = None
    model: Model | None = None
    data_type: int | None = None
    min_tick: float | None = None
    exchange_map: str | None = None
    call_volume: float | None = None
    put_volume: float | None = None


class Subscription(ABC):
    """A market data request and what has come of it."""

    def __init__(self, req_id: int) -> None:
        self.req_id = req_id
        # counts deliveries: of a tick, or of a packet of ticks where the client tells packets only
        self.updates = 0
        self.tick_types: set[int] = set()
        self.ended = False

    @property
    @abstractmethod
    def quote(self) -> Quote:
        """The latest values."""


@dataclass
class Answer(Generic[Row]):
    """The rows that answer one request, and its id, under which errors are reported."""

    req_id: int
    rows: list[Row] = field(default_factory=list)
    done: bool = False

    def fill(self, rows: list[Row]) -> None:
        """All rows are in."""
        self.rows, self.done = rows, True


class Client(ABC):
    """One client connection. Calls block until they are answered; `reports` grows meanwhile."""

    # The protocol version that the client and the gateway agree on: facts about the clients, November 2026.
    version: int

    def __init__(self) -> None:
        self.reports: list[Report] = []
        # what the client could not make sense of; a conforming gateway leaves it empty
        self.misunderstood: list[str] = []

    def reports_of(self, req_id: int) -> list[Report]:
        """The reports of one request."""
        return [report for report in self.reports if report.req_id == req_id]

    def codes_of(self, req_id: int) -> list[int]:
        """The codes reported of one request."""
        return [report.code for report in self.reports_of(req_id)]

    def errors(self) -> list[Report]:
        """The reports that are errors."""
        return [report for report in self.reports if not report.informational]

    def wait(self, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait until `condition` holds; an AssertionError when it does not within `seconds`."""
        assert self.wait_if(condition, seconds), f"not within {seconds} s; errors: {self.errors()}"

    @abstractmethod
    def wait_if(self, condition: Callable[[], object], seconds: float) -> bool:
        """Wait until `condition` holds, `seconds` at most; whether it does."""

    def pause(self, seconds: float) -> None:
        """Let time pass and messages come in."""
        self.wait_if(lambda: False, seconds)

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether the client believes itself connected."""

    @abstractmethod
    def connect(self, port: int, client_id: int, timeout: float = PATIENCE) -> None:
        """Connect and wait until the client is ready for requests. Raises `NotConnected`."""

    @abstractmethod
    def disconnect(self) -> None:
        """Disconnect."""

    @property
    @abstractmethod
    def server_version(self) -> int:
        """The protocol version agreed on."""

    @property
    @abstractmethod
    def accounts(self) -> list[str]:
        """The managed accounts."""

    @abstractmethod
    def current_time(self) -> datetime:
        """The gateway's time."""

    @abstractmethod
    def account_values(self) -> dict[tuple[str, str], str]:
        """The account summary: values by tag and currency."""

    @abstractmethod
    def account_updates(self) -> dict[tuple[str, str], str]:
        """What a subscriber of account updates is told before the end of the download: values by tag and currency."""

    @abstractmethod
    def smart_components(self, key: str) -> Answer[tuple[int, str, str]]:
        """The exchanges of a map: bit, exchange, letter."""

    @abstractmethod
    def historical_schedule(self, terms: Terms, days: int, *, regular: bool = True) -> Answer[tuple[str, str, str]]:
        """Sessions: start, end, date."""

    @abstractmethod
    def calculate_volatility(self, terms: Terms, price: float, spot: float) -> Answer[Model]:
        """The model at which an option has a price."""

    @abstractmethod
    def calculate_price(self, terms: Terms, volatility: float, spot: float) -> Answer[Model]:
        """The model at a volatility."""

    @abstractmethod
    def account_summary(self) -> dict[str, int]:
        """How many positions, orders, completed orders and executions the gateway lists."""

    @abstractmethod
    def contract_details(self, terms: Terms) -> Answer[Details]:
        """Contract details."""

    @abstractmethod
    def qualify(self, terms: Iterable[Terms]) -> list[Terms | None]:
        """Each contract completed; None where it does not exist or is ambiguous. Paced as the client paces itself."""

    @abstractmethod
    def option_parameters(self, symbol: str, conid: int, sec_type: str = "STK") -> Answer[OptionParameters]:
        """Option parameters of an underlying."""

    @abstractmethod
    def market_data_type(self, number: int) -> None:
        """Choose 1 live, 2 frozen, 3 delayed, 4 delayed frozen."""

    @abstractmethod
    def subscribe(self, terms: Terms, generics: str = "", *, snapshot: bool = False) -> Subscription:
        """Request market data, and return at once."""

    @abstractmethod
    def subscribe_again(self, subscription: Subscription, terms: Terms) -> None:
        """Request market data under an id that is in use."""

    @abstractmethod
    def cancel(self, subscription: Subscription) -> None:
        """Cancel a subscription."""

    @abstractmethod
    def cancel_id(self, req_id: int) -> None:
        """Cancel whatever subscription has this id."""

    def bars(
        self,
        terms: Terms,
        what: str,
        *,
        end: str = "",
        duration: str = "5 D",
        size: str = "1 day",
        date_format: int = SECONDS,
    ) -> Answer[Bar]:
        """Historical bars within regular trading hours; `end` as 20261119-21:00:00 in UTC, empty for now."""
        answer = self.ask_bars(terms, what, end=end, duration=duration, size=size, date_format=date_format)
        self.wait(lambda: answer.done or self.reports_of(answer.req_id))
        return answer

    @abstractmethod
    def ask_bars(
        self, terms: Terms, what: str, *, end: str, duration: str, size: str, date_format: int = SECONDS
    ) -> Answer[Bar]:
        """As `bars`, without waiting for the answer."""

    @abstractmethod
    def head_timestamp(self, terms: Terms, what: str = "TRADES") -> Answer[datetime]:
        """The first instant of historical data."""

    @abstractmethod
    def place_order(self, terms: Terms) -> int:
        """Place a limit order for one contract; its id."""

    @abstractmethod
    def unthrottle(self) -> None:
        """Send from now on without pacing, where the client paces by itself."""

    @abstractmethod
    def ask_time(self, times: int) -> None:
        """Send this many requests for the time, and return at once."""
