"""Whether a slot fits its half-hour: estimated from limits, and measured on the user's own gateway."""
