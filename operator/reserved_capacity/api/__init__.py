"""Wire format: one pydantic model per kind, and the CRDs that are generated from them.

Nothing here talks to anything: dictionaries in, frozen models out, and the other way round.
"""
