"""The lake as analysts read it: views, macros, as-of, and frames. Reads only.

`connection` opens it.
"""
