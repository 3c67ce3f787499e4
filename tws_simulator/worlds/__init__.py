"""Markets that the gateway can show: their interface, what can be asked for, and the two kinds there are."""
