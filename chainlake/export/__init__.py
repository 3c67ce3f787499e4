"""A lake in the formats of other programs. Imports lake only.

`folder` keeps what is exported apart from what is somebody else's, `lean` writes option universes of QuantConnect's
Lean.
"""
