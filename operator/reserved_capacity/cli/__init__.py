"""The kubectl plugin `kubectl reserved`: reads the API server, explains, and never writes.

Reading (`connection`, `world`), frozen views (`view`, `why`) and pure rendering (`render_status`, `render_why`) are kept
apart, so that what a person sees can be tested as text. Never imports Kopf or the reconcilers.
"""
