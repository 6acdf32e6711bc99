"""The kubectl plugin `kubectl reserved`: reads the API server and explains. It writes nothing but the
edits of one spec that are asked for with `--apply` (ADR 0035).

Reading (`connection`, `world`), frozen views (`view`, `why`) and pure rendering (`render_status`, `render_why`) are kept
apart, so that what a person sees can be tested as text. Never imports Kopf or the reconcilers.
"""
