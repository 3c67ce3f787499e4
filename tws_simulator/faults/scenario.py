"""Scenario files: which faults a gateway has, as validated data."""

import re
from datetime import time
from pathlib import Path
from typing import Annotated, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tws_simulator.errors import GatewayError
from tws_simulator.faults.targets import Target
from tws_simulator.faults.timing import Instant, MarketTime, When

Request = Literal["market_data", "contract_details", "option_parameters", "history"]
Farm = Literal["usfarm", "usopt", "ushmds", "secdefnj"]
Download = Literal["open_orders", "account_updates", "executions", "positions", "account_updates_multi"]


# -- answers to requests


class Error(Target):
    """An error instead of an answer. ``probability``: for each request, drawn by seed.

    ``times``: at most so often in all; ``times_each``: for each contract (1: only the first attempt fails).
    """

    fault: Literal["error"]
    code: int = Field(ge=1, le=99_999)
    message: str = ""
    requests: tuple[Request, ...] = ("market_data",)
    probability: float = Field(1.0, ge=0, le=1)
    times: int | None = Field(None, ge=1)
    times_each: int | None = Field(None, ge=1)


class DelayedOnly(Target):
    """No permission for live data: types 1 and 2 get ``code``, types 3 and 4 delayed data with advisory 10167."""

    fault: Literal["delayed_only"]
    code: Literal[354, 10089] = 354


class NoPermission(Target):
    """No permission at all: types 1 and 2 get 354, types 3 and 4 get 10168."""

    fault: Literal["no_permission"]


class PartialPermission(Target):
    """No permission for an option's own book: types 1 and 2 get advisory ``code``, the model and generic ticks only.

    Its text says whether delayed data is to be had (``delayed``); types 3 and 4 are served then, with advisory 10167.
    """

    fault: Literal["partial_permission"]
    code: Literal[10090, 10091] = 10091
    delayed: bool = True


# -- the ticks of a contract


class Silent(Target):
    """Not one tick."""

    fault: Literal["silent"]


class Slow(Target):
    """The first ticks come ``seconds`` later than they would."""

    fault: Literal["slow"]
    seconds: float = Field(5.0, gt=0, le=3600)


class OneSided(Target):
    """Only the ticks of ``side`` come; the other side's never do."""

    fault: Literal["one_sided"]
    side: Literal["bid", "ask"] = "ask"


class EmptyModel(Target):
    """The first model tick says "not computed"; the real one follows after ``seconds``, or never (``null``)."""

    fault: Literal["empty_model"]
    seconds: float | None = Field(0.5, gt=0, le=3600)


class NoModel(Target):
    """The model tick never comes."""

    fault: Literal["no_model"]


class Sentinels(Target):
    """Values for "none": ``minus_one`` (prices), ``zero`` (0/0), ``not_computed`` (model: -1, -2) or ``unset``."""

    fault: Literal["sentinels"]
    kind: Literal["minus_one", "zero", "not_computed", "unset"] = "not_computed"


class Crossed(Target):
    """The bid stands ``by`` dollars above the ask; 0 locks the market."""

    fault: Literal["crossed"]
    by: float = Field(0.05, ge=0, le=1000)


class Stale(Target):
    """The quote is ``minutes`` old, at most as old as the open."""

    fault: Literal["stale"]
    minutes: float = Field(30.0, gt=0)


class WrongOrder(Target):
    """The first ticks in reverse: model and generic ticks, then the ask, then the data type and the bid."""

    fault: Literal["wrong_order"]


class FractionalSizes(Target):
    """Sizes with fractions, as servers of today send them of papers that trade in parts: a last size of 0.5."""

    fault: Literal["fractional_sizes"]


class OddLots(Target):
    """Ticks 105 to 110 come too: bid and ask of odd lots, their sizes and exchanges (servers from version 225)."""

    fault: Literal["odd_lots"]


class Advisory(Target):
    """A message about each request that is answered all the same, as TWS sends its warnings 2187, 2188 and 10349."""

    fault: Literal["advisory"]
    code: int = Field(2188, ge=1, le=99_999)
    message: str = ""


# -- the connection


class ConnectionLost(When):
    """Connection of the gateway to IB: 1100, silence, then 1101 (``data: lost``) or 1102 (``data: kept``)."""

    fault: Literal["connection_lost"]
    data: Literal["lost", "kept"] = "kept"


class NightlyReset(When):
    """As `ConnectionLost`, with the messages of the farms; within IB's hours (00:15 to 01:45 New York) by default."""

    fault: Literal["nightly_reset"]
    from_: Instant | None = Field(MarketTime(time(0, 15)), alias="from")
    until: Instant | None = MarketTime(time(1, 45))
    data: Literal["lost", "kept"] = "kept"


class FarmDown(When):
    """One server farm: 2103, 2105 or 2157, silence (history: error 162), and in the end 2104, 2106 or 2158."""

    fault: Literal["farm_down"]
    farm: Farm = "usopt"


