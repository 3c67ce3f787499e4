"""Markets that the gateway can show: their interface, what can be asked for, and the two kinds there are.

The rest of the simulator imports `world` and `instruments`; `server` chooses between `synthetic` and `replay`.
"""
