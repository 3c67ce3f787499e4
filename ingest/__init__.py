"""From Interactive Brokers to raw rows: calendar, universe, settings, broker, discovery, capture, open interest.

A step takes a `context.StepContext` and returns a `runs.Run`. The day (`flows`) imports the steps and these two; its
operation (`chainlake`) imports settings, calendar, capacity and the broker as well. Nothing here imports either,
nor the simulated gateway.
"""
