"""Whether a slot fits its half-hour: estimated from limits, and measured on the user's own gateway.

Commands, reports and the doctor import all of it; of `ingest` only they do, and no step.
"""
