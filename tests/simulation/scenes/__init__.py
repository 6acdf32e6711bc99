"""Scenes in which one guard makes the difference (guards.py): with it nothing is wrong, without it somebody notices.

Each is a race of two operators, or of two keys of one, or a view that lags; played call by call (interleaving.py).
"""
