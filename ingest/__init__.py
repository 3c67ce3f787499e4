"""From Interactive Brokers to rows: settings, sessions, universe, broker, capture, and the simulated gateway."""
