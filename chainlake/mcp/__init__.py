"""A lake for assistants: a read-only server of the Model Context Protocol, over the fenced catalog. Imports lake only.

`meanings` says what tables and columns mean, `questions` asks the lake in a confined process, `answers` bounds what
comes back, `tools` are the questions that an assistant can ask, `server` serves them.
"""
