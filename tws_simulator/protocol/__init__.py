"""The TWS wire protocol as a server speaks it: frames, messages, codes."""
