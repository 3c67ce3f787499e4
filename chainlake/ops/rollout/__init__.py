"""The rollout in stages: from AAPL (stage 0) to the S&P 500 (stage 3), by gates that stored days must pass."""
