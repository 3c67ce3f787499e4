"""XNYS sessions, their slots, and pipeline time. Pure but for the clocks.

Every package may import both modules, `tws_simulator` included; they import no other room of `ingest`.
"""
