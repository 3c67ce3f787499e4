"""The volatility surface: SSVI, which is free of static arbitrage (Gatheral and Jacquier, 2014). Pure.

Total variance at log-moneyness k = ln(strike / forward), given the total variance at the money theta:
``w = theta/2 * (1 + rho*phi*k + sqrt((phi*k + rho)^2 + 1 - rho^2))`` with ``phi = eta / sqrt(theta * (1 + theta))``.
No butterfly has a negative price as long as ``eta * (1 + |rho|) <= 2``; no calendar spread has, as long as theta grows.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def total_variance(theta: float | Floats, log_moneyness: Floats, rho: float, eta: float) -> Floats:
    """Implied variance times years. Raises ValueError for a surface that would allow arbitrage."""
    if not -1 < rho < 1 or not 0 < eta * (1 + abs(rho)) <= 2:
        raise ValueError(f"rho {rho} and eta {eta} give a surface with butterfly arbitrage")
    phi = eta / np.sqrt(theta * (1 + np.asarray(theta)))
    x = phi * log_moneyness
    return np.asarray(0.5 * theta * (1 + rho * x + np.sqrt((x + rho) ** 2 + 1 - rho**2)))
