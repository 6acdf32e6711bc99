"""Rollouts: members move to another snapshot or profile, one step at a time (behaviour.md S1-S6; ADR 0030).

values.py says what goes in and what comes out, planning.py plans all rollouts of a pool, walk.py one of them.
"""