class CompetingSession(When):
    """Another session has the live data: 10197 for every live request, old or new; delayed data goes on."""

    fault: Literal["competing_session"]


class ClientIdStuck(When):
    """``startApi`` with one of ``client_ids`` gets no error 326: no answer at all, or a closed socket."""

    fault: Literal["client_id_stuck"]
    client_ids: tuple[int, ...]
    how: Literal["silent", "closed"] = "silent"


class UnendedDownload(When):
    """The end marker of these downloads never comes."""

    fault: Literal["unended_download"]
    downloads: tuple[Download, ...] = get_args(Download)


class SocketDrop(When):
    """Every client's socket is closed; as long as it lasts nobody can connect (a gateway that restarts)."""

    fault: Literal["socket_drop"]
    reset: bool = False


class HalfOpen(When):
    """Sockets stay open, nothing is read and nothing sent; at the end they are reset."""

    fault: Literal["half_open"]


class GarbageFrame(When):
    """Every client is sent one frame that is none.

    ``unknown_message`` has a number nobody knows, ``short`` lacks fields, ``binary`` is no text, ``endless`` announces
    more bytes than ever come.
    """

    fault: Literal["garbage_frame"]
    kind: Literal["unknown_message", "short", "binary", "endless"] = "unknown_message"


class Notice(When):
    """A message to every client that concerns no request."""

    fault: Literal["notice"]
    code: int = Field(ge=1, le=99_999)
    message: str = ""


class News(When):
    """A news bulletin for every client, and a headline for a request that none of them has made."""

    fault: Literal["news"]


Fault = (
    Error
    | DelayedOnly
    | NoPermission
    | PartialPermission
    | Silent
    | Slow
    | OneSided
    | EmptyModel
    | NoModel
    | Sentinels
    | Crossed
    | Stale
    | WrongOrder
    | FractionalSizes
    | OddLots
    | Advisory
    | ConnectionLost
    | NightlyReset
    | FarmDown
    | CompetingSession
    | ClientIdStuck
    | UnendedDownload
    | SocketDrop
    | HalfOpen
    | GarbageFrame
    | Notice
    | News
)
_AnyFault = Annotated[Fault, Field(discriminator="fault")]
_ONE_FAULT: TypeAdapter[Fault] = TypeAdapter(_AnyFault)


class Scenario(BaseModel):
    """The faults of a gateway. ``seed`` decides every draw; without it the gateway's own does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    seed: int | None = None
    faults: tuple[_AnyFault, ...] = ()


class _CoreLoader(yaml.SafeLoader):
    """YAML 1.2's plain values: in 1.1 an unquoted 10:30 is the number 630, and ``no`` is false."""


_CoreLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"(?:~|null|)$", "~n\0"),
    ("bool", r"(?:true|false)$", "tf"),
    ("int", r"[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
):
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def load_scenario(path: Path) -> Scenario:
    """The scenario of a YAML file. Raises `GatewayError`, one line that says what is wrong and where."""
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, Loader=_CoreLoader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as reason:
        raise GatewayError(f"scenario {path} cannot be read ({reason}); give a YAML file") from None
    except RecursionError:
        raise GatewayError(f"scenario {path} is nested too deeply; see docs/reference/gateway-scenarios.md") from None
    except yaml.YAMLError as reason:
        mark = getattr(reason, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(reason, "problem", None) or "not YAML"
        raise GatewayError(f"scenario {path}{where}: {problem}; see docs/reference/gateway-scenarios.md") from None
    if not isinstance(content, dict):
        raise GatewayError(f"scenario {path}: it has no 'faults:' list; see docs/reference/gateway-scenarios.md")
    try:
        return Scenario.model_validate(content)
    except RecursionError:
        raise GatewayError(f"scenario {path} is nested too deeply; see docs/reference/gateway-scenarios.md") from None
    except ValidationError as reason:
        raise GatewayError(f"scenario {path}: {_first_mistake(reason)}") from None


def parse_fault(content: object) -> Fault:
    """One fault, as the control port takes it. Raises `GatewayError`."""
    try:
        return _ONE_FAULT.validate_python(content)
    except ValidationError as reason:
        raise GatewayError(f"fault: {_first_mistake(reason)}") from None


def _first_mistake(error: ValidationError) -> str:
    """``faults[2] error.code: Input should be ...``; position and kind of the fault, then the field."""
    first = error.errors(include_url=False)[0]
    parts = list(first["loc"])
    place = ""
    if parts[:1] == ["faults"] and len(parts) > 1:
        place = f"faults[{parts[1]}] "
        parts = parts[2:]
    field = ".".join(map(str, parts))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "union_tag_invalid":
        message = f"{first['ctx']['tag']!r} is no fault; there are {first['ctx']['expected_tags']}"
    elif first["type"] == "union_tag_not_found":
        message = "the line 'fault: ...' is missing"
    return f"{place}{field + ': ' if field else ''}{message}"
