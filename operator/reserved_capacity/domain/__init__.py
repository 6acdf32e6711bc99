"""The rules of what we sell, as pure functions over frozen values.

Nothing here does I/O, reads a clock or draws a random number: `now` is an argument, and the same values always give
the same plan (behaviour.md, I7). Every plan carries its reasons; a refusal is data, not an exception.
"""
