"""Option values and greeks. Pure: arrays in, arrays out; imports nothing of Chainlake."""
