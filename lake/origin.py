"""What a lake is bound to, and what a broker's account gives: the kind of data."""

from typing import Literal

Origin = Literal["ibkr-live", "ibkr-paper", "simulated", "replay"]
