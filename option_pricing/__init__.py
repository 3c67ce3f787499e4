"""Option values and greeks. Pure: arrays in, arrays out; imports nothing of Chainlake, and all of it may be imported.

Conventions of every function here, so that no caller has to guess:

- Prices, strikes and cash are dollars per share. Nothing knows of a multiplier or of contracts.
- Time is `years` to expiry, ACT/365 (`black_scholes.DAYS_PER_YEAR`). Instants and calendars are the caller's.
- `rate` and `dividend_yield` are continuously compounded, a year: 0.05 is 5 %.
- Volatility is annualised and a fraction: 0.25 is 25 %.
- Greeks are in IB's units: delta per dollar, gamma per dollar squared, vega per volatility point (1 %), theta per
  calendar day.
- Options are European, except in `early_exercise` and where `forwards` is told so; `call` is true for a call and false
  for a put.
- Arguments broadcast as numpy's do. What has no answer is NaN, in and out; nothing raises for a value.
"""
