"""Which contracts, and which of their requests, a fault strikes. Pure and deterministic by seed."""

from datetime import date

from pydantic import Field, field_validator

from tws_simulator.faults.timing import When
from tws_simulator.worlds.instruments import Instrument, Option, Right, word


class Target(When):
    """Contracts by their terms; a condition that is not given fits all.

    ``share``: this part of the contracts that fit, always the same ones for a seed.
    """

    symbols: tuple[str, ...] = ()
    conids: tuple[int, ...] = ()
    instruments: tuple[str, ...] = Field(("option", "underlying"))
    rights: tuple[Right, ...] = ()
    expiries: tuple[date, ...] = ()
    strikes: tuple[float, float] | None = Field(None, description="lowest and highest, dollars")
    share: float = Field(1.0, ge=0, le=1)

    @field_validator("instruments")
    @classmethod
    def _known_instruments(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or set(value) - {"option", "underlying"}:
            raise ValueError("instruments are option and underlying")
        return value

    def fits(self, instrument: Instrument, seed: int) -> bool:
        """Whether `instrument` is struck; `seed` is the fault's own."""
        if self.conids and instrument.conid not in self.conids:
            return False
        if isinstance(instrument, Option):
            fitting = "option" in self.instruments and self._option_fits(instrument)
            symbol = instrument.underlying.symbol
        else:
            fitting = "underlying" in self.instruments and not (self.rights or self.expiries or self.strikes)
            symbol = instrument.symbol
        if not fitting or (self.symbols and symbol not in self.symbols):
            return False
        return self.share >= 1 or word(seed, "share", instrument.conid) < self.share * 2**64

    def _option_fits(self, option: Option) -> bool:
        series = option.series
        return (
            (not self.rights or option.right in self.rights)
            and (not self.expiries or series.expiry in self.expiries or series.last_trade_date in self.expiries)
            and (self.strikes is None or self.strikes[0] <= option.strike <= self.strikes[1])
        )
