"""The TWS wire protocol as a server speaks it: frames, messages, codes.

Every room of the simulator imports these modules; they import none of them but the instruments that they encode.
"""
