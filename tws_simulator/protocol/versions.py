"""The protocol versions that this gateway can encode. From 201 on messages are protobuf, which it does not speak."""

LOWEST_VERSION, HIGHEST_VERSION = 157, 178
