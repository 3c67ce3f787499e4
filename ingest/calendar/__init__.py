"""XNYS sessions, their slots, and pipeline time. Pure but for the clocks; `tws_simulator` may import it as well."""
