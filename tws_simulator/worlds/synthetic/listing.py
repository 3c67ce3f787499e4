"""Everything listed on one date, and how to find a contract by its id."""

from collections.abc import Iterable, Sequence
from datetime import date

import numpy as np

from tws_simulator.worlds.instruments import Option
from tws_simulator.worlds.synthetic.chain import SyntheticSeries, list_chain
from tws_simulator.worlds.synthetic.underlyings import ListedUnderlying


class Listing:
    """The chains of all underlyings on one date.

    A contract id is a hash of the contract's identity. Of two contracts that meet in one id, only the first
    in the order of underlying, expiry, class, right and strike is listed, and none that meets an underlying: an id
    never stands for two contracts on one date.
    """

    def __init__(self, day: date, underlyings: Iterable[ListedUnderlying]) -> None:
        self.day = day
        self._chains = {listed.conid: list_chain(listed, day) for listed in underlyings}
        self._series = [series for chain in self._chains.values() for series in chain]
        self._offsets = np.concatenate([[0], np.cumsum([series.conids.size for series in self._series])]).astype(
            np.int64
        )
        conids = (
            np.concatenate([series.conids.ravel() for series in self._series])
            if self._series
            else np.empty(0, np.int64)
        )
        self._order = np.argsort(conids, kind="stable")
        self._sorted = conids[self._order]
        met = np.concatenate([[False], self._sorted[1:] == self._sorted[:-1]])
        repeated = met | np.isin(self._sorted, [0, *self._chains])
        for place in self._order[repeated].tolist():
            series, offset = self._locate(place)
            series.conids.ravel()[offset] = 0
        self._order, self._sorted = self._order[~repeated], self._sorted[~repeated]

    def chain(self, conid: int) -> Sequence[SyntheticSeries]:
        """The series of the underlying with this id, by expiry and class."""
        return self._chains[conid]

    def by_conid(self, conid: int) -> Option | None:
        """The contract with this id, if it is listed."""
        position = int(np.searchsorted(self._sorted, conid))
        if position == len(self._sorted) or self._sorted[position] != conid:
            return None
        series, offset = self._locate(int(self._order[position]))
        return series.at(*divmod(offset, len(series.strikes)))

    def __len__(self) -> int:
        """How many contracts are listed."""
        return len(self._sorted)

    def _locate(self, place: int) -> tuple[SyntheticSeries, int]:
        number = int(np.searchsorted(self._offsets, place, side="right")) - 1
        return self._series[number], place - int(self._offsets[number])
