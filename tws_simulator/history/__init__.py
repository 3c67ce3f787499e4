"""Historical data: what is asked for, the bars, and how often one may ask.

`requests.history` takes everything here; `pacing` and `queries` are also a part of the gateway's state.
"""
