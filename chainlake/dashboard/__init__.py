"""One page about one lake: what was recorded, how complete it is, and the chains themselves. Reads only."""
